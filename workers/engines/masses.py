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
    highest = max(logs)
    if highest == -math.inf:
        return (1.0 / len(choices),) * len(choices), outside
    scaled = [math.exp(log - highest) for log in logs]
    return tuple(mass / sum(scaled) for mass in scaled), outside


def openings(choices: Sequence[Tokens]) -> dict[Tokens, set[int]]:
    """What has to be asked: after each beginning of a choice, which tokens may follow."""
    asked: dict[Tokens, set[int]] = {}
    for choice in choices:
        for length in range(len(choice)):
            asked.setdefault(choice[:length], set()).add(choice[length])
    return asked


def _disjoint(choices: Sequence[Tokens], masses: Sequence[float]) -> list[float]:
    def longer(choice: Tokens) -> float:
        return sum(
            mass
            for other, mass in zip(choices, masses, strict=True)
            if len(other) > len(choice) and other[: len(choice)] == choice
        )

    return [max(0.0, mass - longer(choice)) for choice, mass in zip(choices, masses, strict=True)]
