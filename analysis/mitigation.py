"""Labels or weights in which a judge's bias is less: three ways, each fitted on other pairs. Pure.

What people value stays: only the judge's coefficient minus people's is taken away. Whether a way
helps is for ``mitigation_proof`` to say, on pairs that it was not fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from analysis.bias import p_of_biases
from analysis.statistics.estimates import LEVEL
from analysis.statistics.logistic import coefficients, fit

Values = NDArray[np.float64]
Rows = NDArray[np.int64]
Method = Literal["orders", "length", "reweight"]
METHODS: tuple[Method, ...] = ("orders", "length", "reweight")

#: Probabilities beyond these say no more of a pair than these.
_CLIP = 0.001
#: Pairs that a shift is sought on; more do not make it better.
_MOST = 20_000
#: No pair counts more than this, or less than its inverse: one odd pair must not carry the rest.
_HEAVIEST = 5.0
_STEPS = 40


@dataclass(frozen=True, slots=True)
class Items:
    """Pairs with a judge's readable verdicts; arrays ``[pairs]``.

    Attributes:
        names: What the columns of ``leads`` are.
        leads: A's lead in each dimension, standardised, ``[pairs, dimensions]``.
        human: 1 for A, 0.5 for a tie, 0 for B; NaN without a label.
        p_ab, p_ba: The judge's probability of A in either order; ``p_ba`` is None where the judge
            was asked in one order only.
        group: Pairs that share a prompt share a number, from 0.
    """

    names: tuple[str, ...]
    leads: Values
    human: Values
    p_ab: Values
    p_ba: Values | None
    group: Rows

    @property
    def p_a(self) -> Values:
        """Mean of the orders that were asked."""
        return self.p_ab if self.p_ba is None else (self.p_ab + self.p_ba) / 2

    @property
    def log_odds(self) -> Values:
        """Of A. Verdicts in words are counted as votes, half a vote added to either side."""
        said = self.p_a
        if set(np.unique(self.p_ab)) <= {0.0, 0.5, 1.0}:
            votes = 1 if self.p_ba is None else 2
            return np.asarray(logit((votes * said + 0.5) / (votes + 1)))
        return np.asarray(logit(np.clip(said, _CLIP, 1 - _CLIP)))

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Pairs with a human label."""
        return ~np.isnan(self.human)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Pairs to learn from: those with a human label, all where there is none."""
        return self.labelled if self.labelled.any() else np.ones(len(self.human), dtype=bool)


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels and the weight that each should have, ``[pairs]``; weights are 1 on average."""

    p_a: Values
    weight: Values

    @property
    def value(self) -> Values:
        """1 where A is preferred, 0.5 for a tie, 0 for B."""
        return value_of(self.p_a)


@dataclass(frozen=True, slots=True)
class Mitigated:
    """One way's labels beside those that it starts from; each pair's were fitted on other folds.

    Attributes:
        items: With the dimensions that ``measured`` speaks of.
        measured: Dimensions whose bias is to fall.
        fold: Of each pair; 0 where nothing was fitted.
        rows_per_pair: 2 where the labels before are those of either order, all of AB first.
    """

    method: Method
    items: Items
    before: Labels
    after: Labels
    measured: tuple[str, ...]
    fold: Rows
    rows_per_pair: int = 1


def value_of(p_a: Values) -> Values:
    """Probabilities of A as labels: 1, 0.5 where neither is likelier, 0."""
    return np.where(np.abs(p_a - 0.5) < 1e-12, 0.5, (p_a > 0.5).astype(np.float64))


def mitigate(items: Items, method: Method, *, folds: int = 5, seed: int = 0) -> Mitigated:
    """Labels in which a bias should be less.

    ``orders`` takes the mean of both orders for either; it learns nothing. ``length`` subtracts
    from the log-odds what makes labels follow the flagged dimensions (length where none is) no
    more than people's do. ``reweight`` leaves the labels and weighs pairs by how much likelier
    people than the judge give such a label to such a lead. What is subtracted from a pair, and
    its weight, come from the other folds; which dimensions are flagged comes from all.

    Args:
        items: At least one pair a fold.
        folds: Pairs of one prompt share one.
        seed: Of the folds.

    Raises:
        ValueError: ``orders`` where there is one, or fewer prompts than folds.
    """
    if method == "orders":
        return _both_orders(items)
    fold = folds_of(items.group, folds, seed)
    chosen = biased(items)
    change = _shifted if method == "length" else _reweighted
    p_a, weight = items.p_a.copy(), np.ones(len(fold))
    for number in range(folds):
        held = np.flatnonzero(fold == number)
        train = np.flatnonzero((fold != number) & items.usable)
        p_a[held], weight[held] = change(items, train, held, chosen)
    before, after = Labels(items.p_a, np.ones(len(fold))), Labels(p_a, weight)
    return Mitigated(method, items, before, after, tuple(items.names[i] for i in chosen), fold)


