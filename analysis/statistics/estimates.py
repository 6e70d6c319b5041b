"""An estimate with its interval: shares, and whatever can be computed from counted patterns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

Counts = NDArray[np.float64]
Statistic = Callable[[Counts], Counts]

LEVEL = 0.95
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its 95 % interval and what it was computed from.

    Attributes:
        value: None where it is undefined (nothing was counted, chance agreement is 1).
        low: Lower end; None where there is no interval.
        high: Upper end.
        n: Observations behind it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def share(successes: float, n: int) -> Estimate:
    """A share with its Wilson interval; undefined of nothing. Half a success is a tie."""
    return _proportion(successes, n, "wilson")


def exact_share(successes: int, n: int) -> Estimate:
    """A share with its exact (Clopper-Pearson) interval."""
    return _proportion(successes, n, "beta")


def wilson_interval(mean: float, size: float, reach: float) -> tuple[float, float]:
    """Both ends for a share that tells as much as one of ``size`` independent observations.

    Source: Wilson 1927, JASA 22.

    Args:
        mean: The share, in [0, 1].
        size: Effective number of observations, above 0; need not be whole.
        reach: Standard errors to either side, 1.96 where the error is known.
    """
    middle = (mean + reach**2 / (2 * size)) / (1 + reach**2 / size)
    spread = math.sqrt(mean * (1 - mean) / size + (reach / (2 * size)) ** 2)
    half = reach / (1 + reach**2 / size) * spread
    # Rounding may leave an end a hair's breadth outside.
    return max(0.0, middle - half), min(1.0, middle + half)


def _proportion(successes: float, n: int, method: str) -> Estimate:
    if n == 0:
        return Estimate(None)
    low, high = proportion_confint(successes, n, alpha=1 - LEVEL, method=method)
    return Estimate(successes / n, float(low), float(high), n)


def from_patterns(
    counts: Counts, statistic: Statistic, n: int, *, seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """A statistic of counted patterns with its percentile bootstrap interval.

    Units that show the same pattern are exchangeable, so that drawing units with replacement is
    drawing the patterns' counts from a multinomial: the same interval at any number of units.

    Args:
        counts: Units by pattern, ``[patterns]``.
        statistic: From ``[draws, patterns]`` to ``[draws]``; NaN where it is undefined.
        n: Observations to report beside it.
        seed: Of the bootstrap.
        draws: Bootstrap samples.
    """
    counts = np.asarray(counts, dtype=np.float64)
    value = float(statistic(counts[None])[0]) if counts.sum() else math.nan
    if math.isnan(value):
        return Estimate(None, n=n)
    units = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(units, counts / units, size=draws)
    return Estimate(value, *percentile_interval(statistic(drawn.astype(np.float64))), n)


def percentile_interval(values: Counts) -> tuple[float | None, float | None]:
    """Both ends of the interval of bootstrapped values, those undefined left out; None of none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None, None
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def ratio(over: Counts, under: Counts) -> Statistic:
    """The statistic sum(counts * over) / sum(counts * under); NaN where nothing is under."""

    def compute(counts: Counts) -> Counts:
        bottom = counts @ under
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(bottom > 0, (counts @ over) / bottom, math.nan)

    return compute
