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
from schemas.constitution import Constitution, load_constitution
from schemas.errors import ContractError
from schemas.jobs import AnyJob, ImproveJob, LabelJob, ReviseJob, job_key
from schemas.routing import ROLE_OF, StepKind, job_id_of, model_queue, run_id_of, step_id_of
from schemas.tables import JobRow, Run, StepRow

#: Rows per INSERT: the bind parameters of one statement stay below Postgres' 65,535.
INSERT_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that takes jobs."""

    id: UUID
    name: str
    config: RunConfig
    constitution: Constitution


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of a batch of jobs: ids in the batch's order, and which were new."""

    job_ids: tuple[UUID, ...]
    accepted: int
    duplicates: int


def run_constitution(config: RunConfig) -> Constitution:
    """The principles that a configuration selects.

    Raises:
        UnknownConstitution: No constitution of that name.
        ContractError: A file is wrong, or the selection is empty.
    """
    chosen = config.constitution
    whole = load_constitution(chosen.name, chosen.files)
    if chosen.categories is None and chosen.principles is None:
        return whole
    return whole.select(chosen.categories, chosen.principles)


def open_run(connection: Connection, name: str, config: RunConfig) -> OpenRun:
    """Create the run called ``name``, or find it.

    Raises:
        ContractError: The name is taken by a run with another configuration or constitution.
    """
    constitution = run_constitution(config)
    run_id = run_id_of(name)
    connection.execute(
        insert(Run).values(_run_row(run_id, name, config, constitution)).on_conflict_do_nothing()
    )
    found = connection.execute(
        select(Run.config_digest, Run.constitution_digest).where(Run.id == run_id)
    ).one()
    if tuple(found) != (config.digest, constitution.digest):
        raise ContractError(
            f"run '{name}' exists with another configuration or constitution: submit under "
            "another name, or with the configuration it was created with"
        )
    return OpenRun(run_id, name, config, constitution)


def find_run(connection: Connection, name: str) -> OpenRun:
    """The run called ``name``.

    Raises:
        ContractError: There is none.
    """
    row = connection.execute(select(Run.config, Run.constitution).where(Run.name == name)).first()
    if row is None:
        raise ContractError(f"no run is called '{name}': the first submission brings its config")
    return OpenRun(
        run_id_of(name),
        name,
        RunConfig.model_validate(row.config),
        Constitution.model_validate(row.constitution),
    )


def _run_row(
    run_id: UUID, name: str, config: RunConfig, constitution: Constitution
) -> dict[str, Any]:
    deadline_s = config.budgets.deadline_s
    return {
        "id": run_id,
        "name": name,
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest,
        "constitution": constitution.model_dump(mode="json"),
        "constitution_digest": constitution.digest,
        "seed": config.seed,
        "weight": config.scheduling.weight,
        "max_running": config.scheduling.max_running,
        "deadline_at": deadline_s and datetime.now(UTC) + timedelta(seconds=deadline_s),
    }


def check_job(job: AnyJob, constitution: Constitution, *, where: str) -> None:
    """Refuse a job that names a principle its run does not have.

    Raises:
        ContractError: Names ``where`` and the principle.
    """
    named: list[str] = []
    if isinstance(job, LabelJob) and job.principle is not None:
        named = [job.principle]
    elif isinstance(job, ReviseJob):
        named = [critique.principle for critique in job.critiques]
    known = {principle.name for principle in constitution.principles}
    for name in named:
        if name not in known:
            raise ContractError(
                f"{where}: no principle '{name}' in constitution '{constitution.name}', "
                f"which has: {', '.join(sorted(known))}"
            )


def accept_jobs(
    connection: Connection, run: OpenRun, jobs: Sequence[tuple[int, AnyJob]]
) -> Acceptance:
    """Record jobs and their first steps; a job that is there already is left alone.

    Args:
        connection: Inside a transaction, which the caller commits.
        run: The run they join.
        jobs: Pairs of ordinal (position in the source) and job.
    """
    digest = run.config.digest
    keyed = [(ordinal, job, job_key(job, digest)) for ordinal, job in jobs]
    ids = tuple(job_id_of(run.id, key) for _, _, key in keyed)
    rows = {
        job_id: _job_row(run.id, job_id, ordinal, job, key)
        for job_id, (ordinal, job, key) in zip(ids, keyed, strict=True)
    }
    new = _insert_new(connection, list(rows.values()))
    by_id = dict(zip(ids, (job for _, job in jobs), strict=True))
    steps = [_first_step_row(run, by_id[i], i, rows[i]["ordinal"]) for i in rows if i in new]
    for start in range(0, len(steps), INSERT_ROWS):
        connection.execute(insert(StepRow), steps[start : start + INSERT_ROWS])
    return Acceptance(ids, len(new), len(ids) - len(new))


def _insert_new(connection: Connection, rows: list[dict[str, Any]]) -> set[UUID]:
    new: set[UUID] = set()
    for start in range(0, len(rows), INSERT_ROWS):
        statement = insert(JobRow).values(rows[start : start + INSERT_ROWS])
        returned = connection.execute(statement.on_conflict_do_nothing().returning(JobRow.id))
        new.update(returned.scalars())
    return new


def _job_row(run_id: UUID, job_id: UUID, ordinal: int, job: AnyJob, key: str) -> dict[str, Any]:
    return {
        "id": job_id,
        "run_id": run_id,
        "job_key": key,
        "kind": job.kind,
        "external_id": job.id,
        "ordinal": ordinal,
        "payload": job.model_dump(mode="json"),
    }


def first_step_kind(job: AnyJob) -> StepKind:
    """The step a job begins with."""
    if isinstance(job, ImproveJob):
        return "respond" if job.response is None else "critique"
    return job.kind


def _first_step_row(run: OpenRun, job: AnyJob, job_id: UUID, ordinal: int) -> dict[str, Any]:
    kind = first_step_kind(job)
    return step_values(run.id, run.config, job_id, kind, 0 if kind == "respond" else 1, 1, ordinal)


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
