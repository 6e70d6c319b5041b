"""When a failed step runs again: a rule for each kind of error, the same answer each time."""

from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import (
    ConfigError,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    LedgerError,
    OutputError,
    PromptTooLong,
)
from workers.retry_policy import ASKED_MOST_S, RULES, SPREAD, RetryPolicy, rule_for

STEP = UUID("5b1f6a86-5f0c-5e0b-9d0c-0d4b8c1e7a21")
ERRORS = [
    EngineError("x"),
    EngineTimeout("x"),
    EngineUnavailable("x"),
    EngineUnavailable("x", retry_after_s=40.0),
    OutputError("x"),
    PromptTooLong("x"),
    ConfigError("x"),
    LedgerError("x"),
    TypeError("x"),
]


@pytest.mark.parametrize("error", [PromptTooLong("x"), OutputError("x"), ConfigError("x")])
def test_what_would_fail_the_same_way_is_given_up_at_once(error: Exception) -> None:
    assert RetryPolicy(5).pause_s(error, 1, STEP) is None


@pytest.mark.parametrize(
    ("error", "attempts"),
    [(EngineError("x"), 5), (EngineUnavailable("x"), 5), (EngineTimeout("x"), 3), (KeyError(), 2)],
)
def test_each_kind_has_its_number_of_attempts(error: Exception, attempts: int) -> None:
    pauses = [RetryPolicy(5).pause_s(error, n, STEP) for n in range(1, 7)]
    assert [pause is not None for pause in pauses] == [n < attempts for n in range(1, 7)]


@given(st.sampled_from(ERRORS), st.integers(1, 20), st.uuids())
def test_the_settings_bound_holds_for_every_error(error: Exception, attempt: int, step: UUID):
    most = RetryPolicy(attempt)
    assert most.pause_s(error, attempt, step) is None
    pause_s = RetryPolicy(100).pause_s(error, attempt, step)
    assert pause_s == RetryPolicy(100).pause_s(error, attempt, step), "no chance in it"
    assert pause_s is None or 0 < pause_s <= rule_for(error).most_s * (1 + SPREAD)


def test_pauses_double_and_stay_below_their_bound() -> None:
    pauses = [RetryPolicy(30).pause_s(EngineError("x"), n, STEP) or 0.0 for n in range(1, 20)]
    assert all(2 ** (n - 1) <= pauses[n - 1] < 1.5 * 2 ** (n - 1) for n in range(1, 6))
    assert all(60 <= pause < 90 for pause in pauses[7:])


def test_an_engine_that_says_when_is_not_asked_before() -> None:
    policy = RetryPolicy(5)
    asked = policy.pause_s(EngineUnavailable("x", retry_after_s=40.0), 1, STEP)
    assert asked is not None
    assert 40 <= asked <= 60
    for_ever = policy.pause_s(EngineUnavailable("x", retry_after_s=1e9), 1, STEP)
    assert for_ever is not None
    assert for_ever <= ASKED_MOST_S * (1 + SPREAD)
    assert policy.pause_s(EngineUnavailable("x", retry_after_s=-5.0), 1, STEP) == 0


def test_steps_that_failed_together_come_back_spread_out() -> None:
    steps = [uuid5(STEP, str(n)) for n in range(200)]
    pauses = sorted(RetryPolicy(5).pause_s(EngineError("x"), 1, step) or 0.0 for step in steps)
    assert len(set(pauses)) == 200
    assert pauses[0] < 1.05
    assert pauses[100] == pytest.approx(1.25, abs=0.1)
    assert pauses[-1] > 1.45


def test_rules_name_codes_that_exist() -> None:
    codes = {error.code for error in ERRORS if not isinstance(error, TypeError)}  # type: ignore[attr-defined]
    assert set(RULES) <= codes
