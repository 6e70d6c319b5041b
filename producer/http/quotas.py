"""What one key may bring in: new jobs a day, and jobs that are open at once.

Counted in the transaction that accepts the jobs: a batch over its quota is taken back as a whole,
and jobs that the run had already cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, delete, func, literal, select
from sqlalchemy.dialects.postgresql import insert

from producer.http.keys import Key, utc_day
from schemas.door_tables import ApiKey, KeyJob, KeyUse
from schemas.errors import LimitReached
from schemas.tables import ENDED, JobRow

#: Seconds until a client should try again when too many of its jobs are open.
OPEN_RETRY_AFTER_S = 30


def charge(connection: Connection, key: Key, job_ids: Sequence[UUID], accepted: int) -> None:
    """Count jobs against their key's limits.

    Args:
        connection: The transaction that has just accepted them.
        key: Whose jobs they are.
        job_ids: Ids of the batch's jobs, those the run had already among them.
        accepted: How many of them are new.

    Raises:
        LimitReached: One limit does not allow so many; the caller takes the batch back.
    """
    if not accepted:
        return
    # One batch of a key at a time: two at once would each see only their own jobs.
    connection.execute(select(ApiKey.id).where(ApiKey.id == key.id).with_for_update())
    used_today = _count_day(connection, key, accepted)
    if key.jobs_per_day is not None and used_today > key.jobs_per_day:
        raise LimitReached(
            f"key '{key.name}' may bring in {key.jobs_per_day:,} jobs a day and has "
            f"{key.jobs_per_day - used_today + accepted:,} left for {accepted:,}: go on after "
            "midnight UTC, or ask for a larger quota",
            _seconds_to_midnight(),
        )
    if key.max_open_jobs is not None:
        _check_open(connection, key, key.max_open_jobs, job_ids)


def _count_day(connection: Connection, key: Key, accepted: int) -> int:
    day = insert(KeyUse).values(key_id=key.id, day=utc_day(), jobs=accepted)
    counted = day.on_conflict_do_update(
        index_elements=[KeyUse.key_id, KeyUse.day], set_={"jobs": KeyUse.jobs + accepted}
    )
    return connection.execute(counted.returning(KeyUse.jobs)).scalar_one()


def _check_open(connection: Connection, key: Key, limit: int, job_ids: Sequence[UUID]) -> None:
    # Every row goes once, soon after its job has ended, so the count never grows with history.
    ended = select(JobRow.id).where(JobRow.id == KeyJob.job_id, JobRow.state.in_(ENDED))
    connection.execute(delete(KeyJob).where(KeyJob.key_id == key.id, ended.exists()))
    # Rows of this transaction alone: what the run had already belongs to whoever brought it.
    new = select(JobRow.id, literal(key.id, KeyJob.key_id.type)).where(
        JobRow.id.in_(job_ids), JobRow.accepted_at == func.now()
    )
    rows = insert(KeyJob).from_select(["job_id", "key_id"], new)
    connection.execute(rows.on_conflict_do_nothing())
    open_jobs = connection.execute(
        select(func.count()).select_from(KeyJob).where(KeyJob.key_id == key.id)
    ).scalar_one()
    if open_jobs > limit:
        raise LimitReached(
            f"key '{key.name}' may have {limit:,} open jobs and would have {open_jobs:,}: wait "
            "until some have ended",
            OPEN_RETRY_AFTER_S,
        )


def _seconds_to_midnight() -> float:
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - now).total_seconds()