def folds_of(group: Rows, folds: int, seed: int) -> Rows:
    """A fold for each row; rows of one group share it, groups are spread evenly."""
    groups = int(group.max()) + 1
    if groups < folds:
        raise ValueError(f"{groups} prompts cannot be split into {folds} folds")
    order = np.random.default_rng(seed).permutation(groups)
    return np.asarray((order % folds)[group])


def biased(items: Items) -> list[int]:
    """The dimensions that a bias report flags; length where it flags none."""
    rows = np.flatnonzero(items.usable)
    leads, labels, group = items.leads[rows], value_of(items.p_a[rows]), items.group[rows]
    own = difference = fit(leads, labels, group)
    if items.labelled.any():
        terms = np.vstack([np.hstack([leads, np.zeros_like(leads)]), np.hstack([leads, leads])])
        said = np.concatenate([items.human[rows], labels])
        difference = fit(terms, said, np.tile(group, 2))[len(items.names) :]
    found = p_of_biases(own, difference)
    return [at for at, p in enumerate(found) if p < 1 - LEVEL] or [0]


def _target(items: Items, train: Rows) -> Values:
    """People's coefficients on the training pairs; none at all without people."""
    if not items.labelled[train].any():
        return np.zeros(len(items.names))
    return _slopes(items.leads[train], items.human[train])


def _slopes(leads: Values, outcomes: Values) -> Values:
    return coefficients(leads, outcomes, np.ones(len(outcomes)))


def _both_orders(items: Items) -> Mitigated:
    if items.p_ba is None:
        raise ValueError("the judge was asked in one order only: there is no other to add")
    n = len(items.human)
    twice = Items(
        names=(*items.names, "position"),
        leads=np.column_stack([np.vstack([items.leads] * 2), np.repeat([1.0, -1.0], n)]),
        human=np.tile(items.human, 2),
        p_ab=np.tile(items.p_ab, 2),
        p_ba=np.tile(items.p_ba, 2),
        group=np.tile(items.group, 2),
    )
    ones = np.ones(2 * n)
    before = Labels(np.concatenate([items.p_ab, items.p_ba]), ones)
    nowhere = np.zeros(2 * n, dtype=np.int64)
    return Mitigated("orders", twice, before, Labels(twice.p_a, ones), ("position",), nowhere, 2)


def _shifted(items: Items, train: Rows, held: Rows, chosen: list[int]) -> tuple[Values, Values]:
    log_odds = items.log_odds
    shift = shift_to(items.leads[train], log_odds[train], _target(items, train), chosen)
    return expit(log_odds[held] - items.leads[held] @ shift), np.ones(len(held))


def shift_to(leads: Values, log_odds: Values, target: Values, chosen: list[int]) -> Values:
    """What to subtract for each unit of lead, ``[dimensions]``, so that labels follow ``target``.

    Labels follow a lead less the more of it is subtracted: each step goes up where they follow it
    too much and down where too little, growing while it must and halved once it went too far.
    """
    rows = np.linspace(0, len(leads) - 1, min(len(leads), _MOST)).astype(np.int64)
    leads, log_odds = leads[rows], log_odds[rows]
    shift, step = np.zeros(leads.shape[1]), np.zeros(leads.shape[1])
    step[chosen] = 0.5 * max(float(log_odds.std()), 0.1)
    best, least, last = shift, np.inf, np.zeros(leads.shape[1])
    for _ in range(_STEPS):
        gap = _slopes(leads, value_of(expit(log_odds - leads @ shift))) - target
        worst = float(np.abs(gap[chosen]).max())
        if worst < least:
            best, least = shift, worst
        turned = np.sign(gap) * np.sign(last)
        step = step * np.where(turned > 0, 1.2, np.where(turned < 0, 0.5, 1.0))
        shift, last = shift + np.sign(gap) * step, gap
    return best


def _reweighted(items: Items, train: Rows, held: Rows, chosen: list[int]) -> tuple[Values, Values]:
    judge = _slopes(items.leads[train], value_of(items.p_a[train]))
    wanted = judge.copy()
    wanted[chosen] = _target(items, train)[chosen]
    weight = weights_to(items.leads[held], value_of(items.p_a[held]), judge, wanted)
    return items.p_a[held], weight


def weights_to(leads: Values, labels: Values, judge: Values, wanted: Values) -> Values:
    """Weights under which labels follow the leads as ``wanted`` says and no longer as ``judge``.

    The probability of the label under the one over that under the other, held within a factor of
    5; 1 for a tie.
    """
    sign = 2 * labels - 1
    ratio = expit(sign * (leads @ wanted)) / expit(sign * (leads @ judge))
    return np.where(sign == 0, 1.0, np.clip(ratio, 1 / _HEAVIEST, _HEAVIEST))


def effective_size(weight: Values) -> float:
    """Kish's: as many pairs of equal weight tell as much."""
    return float(weight.sum() ** 2 / (weight**2).sum())
