"""Ask many questions, and let one that cannot be answered fail alone.

For files of pairs, where a single overlong response must not end the whole measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from schemas.errors import OutputError, PromptTooLong

Request = TypeVar("Request")
Answer = TypeVar("Answer")
#: What a single question is to blame for; a lost engine is not.
Failure = OutputError | PromptTooLong


def answers_or_failures(
    ask: Callable[[Sequence[Request]], list[Answer]], requests: Sequence[Request]
) -> list[Answer | Failure]:
    """The answers in order, with the error in the place of each question that has none.

    All are asked together; only where that fails, each by itself.
    """
    if not requests:
        return []
    try:
        return list(ask(requests))
    except (OutputError, PromptTooLong) as error:
        if len(requests) == 1:
            return [error]
    return [each for one in requests for each in answers_or_failures(ask, [one])]
