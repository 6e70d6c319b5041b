"""Taking a batch of jobs into a run: the part that every door shares.

One bad job refuses itself only; everything else of the batch is recorded in the caller's
transaction. Reading jobs from bytes is the doors' work, the rows are ``schemas.acceptance``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, select

from schemas.acceptance import OpenRun, accept_jobs, find_run, open_run
from schemas.config import RunConfig
from schemas.errors import ContractError
from schemas.job_check import check_job
from schemas.jobs import AnyJob
from schemas.messages import RejectedJob, SubmitReply
from schemas.tables import Run

#: A place in a batch: its ordinal and job, or why it holds none.
Entry = tuple[int, AnyJob] | ContractError


def admit_jobs(
    connection: Connection, run_name: str, config: RunConfig | None, entries: Sequence[Entry]
) -> SubmitReply:
    """Record the jobs of a batch in a run.

    Args:
        connection: Inside a transaction, which the caller commits.
        run_name: The run they join.
        config: Creates the run, or must equal the configuration it was created with; None
            where the run exists.
        entries: The batch, in its own order.

    Raises:
        ContractError: The run does not exist, was cancelled, or has another configuration.
    """
    run = _active_run(connection, run_name, config)
    fitting: list[tuple[int, AnyJob]] = []
    rejected: list[RejectedJob] = []
    for index, entry in enumerate(entries):
        try:
            fitting.append(_fitting(entry, run))
        except ContractError as error:
            rejected.append(RejectedJob(index=index, message=str(error)))
    acceptance = accept_jobs(connection, run, fitting)
    return SubmitReply(
        job_ids=_in_places(acceptance.job_ids, rejected),
        accepted=acceptance.accepted,
        duplicates=acceptance.duplicates,
        rejected=tuple(rejected),
    )


def _fitting(entry: Entry, run: OpenRun) -> tuple[int, AnyJob]:
    if isinstance(entry, ContractError):
        raise entry
    check_job(entry[1], run.constitution, where=entry[1].kind)
    return entry


def _in_places(
    job_ids: tuple[UUID, ...], rejected: Sequence[RejectedJob]
) -> tuple[UUID | None, ...]:
    """The ids with a None where an entry was refused."""
    places: list[UUID | None] = list(job_ids)
    for one in rejected:
        places.insert(one.index, None)
    return tuple(places)


def _active_run(connection: Connection, name: str, config: RunConfig | None) -> OpenRun:
    run = find_run(connection, name) if config is None else open_run(connection, name, config)
    # FOR SHARE makes a cancellation wait for this batch and then see its rows; without it a
    # job accepted at the same moment would stay queued for ever.
    statement = select(Run.state).where(Run.id == run.id).with_for_update(read=True)
    if connection.execute(statement).scalar_one() == "cancelled":
        raise ContractError(
            f"run '{name}' was cancelled and takes no more jobs: submit under another name"
        )
    return run
