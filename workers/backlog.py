"""The dispatcher's view of the ledger: what is ready, what is stuck, what has run out of time.

All of the dispatcher's SQL. Every function works inside the caller's transaction and is safe to
run twice; only rows that nobody else is changing are touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from schemas.policy import StopReason
from schemas.routing import ROLE_OF

#: Longest pause before a stalled step is published again, in multiples of the first pause.
MAX_BACKOFF_FACTOR = 32
#: A worker that has not been seen for this long has no slots.
WORKER_GONE_S = 15.0
#: Rows changed by one statement, so that no transaction grows with the backlog.
BATCH_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """One queue: slots of live workers, and steps published or running."""

    queue: str
    slots: int
    published: int
    running: int


@dataclass(frozen=True, slots=True)
class ReadyStep:
    """A step to wake a worker for; ``first`` marks a job's first step."""

    id: UUID
    queue: str
    first: bool


def queue_loads(connection: Connection) -> list[QueueLoad]:
    """Load of every queue that a live worker serves."""
    rows = connection.execute(
        text(
            "WITH live AS (SELECT queue, sum(slots) AS slots FROM worker"
            "  WHERE seen_at > now() - make_interval(secs => :gone_s) GROUP BY queue)"
            " SELECT live.queue, live.slots,"
            " (SELECT count(*) FROM step WHERE step.queue = live.queue"
            "   AND state = 'queued' AND published_at IS NOT NULL) AS published,"
            " (SELECT count(*) FROM step WHERE step.queue = live.queue"
            "   AND state = 'running') AS running"
            " FROM live ORDER BY live.queue"
        ),
        {"gone_s": WORKER_GONE_S},
    )
    return [QueueLoad(row.queue, int(row.slots), row.published, row.running) for row in rows]


def active_runs(connection: Connection) -> list[UUID]:
    """Runs that may be served, oldest first."""
    return list(
        connection.execute(
            text("SELECT id FROM run WHERE state = 'active' ORDER BY created_at, id")
        ).scalars()
    )


def mark_published(connection: Connection, queue: str, run_id: UUID, limit: int) -> list[ReadyStep]:
    """Take up to ``limit`` ready steps of one run, deepest first, and mark them published.

    The message leaves after the caller's commit; should it never leave, ``unpublish_stale``
    finds the row again.
    """
    rows = connection.execute(
        text(
            "UPDATE step SET published_at = now(), publish_count = publish_count + 1"
            " WHERE id IN (SELECT id FROM step WHERE queue = :queue AND run_id = :run_id"
            "   AND state = 'queued' AND published_at IS NULL"
            "   AND (not_before IS NULL OR not_before <= now())"
            "   ORDER BY depth DESC, ordinal LIMIT :limit FOR UPDATE SKIP LOCKED)"
            " RETURNING id, queue, depth, ordinal, round"
        ),
        {"queue": queue, "run_id": run_id, "limit": limit},
    ).all()
    ordered = sorted(rows, key=lambda row: (-row.depth, row.ordinal))
    return [ReadyStep(row.id, row.queue, row.round <= 1) for row in ordered]


def unpublish_stale(connection: Connection, republish_after_s: float) -> int:
    """Make published steps ready again that no worker claimed in time: their message is lost.

    The pause doubles with each publication, so a slow queue is not flooded with copies.
    """
    return connection.execute(
        text(
            "UPDATE step SET published_at = NULL WHERE id IN ("
            " SELECT id FROM step WHERE state = 'queued' AND published_at IS NOT NULL"
            " AND published_at < now() - make_interval(secs => :after_s"
            "   * least(power(2, publish_count - 1), :most))"
            " LIMIT :rows FOR UPDATE SKIP LOCKED)"
        ),
        {"after_s": republish_after_s, "most": MAX_BACKOFF_FACTOR, "rows": BATCH_ROWS},
    ).rowcount


def reclaim_expired(connection: Connection, max_attempts: int) -> int:
    """Queue again the steps whose worker stopped renewing its lease.

    The fence moves on, so that the former owner can no longer commit.
    """
    return connection.execute(
        text(
            "UPDATE step SET state = 'queued', published_at = NULL, lease_until = NULL,"
            " fence = fence + 1, error_code = 'lease_expired',"
            " error = 'worker ' || coalesce(worker, '?') || ' stopped renewing its lease'"
            " WHERE id IN (SELECT step.id FROM step JOIN run ON run.id = step.run_id"
            "   WHERE step.state = 'running' AND step.lease_until < now()"
            "   AND step.attempt < :max_attempts AND run.state <> 'cancelled'"
            "   LIMIT :rows FOR UPDATE OF step SKIP LOCKED)"
        ),
        {"max_attempts": max_attempts, "rows": BATCH_ROWS},
    ).rowcount


