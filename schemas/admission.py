"""Taking a batch of jobs into a run: the part that every door shares.

One bad job refuses itself only; everything else of the batch is recorded in the caller's
transaction. Reading jobs from bytes is the doors' work, the rows are ``schemas.acceptance``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, select

from schemas.acceptance import OpenRun, accept_jobs, check_job, find_run, open_run
from schemas.config import RunConfig
from schemas.errors import ContractError
from schemas.jobs import AnyJob, job_key
from schemas.messages import RejectedJob, SubmitReply
from schemas.routing import job_id_of
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
    digest = run.config.digest
    sorted_out = [_sort_out(entry, run, digest) for entry in entries]
    jobs: dict[UUID, tuple[int, AnyJob]] = {}
    for outcome in sorted_out:
        if not isinstance(outcome, ContractError):
            jobs.setdefault(outcome[0], outcome[1])
    rejected = tuple(
        RejectedJob(index=index, message=str(outcome))
        for index, outcome in enumerate(sorted_out)
        if isinstance(outcome, ContractError)
    )
    accepted = _accept(connection, run, jobs)
    return SubmitReply(
        job_ids=tuple(None if isinstance(o, ContractError) else o[0] for o in sorted_out),
        accepted=accepted,
        duplicates=len(entries) - len(rejected) - accepted,
        rejected=rejected,
    )


def _sort_out(
    entry: Entry, run: OpenRun, digest: str
) -> tuple[UUID, tuple[int, AnyJob]] | ContractError:
    if isinstance(entry, ContractError):
        return entry
    job = entry[1]
    try:
        check_job(job, run.constitution, where=job.kind)
    except ContractError as error:
        return error
    return job_id_of(run.id, job_key(job, digest)), entry


def _accept(connection: Connection, run: OpenRun, jobs: dict[UUID, tuple[int, AnyJob]]) -> int:
    if not jobs:
        return 0
    # In the order of their ids: two submitters of the same jobs in different orders would
    # otherwise wait for each other's rows.
    ordered = [jobs[job_id] for job_id in sorted(jobs)]
    return accept_jobs(connection, run, ordered).accepted


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
