"""Principles whose severities go together so closely that one of them adds nothing. Pure.

Correlation shows that a critic answers two questions alike, not that the questions are the same:
a weak critic answers all of them alike.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning, NearConstantInputWarning, pearsonr, spearmanr

#: Pearson's and Spearman's correlation from which two principles are called near-duplicates.
DUPLICATE_ABOVE = 0.95
#: Critiques that must have judged both before their correlation is believed.
LEAST_COMMON = 30

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Twins:
    """Two principles and how their severities go together over ``common`` critiques."""

    first: str
    second: str
    common: int
    pearson: float
    spearman: float


@dataclass(frozen=True, slots=True)
class TwinSearch:
    """What became of the search.

    Attributes:
        found: Near-duplicates, closest first.
        compared: Pairs of principles with enough common critiques and any spread.
        too_few: Pairs with fewer than ``least_common``.
        constant: Pairs one of which always has the same severity: correlation is undefined.
        most_common: Most critiques that any pair shares.
        threshold: Both correlations of ``found`` are at or above it.
    """

    found: tuple[Twins, ...]
    compared: int
    too_few: int
    constant: int
    most_common: int
    threshold: float
    least_common: int


def find_twins(
    critiques: pl.DataFrame,
    *,
    threshold: float = DUPLICATE_ABOVE,
    least_common: int = LEAST_COMMON,
) -> TwinSearch:
    """Search all pairs of principles.

    Args:
        critiques: As in ``frames.CRITIQUES``.
        threshold: Least correlation, Pearson's and Spearman's, of a near-duplicate.
        least_common: Least common critiques.
    """
    names, table = _table(critiques)
    pairs = [
        (names[one], names[two], *_compare(table[:, one], table[:, two], least_common))
        for one, two in combinations(range(len(names)), 2)
    ]
    enough = [values for _, _, common, values in pairs if common >= least_common]
    found = [
        Twins(first, second, common, *values)
        for first, second, common, values in pairs
        if values and min(values) >= threshold
    ]
    return TwinSearch(
        found=tuple(sorted(found, key=lambda each: (-each.pearson, each.first, each.second))),
        compared=sum(values is not None for values in enough),
        too_few=len(pairs) - len(enough),
        constant=sum(values is None for values in enough),
        most_common=max((common for _, _, common, _ in pairs), default=0),
        threshold=threshold,
        least_common=least_common,
    )


def _compare(one: Values, two: Values, least: int) -> tuple[int, tuple[float, float] | None]:
    """Common critiques, and both correlations where there are enough of them and any spread."""
    both = ~np.isnan(one) & ~np.isnan(two)
    common = int(both.sum())
    return common, _correlations(one[both], two[both]) if common >= least else None


def _table(critiques: pl.DataFrame) -> tuple[list[str], Values]:
    """Severities, one row a critique, one column a principle, NaN where it was not judged."""
    names = sorted(critiques["principle"].unique())
    readable = critiques.filter(pl.col("outcome") == "ok").drop_nulls("severity")
    # A critique of one principle, as a sampled round's, compares nothing.
    shared = readable.filter(pl.len().over("job_id", "round") > 1)
    if shared.is_empty():
        return names, np.full((0, len(names)), np.nan)
    # Sums of rounded numbers depend on their order, so that rows need one.
    ordered = shared.sort("job_id", "round")
    wide = ordered.pivot("principle", index=["job_id", "round"], values="severity")
    columns = [
        wide[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        if name in wide.columns
        else np.full(wide.height, np.nan)
        for name in names
    ]
    return names, np.column_stack(columns)


def _correlations(one: Values, two: Values) -> tuple[float, float] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        warnings.simplefilter("ignore", NearConstantInputWarning)
        values = (float(pearsonr(one, two).statistic), float(spearmanr(one, two).statistic))
    return None if any(np.isnan(values)) else values
