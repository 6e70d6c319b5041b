"""Read the severities of rated responses with an engine and nothing else: no servers, no ledger.

For calibration: what a critic's answers mean is measured before they steer a loop. The questions
are those that a critique step asks, before any critique is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from schemas.calibration import wording_digest
from schemas.config import RunConfig
from schemas.constitution import Constitution
from schemas.errors import ConfigError
from schemas.job_check import run_constitution
from schemas.ratings import RatedResponse, SeverityReading, anchors_of, read_ratings
from workers.engines import Engine
from workers.engines.factory import build_engine
from workers.prompts import SEVERITY_CHOICES, render_severity
from workers.severity import expected_severity
from workers.steps.asking import choose_request

#: Responses asked about in one call; the engine batches within it.
CHUNK = 64


def rate_file(config: RunConfig, models: Path, ratings: Path | None, out: Path) -> int:
    """Read the constitution's examples and a file of ratings; how many readings there are.

    Raises:
        ContractError: A line is no rating.
        ConfigError: The critic's model cannot be loaded, or severities are read after critiques.
    """
    constitution = run_constitution(config)
    # Read whole before a model is loaded: a wrong line is refused at once.
    rated = [*anchors_of(constitution)]
    rated += read_ratings(ratings, constitution) if ratings else ()
    if not rated:
        raise ConfigError(
            f"constitution '{constitution.name}' has no rated examples: add some, or give --ratings"
        )
    engine = build_engine(config.models[config.roles.critic].model_dump(), models)
    try:
        with out.open("w", encoding="utf-8") as file:
            for reading in read_severities(engine, config, constitution, rated):
                file.write(reading.model_dump_json() + "\n")
        return len(rated)
    finally:
        engine.close()


def read_severities(
    engine: Engine, config: RunConfig, constitution: Constitution, rated: Iterable[RatedResponse]
) -> Iterator[SeverityReading]:
    """One reading a response, in the order given.

    Raises:
        ConfigError: The configuration has severities read after critiques.
    """
    if config.policy.severity != "before_critique":
        raise ConfigError(
            "policy.severity is after_critique: only severities read before critiques have a "
            "calibration"
        )
    waiting = iter(rated)
    while chunk := list(islice(waiting, CHUNK)):
        yield from _readings(engine, config, constitution, chunk)


def _readings(
    engine: Engine, config: RunConfig, constitution: Constitution, chunk: list[RatedResponse]
) -> Iterator[SeverityReading]:
    rubrics = config.policy.use_rubrics
    principles = [constitution.principle(each.principle) for each in chunk]
    prompts = [
        render_severity([("user", each.prompt)], each.response, principle, use_rubric=rubrics)
        for each, principle in zip(chunk, principles, strict=True)
    ]
    deadline_s = config.sampling.critique.deadline_s
    answers = engine.choose([choose_request(p, SEVERITY_CHOICES, deadline_s) for p in prompts])
    for each, principle, prompt, answer in zip(chunk, principles, prompts, answers, strict=True):
        yield SeverityReading(
            principle=each.principle,
            wording=wording_digest(principle, use_rubrics=rubrics),
            source=each.source,
            rated=each.rated,
            raw=expected_severity(answer, config.policy.max_outside_mass),
            outside_mass=answer.outside_mass,
            model=engine.model_name,
            prompt_version=prompt.prompt_version,
            use_rubrics=rubrics,
        )
