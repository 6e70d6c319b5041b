"""A total foretold from a sample: by hand, and how often it is right on skewed costs."""

import math

import numpy as np
import pytest

from analysis.statistics.totals import foretell_total

N = 300
PREVIEW = 20
TIMES = 1000


def coverage(costs: np.ndarray, seed: int) -> float:
    """Share of previews of 20 of all jobs whose interval holds the total."""
    generator = np.random.default_rng(seed)
    inside = 0
    for _ in range(TIMES):
        found = foretell_total(generator.choice(costs, PREVIEW, replace=False), N, draws=300)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= costs.sum() <= found.high
    return inside / TIMES


def test_two_values_by_hand() -> None:
    found = foretell_total(np.array([3.0, 1.0]), 10)
    # Every resample that varies has the sample's mean, so Student's t (12.706 at 1 degree of
    # freedom) sets the distance: 12.706 * sqrt(2) * sqrt(1/2 + 1/10) for one unit.
    assert found.value == pytest.approx(20)
    assert found.high == pytest.approx(20 + 10 * 12.7062 * math.sqrt(2 * 0.6), rel=1e-4)
    assert found.low == 0.0
    assert found.n == 2


def test_skewed_values_reach_further_up_than_down() -> None:
    values = np.array([1.0] * 15 + [2.0, 3.0, 4.0, 6.0, 20.0])
    found = foretell_total(values, 100)
    assert found.high - found.value > 1.5 * (found.value - found.low)


def test_order_changes_nothing_and_equal_values_have_no_interval() -> None:
    values = np.random.default_rng(1).lognormal(size=PREVIEW)
    assert foretell_total(values, N) == foretell_total(values[::-1], N)
    assert foretell_total(np.full(PREVIEW, 0.1), N).interval is None
    assert foretell_total(np.zeros(PREVIEW), N).value == 0
    with pytest.raises(ValueError, match="1 values"):
        foretell_total(np.ones(1), N)


def test_a_95_percent_interval_holds_the_total_of_skewed_costs() -> None:
    generator = np.random.default_rng(5)
    # Three jobs in four stop after one critique; the others cost up to ten times as much.
    loops = np.where(generator.uniform(size=N) < 0.75, 1.0, generator.lognormal(1.4, 0.5, N))
    loops *= generator.lognormal(0, 0.2, N)
    assert 0.90 <= coverage(loops, 6) <= 0.98


@pytest.mark.parametrize("sigma", [0.6, 1.0])
def test_and_of_a_heavy_tail(sigma: float) -> None:
    costs = np.random.default_rng(7).lognormal(0, sigma, N)
    assert 0.90 <= coverage(costs, 8) <= 0.98
