"""Statistics against values worked out by hand and against independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import cohen_kappa_score

from analysis.statistics.calibration import calibration
from analysis.statistics.chance import SCALE, agreement, cohen_kappa, gwet_ac1
from analysis.statistics.estimates import exact_share, from_patterns, ratio, share


def table(a_a: int, a_b: int, b_a: int, b_b: int) -> np.ndarray:
    cells = np.zeros((3, 3))
    cells[0, 0], cells[0, 2], cells[2, 0], cells[2, 2] = a_a, a_b, b_a, b_b
    return cells


def test_wilson_by_its_formula() -> None:
    found = share(71, 100)
    z = 1.959963984540054
    centre = (0.71 + z * z / 200) / (1 + z * z / 100)
    reach = z / (1 + z * z / 100) * math.sqrt(0.71 * 0.29 / 100 + z * z / 40_000)
    assert found.interval == pytest.approx((centre - reach, centre + reach))
    assert (found.value, found.n) == (0.71, 100)
    assert share(0, 0).value is None
    assert share(5, 5).high == pytest.approx(1.0)


def test_the_exact_interval_by_the_beta_distribution() -> None:
    found = exact_share(8, 20)
    assert found.interval == pytest.approx((beta.ppf(0.025, 8, 13), beta.ppf(0.975, 9, 12)))


def test_kappa_by_hand() -> None:
    # Observed 35 of 50; expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa = (0.7 - 0.5) / 0.5.
    cells = table(20, 5, 10, 15)
    assert agreement(cells) == pytest.approx(0.7)
    assert cohen_kappa(cells) == pytest.approx(0.4)
    # q(A) = (25 + 30) / 100 = 0.55; chance = 2 * 0.55 * 0.45 = 0.495.
    assert gwet_ac1(cells) == pytest.approx((0.7 - 0.495) / 0.505)


def test_kappa_is_undefined_where_chance_agrees_always() -> None:
    assert math.isnan(cohen_kappa(table(10, 0, 0, 0)))
    assert gwet_ac1(table(10, 0, 0, 0)) == pytest.approx(1.0)


@given(st.lists(st.tuples(st.sampled_from(SCALE), st.sampled_from(SCALE)), min_size=2))
def test_kappa_equals_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    cells = np.zeros((3, 3))
    for first, second in pairs:
        cells[SCALE.index(first), SCALE.index(second)] += 1
    first, second = zip(*pairs, strict=True)
    for weighted in (False, True):
        ours = float(cohen_kappa(cells, weighted=weighted))
        if math.isnan(ours):
            assert len({*first, *second}) == 1
            continue
        weights = "linear" if weighted else None
        theirs = cohen_kappa_score(first, second, labels=list(SCALE), weights=weights)
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_bootstrap_of_patterns_is_one_of_units() -> None:
    """200 units of three patterns that contribute 2, 1 and 0 of 2."""
    counts, over, under = np.array([80.0, 70.0, 50.0]), np.array([2.0, 1, 0]), np.full(3, 2.0)
    found = from_patterns(counts, ratio(over, under), 400, seed=1)
    units = np.repeat([1.0, 0.5, 0.0], [80, 70, 50])
    generator = np.random.default_rng(2)
    drawn = generator.choice(units, (4000, 200)).mean(1)
    assert found.value == pytest.approx(units.mean())
    assert found.interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.012)


def test_a_statistic_of_nothing_is_undefined() -> None:
    empty = from_patterns(np.zeros(2), ratio(np.ones(2), np.ones(2)), 0)
    assert (empty.value, empty.interval) == (None, None)


def test_calibration_by_hand() -> None:
    said = np.array([0.1] * 10 + [0.9] * 10)
    true = np.array([0.0] * 8 + [1.0] * 2 + [1.0] * 9 + [0.0])
    found = calibration(said, true)
    assert found is not None
    # Bins: said 0.1, true 0.2; said 0.9, true 0.9.
    assert found.ece == pytest.approx(0.05)
    assert [b.n for b in found.bins] == [10, 10]
    # Squared errors: 8 * 0.01 + 2 * 0.81 + 9 * 0.01 + 1 * 0.81 = 2.6, of 20.
    assert found.brier == pytest.approx(0.13)
    logs = 8 * math.log(0.9) + 2 * math.log(0.1) + 9 * math.log(0.9) + math.log(0.1)
    assert found.log_loss == pytest.approx(-logs / 20)


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=60))
def test_every_label_lies_in_one_bin(labels: list[tuple[float, bool]]) -> None:
    said = np.array([p for p, _ in labels])
    true = np.array([float(hit) for _, hit in labels])
    found = calibration(said, true)
    assert found is not None
    assert sum(b.n for b in found.bins) == len(labels)
    assert sum(b.n * b.said for b in found.bins) == pytest.approx(said.sum())
    assert 0 <= found.ece <= 1
