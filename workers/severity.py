"""Severity: from a critic's distribution over four levels to a number, calibrated or its own.

Pure. A distribution that cannot be read has no severity, calibrated or not.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.calibration import CriticCalibration
from schemas.config import RunConfig
from schemas.constitution import LEVEL_SEVERITY, Principle, SeverityLevel
from schemas.errors import ConfigError
from workers.engines import Distribution

LEVELS = tuple(SeverityLevel)


@dataclass(frozen=True, slots=True)
class Reading:
    """One principle's severity.

    Attributes:
        severity: In [0, 1], on the shared scale where ``raw`` is not None; None is invalid.
        raw: The critic's own expected severity in [0, 0.9], where a map was applied to it.
    """

    severity: float | None
    raw: float | None = None


def expected_severity(distribution: Distribution, max_outside_mass: float) -> float | None:
    """Expected severity in [0, 0.9]; None (invalid) where the critic said none of the words."""
    if not distribution.outside_mass <= max_outside_mass:  # NaN must not pass
        return None
    weighted = zip(distribution.probabilities, LEVELS, strict=True)
    expected = sum(p * LEVEL_SEVERITY[level] for p, level in weighted)
    return expected if expected == expected else None


def read_severity(distribution: Distribution, principle: Principle, config: RunConfig) -> Reading:
    """The severity of a principle as the run's configuration has it read."""
    raw = expected_severity(distribution, config.policy.max_outside_mass)
    if raw is None or config.calibration is None:
        return Reading(raw)
    found = config.calibration.map_of(principle)
    return Reading(raw) if found is None else Reading(found.severity(raw), raw)


def refuse_foreign(
    calibration: CriticCalibration | None, model_name: str, prompt_version: str
) -> None:
    """A calibration says nothing of another critic.

    Raises:
        ConfigError: It was fitted for another model or another wording of the question.
    """
    if calibration is None:
        return
    fitted = (calibration.model, calibration.prompt_version)
    if fitted != (model_name, prompt_version):
        raise ConfigError(
            f"the run's calibration is of the critic {fitted[0]} with prompt {fitted[1]}; this one "
            f"is {model_name} with prompt {prompt_version}: run 'preceptor calibrate' for it, or "
            "leave calibration_file out"
        )