@dataclass(frozen=True, slots=True)
class Ending:
    """A job that ends without running its open step."""

    job_id: UUID
    step_id: UUID
    reason: StopReason
    error_code: str | None = None
    error: str | None = None


def exhausted_jobs(connection: Connection, max_attempts: int) -> list[Ending]:
    """Jobs whose open step lost its worker ``max_attempts`` times: they kill what runs them."""
    rows = connection.execute(
        text(
            "SELECT step.id, step.job_id, step.kind, step.attempt, step.worker FROM step"
            " JOIN run ON run.id = step.run_id WHERE step.state = 'running'"
            " AND step.lease_until < now() AND step.attempt >= :max_attempts"
            " AND run.state <> 'cancelled' LIMIT :rows FOR UPDATE OF step SKIP LOCKED"
        ),
        {"max_attempts": max_attempts, "rows": BATCH_ROWS},
    )
    return [
        Ending(
            row.job_id,
            row.id,
            StopReason(f"{ROLE_OF[row.kind]}_failed"),
            "attempts_exhausted",
            f"the {row.kind} step was begun {row.attempt} times and its worker died each time, "
            f"last {row.worker}",
        )
        for row in rows
    ]


def overdue_jobs(connection: Connection) -> list[Ending]:
    """Open jobs that wait in runs past their deadline."""
    return _waiting(connection, "run.deadline_at < now()", StopReason.DEADLINE)


def cancelled_jobs(connection: Connection) -> list[Ending]:
    """Jobs of cancelled runs whose step waits, or whose worker gave it up."""
    rows = connection.execute(
        text(
            "SELECT step.id, step.job_id FROM step JOIN run ON run.id = step.run_id"
            " WHERE run.state = 'cancelled' AND (step.state = 'queued'"
            " OR (step.state = 'running' AND step.lease_until < now()))"
            " LIMIT :rows FOR UPDATE OF step SKIP LOCKED"
        ),
        {"rows": BATCH_ROWS},
    )
    return [Ending(row.job_id, row.id, StopReason.CANCELLED) for row in rows]


def _waiting(connection: Connection, condition: str, reason: StopReason) -> list[Ending]:
    rows = connection.execute(
        text(
            "SELECT step.id, step.job_id FROM step JOIN run ON run.id = step.run_id"
            f" WHERE step.state = 'queued' AND run.state <> 'cancelled' AND {condition}"
            " LIMIT :rows FOR UPDATE OF step SKIP LOCKED"
        ),
        {"rows": BATCH_ROWS},
    )
    return [Ending(row.job_id, row.id, reason) for row in rows]


def over_budget_jobs(connection: Connection) -> list[Ending]:
    """Open jobs that wait in runs which have used up their tokens, USD or engine seconds."""
    spent = connection.execute(
        text(
            "SELECT run.id FROM run, LATERAL (SELECT"
            "   coalesce(sum(input_tokens + output_tokens), 0) AS tokens,"
            "   coalesce(sum(cost_usd), 0) AS usd, coalesce(sum(engine_s), 0) AS engine_s"
            "   FROM step WHERE step.run_id = run.id) AS used,"
            " LATERAL jsonb_to_record(run.config -> 'budgets')"
            "   AS most(max_tokens bigint, max_usd float8, max_engine_s float8)"
            " WHERE run.state = 'active' AND (most.max_tokens IS NOT NULL"
            "   OR most.max_usd IS NOT NULL OR most.max_engine_s IS NOT NULL)"
            " AND (used.tokens >= most.max_tokens OR used.usd >= most.max_usd"
            "   OR used.engine_s >= most.max_engine_s)"
        )
    ).scalars()
    found: list[Ending] = []
    for run_id in list(spent):
        found += _of_run(connection, run_id, StopReason.BUDGET_EXHAUSTED)
    return found


def _of_run(connection: Connection, run_id: UUID, reason: StopReason) -> list[Ending]:
    rows: Sequence[Any] = connection.execute(
        text(
            "SELECT id, job_id FROM step WHERE run_id = :run_id AND state = 'queued'"
            " LIMIT :rows FOR UPDATE SKIP LOCKED"
        ),
        {"run_id": run_id, "rows": BATCH_ROWS},
    ).all()
    return [Ending(row.job_id, row.id, reason) for row in rows]
