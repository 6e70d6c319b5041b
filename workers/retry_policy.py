"""Whether a step that failed runs again, and when: one rule for each kind of error.

Pure: the same error, attempt and step always get the same answer. It knows no ledger and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from schemas.errors import EngineUnavailable, PreceptorError

#: Longest pause that an engine may ask for.
ASKED_MOST_S = 600.0
#: Steps that failed together do not come back together: each waits up to so much longer.
SPREAD = 0.5


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of error is met.

    Attributes:
        first_s: Pause before the second attempt; it doubles with each one.
        most_s: Longest pause, before the spread.
        attempts: Attempts in all, 1 for no second one; None for as many as the settings allow.
    """

    first_s: float = 1.0
    most_s: float = 60.0
    attempts: int | None = None


NEVER = Rule(attempts=1)

#: By the error's code.
RULES: dict[str, Rule] = {
    # The back end is away or full: it says when to come back, else it needs time.
    "engine_unavailable": Rule(first_s=2.0, most_s=120.0),
    # Each try costs a whole deadline of the engine's time.
    "engine_timeout": Rule(first_s=2.0, attempts=3),
    "engine_error": Rule(),
    # No retry makes a prompt shorter.
    "prompt_too_long": NEVER,
    # The step has asked again with other seeds already; the same seeds give the same answer.
    "output_error": NEVER,
}
#: A defect of ours or of a library: often a matter of the input, sometimes of the moment.
UNEXPECTED = Rule(first_s=5.0, attempts=2)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The rules under an upper bound.

    Attributes:
        max_attempts: Most attempts whatever the error, >= 1.
    """

    max_attempts: int

    def pause_s(self, error: Exception, attempt: int, step_id: UUID) -> float | None:
        """Seconds to wait before the next attempt.

        Args:
            error: What ended this attempt.
            attempt: Its number, from 1; those count too whose worker died.
            step_id: Decides where in the spread this step comes back.

        Returns:
            None to give up.
        """
        rule = rule_for(error)
        if attempt >= min(self.max_attempts, rule.attempts or self.max_attempts):
            return None
        pause_s = min(rule.first_s * 2.0 ** (attempt - 1), rule.most_s)
        if isinstance(error, EngineUnavailable) and error.retry_after_s is not None:
            # Never before the time that was asked for, but not for ever either.
            pause_s = min(max(0.0, error.retry_after_s), ASKED_MOST_S)
        return pause_s * (1.0 + SPREAD * _place(step_id, attempt))


def rule_for(error: Exception) -> Rule:
    """The rule of an error; without one of its own it is met by whether it is retryable."""
    if not isinstance(error, PreceptorError):
        return UNEXPECTED
    return RULES.get(error.code, Rule() if error.retryable else NEVER)


def _place(step_id: UUID, attempt: int) -> float:
    """In [0, 1), even over steps, another one at each attempt."""
    digest = sha256(step_id.bytes + attempt.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64
