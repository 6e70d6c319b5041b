"""Acceptance: how a job becomes ledger rows, the same through every door.

A job is accepted when its row and its first step's row are committed; from then on it ends
exactly once as done, failed or cancelled. Nothing here talks to Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from schemas.config import RunConfig
from schemas.constitution import Constitution
from schemas.errors import ContractError
from schemas.job_check import run_constitution
from schemas.job_copy import STEP_COLUMNS, NewRows, copy_new
from schemas.jobs import AnyJob, ImproveJob, canonical_content, key_of_content, payload_json
from schemas.routing import ROLE_OF, StepKind, job_id_of, model_queue, run_id_of, step_id_of
from schemas.tables import Run


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that takes jobs."""

    id: UUID
    name: str
    config: RunConfig
    constitution: Constitution
    config_digest: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of a batch of jobs: ids in the batch's order, and which were new."""

    job_ids: tuple[UUID, ...]
    accepted: int
    duplicates: int


def open_run(connection: Connection, name: str, config: RunConfig) -> OpenRun:
    """Create the run called ``name``, or find it.

    Raises:
        ContractError: The name is taken by a run with another configuration or constitution.
    """
    constitution = run_constitution(config)
    run = OpenRun(run_id_of(name), name, config, constitution, config.digest)
    found = _digests(connection, run.id)
    if found is None:
        connection.execute(insert(Run).values(_run_row(run)).on_conflict_do_nothing())
        found = _digests(connection, run.id)
    if found != (run.config_digest, constitution.digest):
        raise ContractError(
            f"run '{name}' exists with another configuration or constitution: submit under "
            "another name, or with the configuration it was created with"
        )
    return run


def _digests(connection: Connection, run_id: UUID) -> tuple[str, str] | None:
    statement = select(Run.config_digest, Run.constitution_digest).where(Run.id == run_id)
    found = connection.execute(statement).first()
    return None if found is None else (found[0], found[1])


def find_run(connection: Connection, name: str) -> OpenRun:
    """The run called ``name``.

    Raises:
        ContractError: There is none.
    """
    columns = select(Run.config, Run.constitution, Run.config_digest)
    row = connection.execute(columns.where(Run.name == name)).first()
    if row is None:
        raise ContractError(f"no run is called '{name}': the first submission brings its config")
    return OpenRun(
        run_id_of(name),
        name,
        RunConfig.model_validate(row.config),
        Constitution.model_validate(row.constitution),
        row.config_digest,
    )


def _run_row(run: OpenRun) -> dict[str, Any]:
    config, constitution = run.config, run.constitution
    deadline_s = config.budgets.deadline_s
    return {
        "id": run.id,
        "name": run.name,
        "config": config.model_dump(mode="json"),
        "config_digest": run.config_digest,
        "constitution": constitution.model_dump(mode="json"),
        "constitution_digest": constitution.digest,
        "seed": config.seed,
        "weight": config.scheduling.weight,
        "max_running": config.scheduling.max_running,
        "deadline_at": deadline_s and datetime.now(UTC) + timedelta(seconds=deadline_s),
    }


def accept_jobs(
    connection: Connection, run: OpenRun, jobs: Sequence[tuple[int, AnyJob]]
) -> Acceptance:
    """Record jobs and their first steps; a job that is there already is left alone.

    Args:
        connection: Inside a transaction, which the caller commits.
        run: The run they join.
        jobs: Pairs of ordinal (position in the source) and job; of equal jobs the first counts.

    Raises:
        LedgerError: The server is away or refused the rows.
    """
    ids: list[UUID] = []
    rows: dict[UUID, NewRows] = {}
    for ordinal, job in jobs:
        content = canonical_content(job)
        key = key_of_content(content, run.config_digest)
        job_id = job_id_of(run.id, key)
        ids.append(job_id)
        if job_id not in rows:
            rows[job_id] = _NewJob(run, job_id, key, ordinal, job, content)
    new = copy_new(connection, rows) if rows else 0
    return Acceptance(tuple(ids), new, len(ids) - new)


@dataclass(slots=True)
class _NewJob:
    """What a job's rows are made of: see ``schemas.job_copy.NewRows``."""

    run: OpenRun
    id: UUID
    key: str
    ordinal: int
    job: AnyJob
    content: str

    def job_row(self) -> tuple[Any, ...]:
        job = self.job
        payload = payload_json(job, self.content)
        return (self.id, self.run.id, self.key, job.kind, job.id, self.ordinal, payload)

    def step_row(self) -> tuple[Any, ...]:
        kind = first_step_kind(self.job)
        first_round = 0 if kind == "respond" else 1
        run = self.run
        step = step_values(run.id, run.config, self.id, kind, first_round, 1, self.ordinal)
        return tuple([step[column] for column in STEP_COLUMNS])


def first_step_kind(job: AnyJob) -> StepKind:
    """The step a job begins with."""
    if isinstance(job, ImproveJob):
        return "respond" if job.response is None else "critique"
    return job.kind


def step_values(
    run_id: UUID,
    config: RunConfig,
    job_id: UUID,
    kind: StepKind,
    round_number: int,
    revision_try: int,
    ordinal: int,
) -> dict[str, Any]:
    """Columns of a new step's row.

    ``depth`` grows with progress through the loop: the dispatcher serves the deepest first, so
    that whole jobs finish early instead of all jobs finishing late.
    """
    role = ROLE_OF[kind]
    stage = ("respond", "critique", "revise", "label").index(kind)
    return {
        "id": step_id_of(job_id, round_number, revision_try, kind),
        "job_id": job_id,
        "run_id": run_id,
        "kind": kind,
        "round": round_number,
        "revision_try": revision_try,
        "depth": round_number * 1000 + revision_try * 10 + stage,
        "ordinal": ordinal,
        "queue": model_queue(getattr(config.roles, role)),
        "role": role,
    }
