"""Agreement of two labellers beyond chance, on the ordered scale A < tie < B.

Tables are ``[..., 3, 3]`` counts, rows one labeller, columns the other, so that one call serves
a value and its bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Tables = NDArray[np.float64]
SCALE = ("A", "tie", "B")


def agreement(tables: Tables) -> Tables:
    """Share on the diagonal, ``[...]``."""
    return _divided(np.trace(tables, axis1=-2, axis2=-1), tables.sum((-2, -1)))


def cohen_kappa(tables: Tables, *, weighted: bool = False) -> Tables:
    """Cohen's kappa from both margins; NaN where chance agreement is 1.

    Args:
        tables: Counts.
        weighted: Linear weights on A < tie < B: a tie against A is half a disagreement.
    """
    steps = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    cost = steps / 2 if weighted else (steps > 0).astype(float)
    whole = tables.sum((-2, -1), keepdims=True)
    shares = _divided(tables, whole)
    chance = shares.sum(-1, keepdims=True) * shares.sum(-2, keepdims=True)
    return 1 - _divided((cost * shares).sum((-2, -1)), (cost * chance).sum((-2, -1)))


def weighted_kappa(tables: Tables) -> Tables:
    """Cohen's kappa with linear weights."""
    return cohen_kappa(tables, weighted=True)


def of_cells(statistic: Callable[[Tables], Tables]) -> Callable[[Tables], Tables]:
    """A statistic of tables as one of their nine cells in a row, ``[..., 9]``."""
    return lambda cells: statistic(cells.reshape(*cells.shape[:-1], 3, 3))


def gwet_ac1(tables: Tables) -> Tables:
    """Gwet's AC1, stable where one label is rare.

    Source: Gwet 2008, Br. J. Math. Stat. Psychol. 61, equation 5: chance is the sum of
    q (1 - q) over the categories by (categories - 1), q the mean of both margins. Categories are
    those that somebody used: where nobody may call a tie there are two.
    """
    shares = _divided(tables, tables.sum((-2, -1), keepdims=True))
    q = (shares.sum(-1) + shares.sum(-2)) / 2
    used = np.maximum((q > 0).sum(-1), 2)
    chance = (q * (1 - q)).sum(-1) / (used - 1)
    return _divided(np.trace(shares, axis1=-2, axis2=-1) - chance, 1 - chance)


def _divided(over: Tables, under: Tables) -> Tables:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(under > 0, over / under, math.nan)
