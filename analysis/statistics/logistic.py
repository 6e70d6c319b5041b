"""Logistic regression that stays finite under separation, with errors by cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import t

from analysis.statistics.estimates import LEVEL

Values = NDArray[np.float64]

#: Standard deviation of the prior on each coefficient of a standardised term.
#: Source: Gelman et al. 2008, Ann. Appl. Stat. 2, whose scale for such terms is 2.5.
PRIOR_SD = 2.5
#: With more clusters than this none of them has a say that is worth a correction.
_MANY_CLUSTERS = 20_000
#: Rows that are worked on at a time, so that memory does not grow with all of them.
_CHUNK = 100_000


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One term: change of the log-odds for one standard deviation, with interval and p."""

    value: float
    low: float
    high: float
    p: float


def fit(
    terms: Values,
    outcomes: Values,
    clusters: NDArray[np.int64],
    weights: Values | None = None,
) -> list[Coefficient]:
    """One coefficient a term; there is no intercept.

    A weak normal prior keeps a labeller that follows one term without fail from running off to
    infinity; the covariance is the jackknife over clusters, one step each (CR3): with
    tens of clusters the plain sandwich is too small.
    Source: Bell and McCaffrey 2002, Survey Methodology 28; of many clusters the plain sandwich.

    Args:
        terms: Standardised, ``[rows, terms]``.
        outcomes: In [0, 1], ``[rows]``.
        clusters: Rows of one pair share a number, ``[rows]``, from 0.
        weights: Of the rows, on average 1; all alike where None.
    """
    found = fitted(terms, outcomes, clusters, weights)
    return [found.contrast(one) for one in np.eye(len(found.beta))]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Coefficients ``[terms]``, their covariance ``[terms, terms]``, and how well it is known.

    Attributes:
        freedom: Degrees of freedom of the errors: clusters less one.
    """

    beta: Values
    covariance: Values
    freedom: float

    def contrast(self, weights: Values) -> Coefficient:
        """A weighted sum of coefficients, e.g. of two their difference; ``weights`` ``[terms]``."""
        error = math.sqrt(float(weights @ self.covariance @ weights))
        return _coefficient(float(weights @ self.beta), error, self.freedom)


def fitted(
    terms: Values,
    outcomes: Values,
    clusters: NDArray[np.int64],
    weights: Values | None = None,
) -> Fitted:
    """The same with its covariance, for sums and differences; arguments as in ``fit``."""
    given = np.ones(len(outcomes)) if weights is None else weights
    precision = np.eye(terms.shape[1]) / PRIOR_SD**2
    beta = coefficients(terms, outcomes, given)
    hessian, _ = _curvature(terms, outcomes, given, beta)
    said = expit(terms @ beta)
    residuals = given * (outcomes - said)
    # One column at a time: a product of all would need the terms' memory once more.
    scores = np.column_stack([np.bincount(clusters, column * residuals) for column in terms.T])
    bread = np.linalg.inv(hessian + precision)
    # Under separation residuals vanish and the sandwich with them; the prior's own does not.
    own = bread @ precision @ bread
    if len(scores) > _MANY_CLUSTERS:
        return Fitted(beta, bread @ (scores.T @ scores) @ bread + own, math.inf)
    shares = _shares(terms, given * said * (1 - said), clusters)
    moved = np.linalg.solve(hessian + precision - shares, scores[..., None])[..., 0]
    covariance = moved.T @ moved * (1 - 1 / len(scores)) + own
    return Fitted(beta, covariance, max(1.0, float((np.bincount(clusters) > 0).sum() - 1)))


def _shares(terms: Values, spread: Values, clusters: NDArray[np.int64]) -> Values:
    """What each cluster adds to the curvature, ``[clusters, terms, terms]``."""
    count = terms.shape[1]
    found = np.zeros((int(clusters.max()) + 1, count, count))
    for first in range(count):
        for second in range(first, count):
            product = np.bincount(clusters, spread * terms[:, first] * terms[:, second])
            found[:, first, second] = found[:, second, first] = product
    return found


def coefficients(terms: Values, outcomes: Values, weights: Values) -> Values:
    """The values alone, ``[terms]``; arguments as in ``fit``."""
    precision = np.eye(terms.shape[1]) / PRIOR_SD**2
    beta = np.zeros(terms.shape[1])
    for _ in range(100):
        hessian, gradient = _curvature(terms, outcomes, weights, beta)
        step = np.linalg.solve(hessian + precision, gradient - precision @ beta)
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    return beta


def _curvature(
    terms: Values, outcomes: Values, weights: Values, beta: Values
) -> tuple[Values, Values]:
    """Negative second derivative and gradient of the log-likelihood, without the prior."""
    hessian, gradient = np.zeros((len(beta), len(beta))), np.zeros(len(beta))
    for start in range(0, len(outcomes), _CHUNK):
        rows = slice(start, start + _CHUNK)
        said = expit(terms[rows] @ beta)
        spread = weights[rows] * said * (1 - said)
        hessian += (terms[rows] * spread[:, None]).T @ terms[rows]
        gradient += terms[rows].T @ (weights[rows] * (outcomes[rows] - said))
    return hessian, gradient


def _coefficient(value: float, error: float, freedom: float) -> Coefficient:
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = float(2 * t.sf(abs(value) / error, freedom))
    return Coefficient(value, value - reach, value + reach, p)
