"""Two labellers on the same pairs: which of them is right more often, and is it chance. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar

from analysis.statistics.estimates import LEVEL, Estimate, share


@dataclass(frozen=True, slots=True)
class SamePairs:
    """Of pairs that both labelled readably and people labelled; a tie is a label like others.

    Attributes:
        only_first: Pairs on which the first alone is right; ``only_second`` likewise.
        difference: Accuracy of the first minus the second's.
        p: McNemar's, exact: of so uneven a split where both are equally often right; None where
            they are right on the same pairs.
    """

    n: int
    first: Estimate
    second: Estimate
    only_first: int
    only_second: int
    difference: Estimate
    p: float | None


def same_pairs(first: pl.Series, second: pl.Series, human: pl.Series) -> SamePairs:
    """Compare two labellers.

    Args:
        first: Labels A, tie, B; ``-`` where one could not be read.
        second: Of the same pairs.
        human: Of the same pairs.
    """
    readable = (first != "-") & (second != "-")
    right = ((first == human).filter(readable), (second == human).filter(readable))
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    n = int(readable.sum())
    return SamePairs(
        n=n,
        first=share(int(right[0].sum()), n),
        second=share(int(right[1].sum()), n),
        only_first=only_first,
        only_second=only_second,
        difference=paired_difference(only_first, only_second, n),
        p=_exact(only_first, only_second),
    )


def paired_difference(only_first: int, only_second: int, n: int) -> Estimate:
    """Difference of two shares of the same units, with its interval.

    Half a unit is added to each of the four cells.
    Source: Agresti and Min 2005, Statistics in Medicine 24.
    """
    if n == 0:
        return Estimate(None)
    b, c, whole = only_first + 0.5, only_second + 0.5, n + 2
    middle = (b - c) / whole
    error = math.sqrt(b + c - (b - c) ** 2 / whole) / whole
    reach = float(norm.ppf((1 + LEVEL) / 2)) * error
    low, high = max(-1.0, middle - reach), min(1.0, middle + reach)
    return Estimate((only_first - only_second) / n, low, high, n)


def _exact(only_first: int, only_second: int) -> float | None:
    if only_first + only_second == 0:
        return None
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue)
