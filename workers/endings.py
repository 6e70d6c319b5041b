"""Ending a job from outside its steps: deadline, budget, cancellation, exhausted attempts.

The job keeps the response it has, with the severity that is known of it.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from schemas.config import RunConfig
from schemas.constitution import Constitution
from schemas.jobs import JOB_ADAPTER
from schemas.tables import JobRow, Run, StepRow
from workers.backlog import Ending
from workers.history import read_history
from workers.ledger import job_ending
from workers.policy import Stop


def end_job(connection: Connection, ending: Ending) -> bool:
    """Close a job and its open step; False where it had ended already."""
    row = connection.execute(
        select(JobRow.payload, Run.config, Run.constitution)
        .join(Run, Run.id == JobRow.run_id)
        .where(JobRow.id == ending.job_id, JobRow.stop_reason.is_(None))
        .with_for_update(of=JobRow)
    ).first()
    _close_step(connection, ending)
    if row is None:
        return False
    job = JOB_ADAPTER.validate_python(row.payload)
    constitution = Constitution.model_validate(row.constitution)
    history = read_history(connection, ending.job_id, job, constitution)
    config = RunConfig.model_validate(row.config)
    values = job_ending(history, config.policy, Stop(ending.reason))
    values |= {"error_code": ending.error_code, "error": ending.error}
    connection.execute(update(JobRow).where(JobRow.id == ending.job_id).values(**values))
    return True


def _close_step(connection: Connection, ending: Ending) -> None:
    failed = ending.reason.value.endswith("_failed")
    connection.execute(
        update(StepRow)
        .where(StepRow.id == ending.step_id, StepRow.state.in_(("queued", "running")))
        .values(
            state="failed" if failed else "cancelled",
            fence=StepRow.fence + 1,
            lease_until=None,
            ended_at=func.now(),
            error_code=ending.error_code,
            error=ending.error,
        )
    )
