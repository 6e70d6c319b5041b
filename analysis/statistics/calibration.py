"""How far probabilities can be believed: reliability bins, ECE, Brier score, log loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss

Values = NDArray[np.float64]
BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Labels of similar probability: how many, what was said on average, what came true."""

    n: int
    said: float
    came_true: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of probabilities against outcomes.

    Attributes:
        ece: Expected calibration error over bins of equal mass, in [0, 1].
        brier: Mean squared error, in [0, 1]; 0.25 for a constant 0.5.
        log_loss: Mean negative log-likelihood in nats; 0.693 for a constant 0.5.
        bins: From the least to the largest probability.
    """

    n: int
    ece: float
    brier: float
    log_loss: float
    bins: tuple[Bin, ...]


def calibration(probabilities: Values, outcomes: Values, bins: int = BINS) -> Calibration | None:
    """Compare probabilities in [0, 1] with outcomes 0 or 1; None of nothing.

    Equal probabilities stay in one bin, so that there may be fewer bins than asked for.
    """
    if not len(probabilities):
        return None
    made = tuple(_binned(probabilities, outcomes, bins))
    n = len(probabilities)
    return Calibration(
        n=n,
        ece=sum(b.n * abs(b.said - b.came_true) for b in made) / n,
        brier=float(brier_score_loss(outcomes, probabilities, pos_label=1)),
        log_loss=float(log_loss(outcomes, probabilities, labels=[0, 1])),
        bins=made,
    )


def _binned(probabilities: Values, outcomes: Values, bins: int) -> list[Bin]:
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, bins + 1)))
    at = np.clip(np.searchsorted(edges, probabilities, side="right") - 1, 0, max(0, len(edges) - 2))
    found = []
    for number in np.unique(at):
        inside = at == number
        said, true = probabilities[inside].mean(), outcomes[inside].mean()
        found.append(Bin(int(inside.sum()), float(said), float(true)))
    return found
