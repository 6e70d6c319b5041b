"""What moves a judge besides what people value: position, length and style. Pure.

A preference for long answers is no bias where people share it: what counts is the difference of
the judge's coefficient and people's on the same pairs. Without human labels there is a preference
and nothing to call it a bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from analysis.statistics.estimates import LEVEL, Estimate, exact_share
from analysis.statistics.logistic import Coefficient, fit
from analysis.text_features import DIMENSIONS, features

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DimensionBias:
    """One dimension.

    Attributes:
        judge: The judge's coefficient: log-odds for A per standard deviation of A's lead.
        people: People's, on the same pairs; None without human labels.
        difference: Judge minus people; None likewise.
        p_holm: Corrected over the dimensions: of the difference, or of the judge's own.
        is_flagged: p_holm below 0.05.
    """

    name: str
    judge: Coefficient
    people: Coefficient | None
    difference: Coefficient | None
    p_holm: float
    is_flagged: bool


@dataclass(frozen=True, slots=True)
class PositionBias:
    """Of single verdicts.

    Attributes:
        first_share: Decided verdicts for the response shown first, exact interval.
        flip_rate: Pairs, readable in both orders, whose verdict changes with the order.
        flips_to_first: Of these, the share in which each time the first shown won.
    """

    first_share: Estimate
    flip_rate: Estimate
    flips_to_first: Estimate


@dataclass(frozen=True, slots=True)
class BiasReport:
    """All dimensions of one judge; ``n`` pairs, ``with_people`` of them with a human label.

    ``position_term`` and the estimates of ``position`` are None where no order was shown.
    """

    n: int
    with_people: int
    position: PositionBias
    position_term: Coefficient | None
    dimensions: tuple[DimensionBias, ...]


def feature_differences(texts: Sequence[tuple[str, str]]) -> Values:
    """Features of A minus those of B, standardised over the pairs, ``[pairs, dimensions]``."""
    leads = np.array([np.subtract(features(a), features(b)) for a, b in texts], dtype=np.float64)
    spread = leads.std(0)
    # Not centred: a pair without a difference must stay at 0, there being no intercept.
    return np.asarray(leads / np.where(spread > 0, spread, 1.0))


def measure(paired: pl.DataFrame, leads: Values) -> BiasReport:
    """The biases of one judge.

    Args:
        paired: Columns human (null without one), v_ab, v_ba (A, tie, B, ``-``) and no_order (both
            hold one verdict that knew no order), one row a pair.
        leads: As ``feature_differences`` makes them, same rows.
    """
    human = paired["human"].to_list()
    alone = paired["no_order"].to_list()
    both = zip(paired["v_ab"].to_list(), paired["v_ba"].to_list(), alone, strict=True)
    verdicts = [(ab, "-" if once else ba) for ab, ba, once in both]
    judged = [(row, at, v) for row, both in enumerate(verdicts) for at, v in enumerate(both)]
    judged = [(row, at, v) for row, at, v in judged if v != "-"]
    rows = np.array([row for row, _, _ in judged])
    position = np.array([0.0 if alone[row] else 1.0 - 2 * at for row, at, _ in judged])
    outcome = np.array([_value(v) for _, _, v in judged])
    labelled = np.array([row for row, label in enumerate(human) if label is not None], dtype=int)
    own = fit(np.column_stack([leads[rows], position]), outcome, rows)
    people, difference = _against_people(leads, rows, position, outcome, labelled, human)
    tested = difference or own[:-1]
    flagged, corrected, *_ = multipletests([c.p for c in tested], alpha=1 - LEVEL, method="holm")
    return BiasReport(
        n=paired.height,
        with_people=len(labelled),
        position=_position([v for v, once in zip(verdicts, alone, strict=True) if not once]),
        position_term=None if all(alone) else own[-1],
        dimensions=tuple(
            DimensionBias(
                name,
                own[at],
                people[at] if people else None,
                difference[at] if difference else None,
                float(corrected[at]),
                bool(flagged[at]),
            )
            for at, name in enumerate(DIMENSIONS)
        ),
    )


def _against_people(
    leads: Values,
    rows: NDArray[np.int64],
    position: Values,
    outcome: Values,
    labelled: NDArray[np.int64],
    human: list[str | None],
) -> tuple[list[Coefficient] | None, list[Coefficient] | None]:
    """People's coefficients and the judge's differences, in one fit over the same pairs."""
    if not len(labelled):
        return None, None
    known = np.isin(rows, labelled)
    theirs = leads[labelled]
    mine = leads[rows[known]]
    terms = np.vstack(
        [
            np.column_stack([theirs, np.zeros((len(theirs), theirs.shape[1] + 1))]),
            np.column_stack([mine, mine, position[known]]),
        ]
    )
    said = np.array([_value(human[row]) for row in labelled])
    outcomes = np.concatenate([said, outcome[known]])
    found = fit(terms, outcomes, np.concatenate([labelled, rows[known]]))
    count = theirs.shape[1]
    return found[:count], found[count : 2 * count]


def _value(label: str | None) -> float:
    return {"A": 1.0, "B": 0.0}.get(label or "", 0.5)


def _position(verdicts: list[tuple[str, str]]) -> PositionBias:
    decided = [(v, "AB"[at]) for both in verdicts for at, v in enumerate(both) if v in ("A", "B")]
    readable = [both for both in verdicts if "-" not in both]
    flips = [both for both in readable if both[0] != both[1]]
    strict = [both for both in flips if "tie" not in both]
    return PositionBias(
        exact_share(sum(v == first for v, first in decided), len(decided)),
        exact_share(len(flips), len(readable)),
        exact_share(sum(both == ("A", "B") for both in strict), len(strict)),
    )
