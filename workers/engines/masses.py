"""From the log-probabilities of a closed list of continuations to their distribution. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

Tokens = tuple[int, ...]


def normalised(choices: Sequence[Tokens], logs: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Probabilities of the choices, summing to 1, and the mass outside them, in [0, 1].

    Where one choice begins another, the shorter one's mass excludes the longer one's, so that
    all are disjoint.

    Args:
        choices: Their tokens, as they follow the prompt.
        logs: Log-probability of each choice, the sum over its tokens; may be -inf.
    """
    masses = _disjoint(choices, [math.exp(log) for log in logs])
    total = sum(masses)
    outside = min(1.0, max(0.0, 1.0 - total))
    if total > 0:
        return tuple(mass / total for mass in masses), outside
    # All masses may underflow together; their logarithms still tell them apart.
    # Where these say nothing either, the outcome is NaN, which nobody takes for a probability.
    highest = max(logs)
    scaled = [math.exp(log - highest) for log in logs]
    whole = sum(scaled)
    return tuple(mass / whole for mass in scaled), outside


def _disjoint(choices: Sequence[Tokens], masses: Sequence[float]) -> list[float]:
    def longer(choice: Tokens) -> float:
        return sum(
            mass
            for other, mass in zip(choices, masses, strict=True)
            if len(other) > len(choice) and other[: len(choice)] == choice
        )

    return [max(0.0, mass - longer(choice)) for choice, mass in zip(choices, masses, strict=True)]
