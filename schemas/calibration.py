"""What one critic's severities mean: monotone maps from its raw answers to the shared scale.

Fitted by ``preceptor calibrate`` on responses whose severity is known, kept in a file by digest,
stored with the configuration of each run that uses it. Applying a map is here, fitting is not.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.constitution import LEVEL_SEVERITY, Principle
from schemas.jobs import Contract

#: The most that four levels can average to.
MOST = max(LEVEL_SEVERITY.values())
#: An expected severity of exactly 0 or MOST has no finite log-odds.
_EDGE = 1e-9

Finite = Annotated[float, Field(allow_inf_nan=False)]
Severity = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def raw_log_odds(severity: float) -> float:
    """Log-odds of an expected severity within its range [0, 0.9]."""
    share = min(max(severity / MOST, _EDGE), 1 - _EDGE)
    return math.log(share / (1 - share))


def wording_digest(principle: Principle, *, use_rubrics: bool) -> str:
    """Digest of what a critic is shown of a principle: a map holds for these words only."""
    rubric = principle.rubric.lines() if use_rubrics and principle.rubric else ()
    shown = [principle.critique_request, principle.applies_when or "", *(w for _, w in rubric)]
    return sha256("\x00".join(shown).encode()).hexdigest()[:16]


class SeverityMap(Contract):
    """One principle's map: straight lines between knots, level beyond the first and the last.

    Attributes:
        wording: ``wording_digest`` of the principle it was fitted for.
        anchors: Rated responses of this principle behind it.
        is_own: Its shape comes from these alone; otherwise all principles' anchors give the
            shape, and its own only where it lies.
        log_odds: Raw log-odds of the knots, strictly rising.
        severities: What they mean, in [0, 1], never falling.
        rank_agreement: Spearman's correlation of raw answers and ratings of this principle; None
            where it is undefined.
    """

    wording: str
    anchors: int = Field(ge=2)
    is_own: bool
    log_odds: tuple[Finite, ...] = Field(min_length=2, max_length=64)
    severities: tuple[Severity, ...] = Field(min_length=2, max_length=64)
    rank_agreement: float | None = None

    @model_validator(mode="after")
    def _check_monotone(self) -> Self:
        if len(self.log_odds) != len(self.severities):
            raise ValueError("log_odds and severities must have the same length")
        if any(low >= high for low, high in pairwise(self.log_odds)):
            raise ValueError("log_odds must rise strictly")
        if any(low > high for low, high in pairwise(self.severities)):
            raise ValueError("severities must not fall")
        return self

    def severity(self, raw: float) -> float:
        """The calibrated severity of a raw expected severity in [0, 0.9]."""
        x = raw_log_odds(raw)
        right = bisect_right(self.log_odds, x)
        if right == 0:
            return self.severities[0]
        if right == len(self.log_odds):
            return self.severities[-1]
        x0, x1 = self.log_odds[right - 1 : right + 1]
        y0, y1 = self.severities[right - 1 : right + 1]
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


class CalibrationEvidence(Contract):
    """How well the critic's answers follow the ratings, on anchors its maps had not seen.

    Attributes:
        anchors: Rated responses.
        rank_agreement: Spearman's correlation of raw answers, centred by principle, and ratings.
        rank_agreement_ci: Its 95 % interval; None where undefined.
        threshold: The severity at which the shares below are taken.
        rated_above: Share of anchors whose rating lies above it.
        raw_above: Share of raw severities above it.
        calibrated_above: Share above it by maps fitted without the anchor.
        mean_error_raw: Mean |raw severity - rating|.
        mean_error_calibrated: The same by maps fitted without the anchor.
    """

    anchors: int
    rank_agreement: float | None
    rank_agreement_ci: tuple[float, float] | None
    threshold: float
    rated_above: float
    raw_above: float
    calibrated_above: float
    mean_error_raw: float
    mean_error_calibrated: float


class CriticCalibration(Contract):
    """The maps of one critic: one model, asked in one way, before it has written anything.

    Attributes:
        model: The engine's name of the model.
        prompt_version: Of the severity question.
        use_rubrics: As ``policy.use_rubrics``; a critic shown rubrics is another one.
        principles: By name; a principle that is not here stays uncalibrated.
        evidence: What the fit was worth.
    """

    version: Literal[1] = 1
    model: str
    prompt_version: str
    use_rubrics: bool
    principles: dict[str, SeverityMap] = Field(min_length=1)
    evidence: CalibrationEvidence

    @property
    def digest(self) -> str:
        """SHA-256 of its content, by which it is stored and named."""
        content = self.model_dump(mode="json")
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return sha256(canonical.encode()).hexdigest()

    def map_of(self, principle: Principle) -> SeverityMap | None:
        """The map of a principle; None where there is none for these words of it."""
        found = self.principles.get(principle.name)
        wording = wording_digest(principle, use_rubrics=self.use_rubrics)
        return found if found is not None and found.wording == wording else None
