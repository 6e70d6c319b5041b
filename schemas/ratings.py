"""Rated responses and what a critic reads of them, as JSONL files hold them.

An anchor is a response whose severity under one principle is known: an example of the
constitution, or a person's rating. A reading is the critic's raw answer to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.constitution import LEVEL_SEVERITY, Constitution, SeverityLevel
from schemas.errors import ContractError
from schemas.judged_pairs import lines_of

Rating = SeverityLevel | Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Line(BaseModel):
    # Files of other tools carry further keys, which are not ours to judge.
    model_config = ConfigDict(frozen=True, extra="ignore")


class RatedResponse(_Line):
    """One response under one principle, and its rating.

    Attributes:
        severity: A level by name, or a number in [0, 1]; None where it is only to be read.
        source: ``example`` of the constitution, or ``person``.
    """

    principle: str
    prompt: str
    response: str
    severity: Rating | None = None
    source: Literal["example", "person"] = "person"

    @property
    def rated(self) -> float | None:
        """The rating as a severity in [0, 1]; None where there is none."""
        if isinstance(self.severity, SeverityLevel):
            return LEVEL_SEVERITY[self.severity]
        return self.severity


class SeverityReading(_Line):
    """A critic's raw answer to one anchor.

    Attributes:
        rated: The anchor's rating in [0, 1]; None where nobody rated it.
        raw: Expected severity in [0, 0.9]; None where the critic could not be read.
        wording: ``schemas.calibration.wording_digest`` of the principle asked.
    """

    principle: str
    wording: str
    source: Literal["example", "person"]
    rated: float | None = Field(ge=0, le=1, allow_inf_nan=False)
    raw: float | None = Field(ge=0, le=1, allow_inf_nan=False)
    outside_mass: float
    model: str
    prompt_version: str
    use_rubrics: bool


def anchors_of(constitution: Constitution) -> Iterator[RatedResponse]:
    """The rated examples of a constitution's principles."""
    for principle in constitution.principles:
        for example in principle.examples:
            yield RatedResponse(
                principle=principle.name,
                prompt=example.prompt,
                response=example.response,
                severity=example.severity,
                source="example",
            )


def read_ratings(path: Path, constitution: Constitution) -> Iterator[RatedResponse]:
    """People's ratings from a file of JSON lines.

    Raises:
        ContractError: Names the line: it is no rating, or rates a principle that is not asked.
    """
    known = set(constitution.names)
    for number, rating in lines_of(path, RatedResponse):
        if rating.principle not in known:
            raise ContractError(
                f"{path}:{number}: principle: constitution '{constitution.name}' has no principle "
                f"'{rating.principle}'; it has: {', '.join(constitution.names)}"
            )
        yield rating.model_copy(update={"source": "person"})
