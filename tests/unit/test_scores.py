"""Direct scoring: what distributions over 1 to 10 say of one response, and of two."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines import Distribution
from workers.steps.scores import expected_score, p_a_of_scores

weights = st.lists(st.floats(0, 1), min_size=10, max_size=10).filter(lambda w: sum(w) > 0.01)


def over(*probabilities: float, outside: float = 0.0) -> Distribution:
    rest = (0.0,) * (10 - len(probabilities))
    return Distribution((*probabilities, *rest), outside)


def normal(raw: list[float]) -> Distribution:
    return Distribution(tuple(w / sum(raw) for w in raw), 0.0)


def test_a_score_is_the_expected_value_and_none_where_it_cannot_be_read() -> None:
    assert expected_score(over(*[0.1] * 10), 0.5) == pytest.approx(5.5)
    assert expected_score(over(0, 0, 0.25, 0, 0, 0, 0, 0, 0, 0.75, outside=0.2), 0.5) == 8.25
    assert expected_score(over(1.0, outside=0.6), 0.5) is None
    assert expected_score(over(*[math.nan] * 10), 0.5) is None


def test_p_is_the_chance_that_a_scores_higher_with_equal_scores_half() -> None:
    # A is 1 or 3, B is 2 or 3: higher in (3, 2), equal in (3, 3).
    a, b = over(0.5, 0, 0.5), over(0, 0.5, 0.5)
    assert p_a_of_scores([a, b], 0.5) == pytest.approx(0.25 + 0.25 / 2)
    assert p_a_of_scores([over(0, 1), over(1)], 0.5) == 1.0
    assert p_a_of_scores([a, over(1.0, outside=0.9)], 0.5) is None


@given(weights, weights)
def test_swapping_the_responses_swaps_the_label_and_equals_are_exactly_even(
    one: list[float], other: list[float]
) -> None:
    a, b = normal(one), normal(other)
    p_a = p_a_of_scores([a, b], 0.5)
    p_b = p_a_of_scores([b, a], 0.5)
    assert p_a is not None
    assert p_b is not None
    assert 0 <= p_a <= 1 + 1e-12
    assert p_a + p_b == pytest.approx(1)
    assert p_a_of_scores([a, a], 0.5) == 0.5
