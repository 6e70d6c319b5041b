"""Means and shares of rows that come in clusters, as labels of one prompt do.

Rows of one cluster resemble each other, so that the cluster is what an interval is drawn from.
"""

from __future__ import annotations

import math

import polars as pl
from scipy.stats import t as student

from analysis.statistics.estimates import LEVEL, Estimate, from_patterns, ratio, share

#: Clusters below which a bootstrap over them is too narrow to be shown.
LEAST_CLUSTERS = 10


def clustered_share(rows: pl.DataFrame, value: str, cluster: str, *, seed: int = 0) -> Estimate:
    """Mean of a column in [0, 1] with a percentile bootstrap over clusters; undefined of nothing.

    Of few clusters, and where all say the same, a bootstrap draws too little else: the interval is
    then Wilson's, with each cluster as one observation.

    Args:
        rows: One row an observation; no nulls in the two columns.
        value: Name of the column, e.g. wins with 0.5 for ties.
        cluster: Name of the column whose equal values make a cluster.
    """
    if rows.is_empty():
        return Estimate(None)
    sums = rows.group_by(cluster).agg(over=pl.col(value).cast(pl.Float64).sum(), under=pl.len())
    patterns = sums.group_by("over", "under").agg(clusters=pl.len()).sort("over", "under")
    clusters = int(patterns["clusters"].sum())
    if clusters < LEAST_CLUSTERS or (patterns["over"] / patterns["under"]).n_unique() == 1:
        mean = float(sums["over"].sum()) / rows.height
        few = share(mean * clusters, clusters)
        return Estimate(mean, few.low, few.high, rows.height)
    statistic = ratio(patterns["over"].to_numpy(), patterns["under"].cast(pl.Float64).to_numpy())
    return from_patterns(patterns["clusters"].to_numpy(), statistic, rows.height, seed=seed)


def clustered_mean(rows: pl.DataFrame, value: str, cluster: str) -> Estimate:
    """Mean of any column with Student's interval from the spread between clusters.

    The standard error is that of a ratio of cluster sums, ``sqrt(G / (G - 1) * sum((y_g - n_g *
    mean)^2)) / n`` over G clusters (Source: Cochran 1977, Sampling Techniques, section 9A.1). No
    interval where there are fewer than two clusters or no spread to measure.
    """
    if rows.is_empty():
        return Estimate(None)
    sums = rows.group_by(cluster).agg(total=pl.col(value).sort().sum(), n=pl.len()).sort(cluster)
    n, clusters = rows.height, sums.height
    mean = float(sums["total"].sum()) / n
    residuals = sums["total"] - sums["n"] * mean
    squares = float((residuals * residuals).sum())
    if clusters < 2 or squares <= 1e-18 * n:
        return Estimate(mean, n=n)
    error = math.sqrt(clusters / (clusters - 1) * squares) / n
    reach = float(student.ppf((1 + LEVEL) / 2, clusters - 1)) * error
    return Estimate(mean, mean - reach, mean + reach, n)
