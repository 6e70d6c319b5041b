"""A critic's readable answers beside what each was rated, as rows of arrays. Pure.

What fitting on rated responses and linking to another critic share; neither is done here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from schemas.calibration import raw_log_odds
from schemas.ratings import SeverityReading

Values = NDArray[np.float64]
Knots = tuple[float, ...]
#: Knots by principle: raw log-odds, the severities they mean, and whether the shape is its own.
Maps = dict[str, tuple[Knots, Knots, bool]]


@dataclass(frozen=True, slots=True)
class Anchors:
    """Readable, rated answers; rows of all arrays belong together.

    Attributes:
        principle: Names, one a row.
        x: Raw log-odds.
        rated: Ratings, or another critic's severities, in [0, 1].
    """

    principle: NDArray[np.str_]
    x: Values
    rated: Values

    def only(self, rows: NDArray[np.bool_]) -> Anchors:
        """These rows."""
        return Anchors(self.principle[rows], self.x[rows], self.rated[rows])

    def of(self, name: str) -> Anchors:
        """The rows of one principle."""
        return self.only(self.principle == name)

    @property
    def names(self) -> list[str]:
        """The principles, sorted."""
        return [str(name) for name in np.unique(self.principle)]


def gathered(readings: Sequence[SeverityReading]) -> Anchors:
    """Readings that are readable and rated, sorted: the order of a file changes nothing."""
    rows = sorted((r.principle, raw_log_odds(r.raw or 0.0), r.rated or 0.0) for r in readings)
    return Anchors(
        np.array([name for name, _, _ in rows], dtype=np.str_),
        np.array([x for _, x, _ in rows], dtype=np.float64),
        np.array([rated for _, _, rated in rows], dtype=np.float64),
    )


def rising(knots: Values, severities: Values) -> tuple[Knots, Knots]:
    """The knots without those that repeat one: the middle of what such a one stands for is kept."""
    values = np.unique(knots)
    if len(values) < 2:
        values = np.array([values[0], values[0] + 1e-6])
        return tuple(values.tolist()), (float(severities[0]), float(severities[-1]))
    kept = [float(severities[knots == value].mean()) for value in values]
    return tuple(values.tolist()), tuple(kept)


def spearman(x: Values, rated: Values) -> float | None:
    """Spearman's correlation; None where either is constant or missing."""
    if not len(x) or np.ptp(x) == 0 or np.ptp(rated) == 0:
        return None
    return float(spearmanr(x, rated).statistic)
