"""People's labels against a judge's, joined by id: how often, beyond chance, and where not. Pure.

Rows are A, tie or B on both sides; a judge's unreadable labels stand apart and are no
disagreement.
"""

from __future__ import annotations

from dataclasses import dataclass

import krippendorff
import numpy as np
import polars as pl
from statsmodels.stats.contingency_tables import mcnemar

from analysis.statistics import chance
from analysis.statistics.estimates import Estimate, Statistic, from_patterns, share

#: An AI confidence below which a disagreement is one that the judge itself was unsure of.
UNSURE = 0.2


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two labellers on the same pairs.

    Attributes:
        n: Pairs that both labelled readably.
        unreadable: Pairs whose AI label could not be read.
        table: Counts, rows human, columns AI, in the order A, tie, B.
        with_ties: Share of equal labels.
        decided: The same where neither is a tie.
        kappa: Cohen's; undefined where chance agreement is 1.
    """

    n: int
    unreadable: int
    table: tuple[tuple[int, int, int], ...]
    with_ties: Estimate
    decided: Estimate
    kappa: Estimate
    kappa_weighted: Estimate
    ac1: Estimate


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One pair on which they differ, and why as far as the data tell."""

    pair_id: str
    human: str
    ai: str
    category: str
    evidence: str


def agree(labels: pl.DataFrame, *, seed: int = 0) -> Agreement:
    """Compare two columns of labels.

    Args:
        labels: Columns human and ai (A, tie, B; ``-`` for an unreadable AI label), one row a pair.
        seed: Of the bootstrap intervals.
    """
    readable = labels.filter(pl.col("ai") != "-")
    scale = chance.SCALE
    rows = readable.group_by("human", "ai").len().iter_rows()
    counted = {(human, ai): n for human, ai, n in rows}
    cells = np.array([[counted.get((h, a), 0) for a in scale] for h in scale], dtype=np.float64)
    decided = readable.filter((pl.col("human") != "tie") & (pl.col("ai") != "tie"))
    n = readable.height

    def boot(statistic: Statistic) -> Estimate:
        return from_patterns(cells.reshape(9), chance.of_cells(statistic), n, seed=seed)

    return Agreement(
        n=n,
        unreadable=labels.height - n,
        table=tuple(tuple(int(value) for value in row) for row in cells),  # type: ignore[misc]
        with_ties=share(int(np.trace(cells)), n),
        decided=share(decided.filter(pl.col("human") == pl.col("ai")).height, decided.height),
        kappa=boot(chance.cohen_kappa),
        kappa_weighted=boot(chance.weighted_kappa),
        ac1=boot(chance.gwet_ac1),
    )


def alpha(votes: list[list[str | None]]) -> Estimate:
    """Krippendorff's alpha, nominal, of any number of raters with gaps.

    Args:
        votes: One list a pair, one place a rater; None where a rater gave none.
    """
    codes = {label: float(at) for at, label in enumerate(chance.SCALE)}
    table = np.array([[np.nan if v is None else codes[v] for v in row] for row in votes]).T
    known = table[~np.isnan(table)]
    if len(np.unique(known)) < 2:
        return Estimate(None, n=len(votes))
    value = krippendorff.alpha(reliability_data=table, level_of_measurement="nominal")
    return Estimate(float(value), n=len(votes))


def same_items(first: pl.Series, second: pl.Series, human: pl.Series) -> float | None:
    """McNemar's exact p that both are equally often right; None where they never differ."""
    right = (first == human, second == human)
    only_first = int((right[0] & ~right[1]).sum())
    only_second = int((~right[0] & right[1]).sum())
    if only_first + only_second == 0:
        return None
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue)


def consensus(votes: list[list[str | None]], rounds: int = 100) -> list[dict[str, float]]:
    """Probability of each label for each pair, raters weighted by how they err.

    Expectation maximisation with one confusion matrix a rater, smoothed by a hundredth of a vote.
    Source: Dawid and Skene 1979, Applied Statistics 28.
    """
    scale = chance.SCALE
    given = np.zeros((len(votes), max(map(len, votes)), 3))
    for pair, row in enumerate(votes):
        for rater, vote in enumerate(row):
            if vote is not None:
                given[pair, rater, scale.index(vote)] = 1.0
    belief = given.sum(1) + 1e-9
    belief /= belief.sum(1, keepdims=True)
    for _ in range(rounds):
        before = belief
        prior = belief.mean(0)
        confusion = np.einsum("pt,prv->rtv", belief, given) + 0.01
        confusion /= confusion.sum(-1, keepdims=True)
        logs = np.log(prior + 1e-12) + np.einsum("prv,rtv->pt", given, np.log(confusion))
        belief = np.exp(logs - logs.max(1, keepdims=True))
        belief /= belief.sum(1, keepdims=True)
        if np.abs(belief - before).max() < 1e-9:
            break
    return [dict(zip(scale, map(float, row), strict=True)) for row in belief]


def disagreements(labels: pl.DataFrame) -> list[Disagreement]:
    """Pairs on which both were readable and differ, each with the category that its data show.

    Args:
        labels: Columns pair_id, human, ai and, where known, confidence, consistent, annotators.
    """
    differ = labels.filter((pl.col("ai") != "-") & (pl.col("human") != pl.col("ai")))
    return [Disagreement(r["pair_id"], r["human"], r["ai"], *_why(r)) for r in differ.to_dicts()]


def _why(row: dict[str, object]) -> tuple[str, str]:
    votes = row.get("annotators")
    if isinstance(votes, list) and len(set(votes)) > 1:
        return "subjective", f"people differ themselves: {', '.join(map(str, votes))}"
    if row.get("consistent") is False:
        return "position", "the judge's two orders prefer different responses"
    confidence = row.get("confidence")
    if isinstance(confidence, float) and confidence < UNSURE:
        return "judge unsure", f"confidence {confidence:.2f}"
    if row["human"] == "tie":
        return "judge decides, people do not", "people called it a tie"
    if row["ai"] == "tie":
        return "people decide, judge does not", "the judge called it a tie"
    return "different criteria", "both are decided and disagree"
