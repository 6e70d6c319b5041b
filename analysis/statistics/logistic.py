"""Logistic regression that stays finite under separation, with errors by cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from analysis.statistics.estimates import LEVEL

Values = NDArray[np.float64]

#: Standard deviation of the prior on each coefficient of a standardised term.
#: Source: Gelman et al. 2008, Ann. Appl. Stat. 2, whose scale for such terms is 2.5.
PRIOR_SD = 2.5


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One term: change of the log-odds for one standard deviation, with interval and p."""

    value: float
    low: float
    high: float
    p: float


def fit(terms: Values, outcomes: Values, clusters: NDArray[np.int64]) -> list[Coefficient]:
    """One coefficient a term; there is no intercept.

    A weak normal prior keeps a labeller that follows one term without fail from running off to
    infinity; the covariance is the sandwich over clusters.

    Args:
        terms: Standardised, ``[rows, terms]``.
        outcomes: In [0, 1], ``[rows]``.
        clusters: Rows of one pair share a number, ``[rows]``, from 0.
    """
    precision = np.eye(terms.shape[1]) / PRIOR_SD**2
    beta = np.zeros(terms.shape[1])
    for _ in range(100):
        said = expit(terms @ beta)
        hessian = (terms * (said * (1 - said))[:, None]).T @ terms + precision
        step = np.linalg.solve(hessian, terms.T @ (outcomes - said) - precision @ beta)
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    said = expit(terms @ beta)
    hessian = (terms * (said * (1 - said))[:, None]).T @ terms + precision
    scores = np.zeros((int(clusters.max()) + 1, terms.shape[1]))
    np.add.at(scores, clusters, terms * (outcomes - said)[:, None])
    bread = np.linalg.inv(hessian)
    # Under separation residuals vanish and the sandwich with them; the prior's own does not.
    covariance = bread @ (scores.T @ scores + precision) @ bread
    return [_coefficient(b, s) for b, s in zip(beta, np.sqrt(np.diag(covariance)), strict=True)]


def _coefficient(value: float, error: float) -> Coefficient:
    reach = norm.ppf((1 + LEVEL) / 2) * error
    p = float(2 * norm.sf(abs(value) / error))
    return Coefficient(float(value), float(value - reach), float(value + reach), p)
