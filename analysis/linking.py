"""Link one critic's severities to another's on responses that both read. Pure.

Equipercentile linking, both critics on the same responses: a map sends each quantile of the raw
answers of a principle to the same quantile of the other critic's severities, so that a share over
any threshold comes out alike. It makes two critics comparable; whether either is right it does
not say (Source: Kolen and Brennan, Test Equating, Scaling, and Linking, chapter 2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from analysis.anchors import Anchors, Knots, Maps, gathered, rising, spearman
from analysis.statistics.estimates import LEVEL
from schemas.calibration import MOST, CalibratedCritic, LinkEvidence, raw_log_odds
from schemas.errors import ContractError
from schemas.ratings import SeverityReading

#: Of a principle. With 20 a share over a threshold lay 7 to 10 points (root mean square) off on
#: other responses, with 10 it was 10 to 14, with 100 4 to 5 (the critics of docs/judging.md).
LEAST = 20
#: Quantiles that a map passes through.
QUANTILES = 33
#: Random halvings behind ``LinkEvidence.halves_within``.
HALVINGS = 200


def link_maps(links: Anchors) -> Maps:
    """A map for each principle that has links; they alone give its shape.

    Args:
        links: ``rated`` holds the other critic's calibrated severities.
    """
    at = np.linspace(0, 1, QUANTILES)
    found: Maps = {}
    for name in links.names:
        own = links.of(name)
        knots = rising(np.quantile(own.x, at), np.quantile(own.rated, at))
        found[name] = (*knots, True)
    return found


def continued(
    linked: tuple[Knots, Knots, bool], rated: tuple[Knots, Knots, bool]
) -> tuple[Knots, Knots, bool]:
    """A link's map with the ends of one by rated responses.

    Beyond the answers to the links it would be level: nothing could be worse than the worst
    response that happened to be among them.
    """
    own, others = [*zip(*linked[:2], strict=True)], [*zip(*rated[:2], strict=True)]
    before = [(x, y) for x, y in others if x < own[0][0] and y < own[0][1]]
    behind = [(x, y) for x, y in others if x > own[-1][0] and y > own[-1][1]]
    knots, severities = zip(*before, *own, *behind, strict=True)
    return knots, severities, True


def refuse_thin_links(links: Anchors) -> None:
    """Refuse links that carry no map.

    Raises:
        ContractError: A principle has fewer than ``LEAST``, or one of the critics gives all of
            them the same severity.
    """
    for name in links.names:
        own = links.of(name)
        if len(own.x) < LEAST:
            raise ContractError(
                f"principle '{name}' has {len(own.x)} readable links to another critic; it needs "
                f"{LEAST}: have both critics rate more responses, or leave these lines out"
            )
        if np.ptp(own.x) == 0 or np.ptp(own.rated) == 0:
            who = "this" if np.ptp(own.x) == 0 else "the other"
            raise ContractError(
                f"{who} critic gives all {len(own.x)} links of principle '{name}' the same "
                "severity: no map can order them"
            )


def linked_critic(readings: Sequence[SeverityReading]) -> CalibratedCritic:
    """The one critic whose severities the links are.

    Raises:
        ContractError: There are several.
    """
    critics = sorted({(r.critic.model, r.critic.calibration) for r in readings if r.critic})
    if len(critics) != 1:
        told = "; ".join(f"{model} ({digest[:12]})" for model, digest in critics)
        raise ContractError(f"critics are linked to one calibration; the links are to: {told}")
    return CalibratedCritic(model=critics[0][0], calibration=critics[0][1])


def link_evidence(
    readings: Sequence[SeverityReading], threshold: float, seed: int
) -> LinkEvidence | None:
    """How alike both critics are on the links; None where there are none."""
    if not readings:
        return None
    links = gathered(readings)
    return LinkEvidence(
        critic=linked_critic(readings),
        links=len(links.x),
        responses=len({r.response_digest for r in readings}),
        rank_agreement=_rank_within(links),
        above=float((links.rated > threshold).mean()),
        raw_above=float((MOST / (1 + np.exp(-links.x)) > threshold).mean()),
        halves_within=_halves_within(readings, threshold, seed),
    )


def _rank_within(links: Anchors) -> float | None:
    """Correlation of the two critics' ranks, which are taken in each principle."""
    x, rated = np.empty(len(links.x)), np.empty(len(links.x))
    for name in links.names:
        rows = links.principle == name
        x[rows] = rankdata(links.x[rows]) / rows.sum()
        rated[rows] = rankdata(links.rated[rows]) / rows.sum()
    return spearman(x, rated)


def _halves_within(
    readings: Sequence[SeverityReading], threshold: float, seed: int
) -> float | None:
    """Difference of the shares on the half not linked on, of which 95 % are smaller."""
    # In the order of ``gathered``; equal rows by response, so that the order of a file is nothing.
    rows = sorted(
        (r.principle, raw_log_odds(r.raw or 0.0), r.rated or 0.0, str(r.response_digest))
        for r in readings
    )
    links, of = gathered(readings), np.array([digest for *_, digest in rows])
    responses = np.unique(of)
    if len(responses) < LEAST:
        return None
    random = np.random.default_rng(seed)
    differences = []
    for _ in range(HALVINGS):
        half = random.permutation(responses)[: len(responses) // 2]
        fitted_on = np.isin(of, half)
        differences.append(_difference(links, fitted_on, threshold))
    found = [each for each in differences if each is not None]
    return float(np.quantile(np.abs(found), LEVEL)) if found else None


def _difference(links: Anchors, fitted_on: NDArray[np.bool_], threshold: float) -> float | None:
    maps, rest = link_maps(links.only(fitted_on)), links.only(~fitted_on)
    # A principle may have no link in one of the halves.
    rest = rest.only(np.isin(rest.principle, list(maps)))
    if not len(rest.x):
        return None
    mapped = np.concatenate([np.interp(rest.of(n).x, *maps[n][:2]) for n in rest.names])
    return float((mapped > threshold).mean() - (rest.rated > threshold).mean())
