"""How runs stand, and how one is cancelled: a few aggregate statements over indexed columns.

Reads and ends rows; it publishes nothing and never looks into a job's history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from schemas.errors import ContractError
from schemas.results import QueueProgress, RunProgress
from schemas.routing import model_queue, run_id_of

#: A worker that has not been seen for this long counts as dead.
LIVE_WITHIN_S = 15.0

_RUN = text("SELECT id, name, state, config -> 'roles' AS roles FROM run WHERE id = :run")

_JOBS = text(
    "SELECT state, stop_reason, error_code, count(*) AS jobs, min(accepted_at) AS first_at,"
    " max(ended_at) AS last_at, now() AS now FROM job WHERE run_id = :run GROUP BY 1, 2, 3"
)

_STEPS = text(
    "SELECT state, round, kind, queue, count(*) AS steps, sum(input_tokens) AS input_tokens,"
    " sum(output_tokens) AS output_tokens, sum(cached_tokens) AS cached_tokens,"
    " sum(engine_s) AS engine_s, sum(cost_usd) AS cost_usd"
    " FROM step WHERE run_id = :run GROUP BY 1, 2, 3, 4"
)

_WORKERS = text(
    "SELECT queue, count(*) AS workers, sum(slots) AS slots FROM worker"
    " WHERE seen_at > now() - make_interval(secs => :within_s) GROUP BY queue"
)

_RUNS = text(
    "SELECT run.name, run.state, run.created_at, counted.* FROM run"
    " LEFT JOIN LATERAL (SELECT count(*) AS submitted,"
    " count(*) FILTER (WHERE job.state IN ('queued', 'running')) AS open,"
    " count(*) FILTER (WHERE job.state = 'failed') AS failed"
    " FROM job WHERE job.run_id = run.id) AS counted ON true"
    " ORDER BY run.created_at DESC LIMIT :limit"
)

_CANCEL_RUN = text("UPDATE run SET state = 'cancelled' WHERE id = :run")

#: Steps before jobs, the order in which workers lock them.
_CANCEL_STEPS = text(
    "UPDATE step SET state = 'cancelled', ended_at = now() FROM job"
    " WHERE step.run_id = :run AND step.state = 'queued'"
    " AND job.id = step.job_id AND job.state = 'queued' RETURNING job.id"
)

#: Nothing was written for these jobs yet, so what they came with is what they keep.
_CANCEL_JOBS = text(
    "UPDATE job SET state = 'cancelled', stop_reason = 'cancelled', ended_at = now(),"
    " final_response = payload ->> 'response'"
    " WHERE id = ANY(:jobs) AND stop_reason IS NULL"
)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of the list of runs."""

    name: str
    state: str
    created_at: datetime
    submitted: int
    open: int
    failed: int


def list_runs(connection: Connection, *, limit: int = 50) -> list[RunSummary]:
    """The newest runs."""
    rows = connection.execute(_RUNS, {"limit": limit})
    return [RunSummary(**row) for row in rows.mappings()]


def fetch_progress(connection: Connection, run_id: UUID) -> RunProgress:
    """How one run stands.

    Raises:
        ContractError: No such run.
    """
    run = connection.execute(_RUN, {"run": run_id}).first()
    if run is None:
        raise ContractError(f"no run has the id {run_id}")
    jobs = connection.execute(_JOBS, {"run": run_id}).all()
    steps = connection.execute(_STEPS, {"run": run_id}).all()
    by_state = _count(jobs, "state", "jobs")
    return RunProgress(
        run=run.name,
        run_id=run_id,
        state=run.state,
        submitted=by_state.total(),
        queued=by_state["queued"],
        running=by_state["running"],
        done=by_state["done"],
        failed=by_state["failed"],
        cancelled=by_state["cancelled"],
        by_stage=_stages(steps),
        by_stop_reason=dict(_count(jobs, "stop_reason", "jobs")),
        errors=dict(_count([j for j in jobs if j.state == "failed"], "error_code", "jobs")),
        queues=_queues(connection, _served(run.roles, steps), steps),
        active_s=_active_s(jobs),
        **_sums(steps),
    )


def progress_of(connection: Connection, name: str) -> RunProgress:
    """How the run called ``name`` stands.

    Raises:
        ContractError: No such run.
    """
    try:
        return fetch_progress(connection, run_id_of(name))
    except ContractError as error:
        raise ContractError(
            f"no run is called '{name}': 'preceptor status' lists the runs"
        ) from error


def cancel_run(connection: Connection, run_id: UUID) -> int:
    """Cancel a run: it takes no more jobs, and the jobs nobody has begun end now.

    The others end when their worker next commits or beats, or by the dispatcher where no worker
    holds them.

    Args:
        connection: Inside a transaction, which the caller commits.
        run_id: The run; cancelling twice changes nothing.

    Returns:
        Jobs that ended at once.

    Raises:
        ContractError: No such run.
    """
    if connection.execute(_CANCEL_RUN, {"run": run_id}).rowcount == 0:
        raise ContractError(f"no run has the id {run_id}")
    jobs = connection.execute(_CANCEL_STEPS, {"run": run_id}).scalars().all()
    if jobs:
        connection.execute(_CANCEL_JOBS, {"jobs": list(jobs)})
    return len(jobs)


def _count(rows: Iterable[Row[Any]], key: str, amount: str) -> Counter[str]:
    counted: Counter[str] = Counter()
    for row in rows:
        if getattr(row, key) is not None:
            counted[getattr(row, key)] += getattr(row, amount)
    return counted


def _stages(steps: Iterable[Row[Any]]) -> dict[str, int]:
    counted: Counter[tuple[int, str]] = Counter()
    for row in steps:
        if row.state in ("queued", "running"):
            counted[row.round, row.kind] += row.steps
    return {f"{round_number}/{kind}": n for (round_number, kind), n in sorted(counted.items())}


def _sums(steps: Iterable[Row[Any]]) -> dict[str, Any]:
    rows = list(steps)
    tokens = ("input_tokens", "output_tokens", "cached_tokens")
    measures = ("engine_s", "cost_usd")
    return {
        **{name: int(sum(getattr(row, name) for row in rows)) for name in tokens},
        **{name: float(sum(getattr(row, name) for row in rows)) for name in measures},
        "steps_done": sum(row.steps for row in rows if row.state == "done"),
    }


def _served(roles: dict[str, str], steps: Iterable[Row[Any]]) -> list[str]:
    named = [model_queue(model) for model in roles.values()]
    return list(dict.fromkeys([*named, *sorted({row.queue for row in steps})]))


def _queues(
    connection: Connection, names: list[str], steps: Iterable[Row[Any]]
) -> tuple[QueueProgress, ...]:
    rows = list(steps)
    live = {row.queue: row for row in connection.execute(_WORKERS, {"within_s": LIVE_WITHIN_S})}
    queued = _count([row for row in rows if row.state == "queued"], "queue", "steps")
    running = _count([row for row in rows if row.state == "running"], "queue", "steps")
    return tuple(
        QueueProgress(
            queue=name,
            queued=queued[name],
            running=running[name],
            live_workers=live[name].workers if name in live else 0,
            live_slots=int(live[name].slots) if name in live else 0,
        )
        for name in names
    )


def _active_s(jobs: Sequence[Row[Any]]) -> float:
    if not jobs:
        return 0.0
    first_at = min(row.first_at for row in jobs)
    still_open = any(row.state in ("queued", "running") for row in jobs)
    last_at = jobs[0].now if still_open else max(row.last_at for row in jobs)
    return float((last_at - first_at).total_seconds())
