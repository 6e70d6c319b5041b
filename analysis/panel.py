"""Several judges as one: their votes, how alike they err, and what voting gains. Pure.

A panel is worth as many judges as it would take, erring independently, to be as sure. Labels are A,
tie and B; what a judge left unreadable (``-``) is no vote and no error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.agreement import consensus
from analysis.same_pairs import same_pairs
from analysis.statistics.chance import SCALE
from analysis.statistics.estimates import (
    DRAWS,
    Estimate,
    from_patterns,
    percentile_interval,
    ratio,
    share,
)

Values = NDArray[np.float64]
#: Ways to make one label of many.
VOTES = ("majority", "mean", "consensus")


@dataclass(frozen=True, slots=True)
class Member:
    """One labeller against people.

    Attributes:
        name: The judge.
        accuracy: Its label is people's, ties being labels like others; readable labels only.
        decided: The same where neither is a tie.
        unreadable: Labelled pairs without a readable label of it.
    """

    name: str
    accuracy: Estimate
    decided: Estimate
    unreadable: int


@dataclass(frozen=True, slots=True)
class Vote:
    """A way of voting against people and against the best single member.

    Attributes:
        gain: Accuracy minus the best member's on pairs that both labelled, bootstrapped by pair.
            That member was picked on these pairs, so the gain is rather too small than too large.
        p_gain: McNemar's exact p that both are equally often right; None where they never differ.
    """

    labeller: Member
    gain: Estimate
    p_gain: float | None


@dataclass(frozen=True, slots=True)
class Correlations:
    """How alike the members err.

    Attributes:
        phi: Correlation of error indicators, ``[members, members]``; None where one of the two
            always or never errs.
        n: Pairs behind each.
        mean_phi: Over all pairs of members for which it is defined.
        effective_members: n / (1 + (n - 1) mean phi); None where that is not above 0.
    """

    phi: tuple[tuple[float | None, ...], ...]
    n: tuple[tuple[int, ...], ...]
    mean_phi: Estimate
    effective_members: Estimate


@dataclass(frozen=True, slots=True)
class Panel:
    """What a panel of judges is worth on ``n`` pairs with a human label."""

    n: int
    members: tuple[Member, ...]
    best: str
    votes: tuple[Vote, ...]
    correlations: Correlations


def voted(labels: pl.DataFrame, p_a: pl.DataFrame, tie_margin: float = 0.0) -> pl.DataFrame:
    """The panel's labels, one column for each of VOTES.

    ``majority``: the label with most votes, a tie where no single one has most. ``mean``: by the
    mean of the members' p(A). ``consensus``: the likeliest by Dawid and Skene, members weighted by
    how they err against each other.

    Args:
        labels: One column a member: A, tie, B, or ``-`` where it has none; one row a pair.
        p_a: The same of probabilities of A; null where unknown.
        tie_margin: |mean p(A) - 0.5| at or below which ``mean`` is a tie.
    """
    votes = [[None if v == "-" else v for v in row] for row in labels.iter_rows()]
    means = p_a.select(mean=pl.mean_horizontal(pl.all()))["mean"]
    return pl.DataFrame(
        {
            "majority": [_most_frequent(row) for row in votes],
            "mean": [_by_mean(mean, tie_margin) for mean in means],
            "consensus": _by_consensus(votes),
        },
        schema=dict.fromkeys(VOTES, pl.String),
    )


def _most_frequent(votes: Sequence[str | None]) -> str:
    cast = [vote for vote in votes if vote is not None]
    counts = sorted(((cast.count(label), label) for label in set(cast)), reverse=True)
    if not counts:
        return "-"
    return "tie" if len(counts) > 1 and counts[0][0] == counts[1][0] else counts[0][1]


def _by_mean(mean: float | None, tie_margin: float) -> str:
    if mean is None:
        return "-"
    # Means of many fractions miss an even split by rounding alone.
    if abs(mean - 0.5) <= max(tie_margin, 1e-12):
        return "tie"
    return "A" if mean > 0.5 else "B"


def _by_consensus(votes: list[list[str | None]]) -> list[str]:
    beliefs = consensus(votes)
    likeliest = [
        "tie" if abs(b["A"] - b["B"]) < 1e-9 else max(SCALE, key=lambda label: b[label])
        for b in beliefs
    ]
    return [best if any(row) else "-" for best, row in zip(likeliest, votes, strict=True)]


def measure(labels: pl.DataFrame, votes: pl.DataFrame, human: pl.Series, seed: int = 0) -> Panel:
    """Members and votes against people, and the members' errors against each other.

    Args:
        labels: As in ``voted``, of two members or more; pairs with a human label only.
        votes: As ``voted`` makes them, same rows.
        human: A, tie or B, same rows.
        seed: Of the bootstrap intervals.
    """
    members = [_member(name, labels[name], human) for name in labels.columns]
    best = min(members, key=lambda each: (-(each.accuracy.value or 0.0), each.name))
    return Panel(
        n=len(human),
        members=tuple(members),
        best=best.name,
        votes=tuple(_vote(votes[name], labels[best.name], human, seed) for name in VOTES),
        correlations=correlations(_errors(labels, human), seed),
    )


def _member(name: str, labels: pl.Series, human: pl.Series) -> Member:
    known = labels != "-"
    decided = known & (labels != "tie") & (human != "tie")
    right = labels == human
    return Member(
        name,
        share(int((right & known).sum()), int(known.sum())),
        share(int((right & decided).sum()), int(decided.sum())),
        int((~known).sum()),
    )


def _vote(labels: pl.Series, best: pl.Series, human: pl.Series, seed: int) -> Vote:
    both = (labels != "-") & (best != "-")
    mine, theirs, people = labels.filter(both), best.filter(both), human.filter(both)
    right, other = mine == people, theirs == people
    only = (int((right & ~other).sum()), int((~right & other).sum()))
    counts = np.array([*only, int(both.sum()) - sum(only)], dtype=np.float64)
    gain = ratio(np.array([1.0, -1.0, 0.0]), np.ones(3))
    return Vote(
        _member(labels.name, labels, human),
        from_patterns(counts, gain, int(both.sum()), seed=seed),
        same_pairs(mine, theirs, people).p,
    )


def _errors(labels: pl.DataFrame, human: pl.Series) -> Values:
    """1 for an error, 0 for none, NaN for no readable label, ``[pairs, members]``."""
    columns = []
    for name in labels.columns:
        wrong = (labels[name] != human).to_numpy().astype(np.float64)
        columns.append(np.where((labels[name] == "-").to_numpy(), math.nan, wrong))
    return np.column_stack(columns)


def correlations(errors: Values, seed: int = 0, draws: int = DRAWS) -> Correlations:
    """How alike members err; intervals by bootstrap over pairs.

    Source of the effective number: Kish 1965, Survey Sampling, design effect of equally correlated
    observations.

    Args:
        errors: 1, 0, or NaN for no label, ``[pairs, members]``.
        seed: Of the bootstrap.
        draws: Bootstrap samples.
    """
    size = errors.shape[1]
    phi, n = _phi(errors)
    generator = np.random.default_rng(seed)
    drawn = [
        _mean_off_diagonal(_phi(errors[generator.integers(len(errors), size=len(errors))])[0])
        for _ in range(draws if len(errors) else 0)
    ]
    mean = _mean_off_diagonal(phi)
    return Correlations(
        phi=tuple(tuple(None if math.isnan(v) else float(v) for v in row) for row in phi),
        n=tuple(tuple(int(v) for v in row) for row in n),
        mean_phi=_estimate(mean, drawn, len(errors)),
        effective_members=_estimate(
            _effective(mean, size), [_effective(each, size) for each in drawn], len(errors)
        ),
    )


def _phi(errors: Values) -> tuple[Values, Values]:
    """Correlation and count of each two columns on the rows that both have, ``[members] * 2``."""
    known = (~np.isnan(errors)).astype(np.float64)
    wrong = np.nan_to_num(errors)
    n, both, first = known.T @ known, wrong.T @ wrong, wrong.T @ known
    spread = n * first - first**2
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = (n * both - first * first.T) / np.sqrt(spread * spread.T)
    return np.where(spread * spread.T > 0, phi, math.nan), n


def _mean_off_diagonal(phi: Values) -> float:
    above = phi[np.triu_indices(len(phi), 1)]
    known = above[~np.isnan(above)]
    return float(known.mean()) if len(known) else math.nan


def _effective(mean_phi: float, members: int) -> float:
    below = 1 + (members - 1) * mean_phi
    return members / below if below > 0 else math.nan


def _estimate(value: float, drawn: Sequence[float], n: int) -> Estimate:
    if math.isnan(value):
        return Estimate(None, n=n)
    return Estimate(value, *percentile_interval(np.array(drawn)), n)
