"""What must hold after a drill: counts, identities, contents, leases and attempts of one run.

Questions to the ledger, and nothing else. Contents are compared as digests of every row a job
has, without what may differ between two runs of the same jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tests.chaos.scene import Failure

#: Ids of a run, times, places in the order of submission, and how often and by whom it was done.
MAY_DIFFER = [
    "id",
    "job_id",
    "run_id",
    "step_id",
    "created_at",
    "accepted_at",
    "started_at",
    "ended_at",
    "ordinal",
    "attempt",
    "fence",
    "worker",
    "lease_until",
    "not_before",
    "published_at",
    "publish_count",
    "queue_wait_s",
    "engine_s",
]
#: A step that succeeded may still tell of its earlier tries.
OF_EARLIER_TRIES = ["error_code", "error", "raw_text"]

#: What makes a row of each table one effect and no other.
IDENTITIES = {
    "job": "external_id",
    "step": "job_id, kind, round, revision_try",
    "judgement": 'step_id, kind, round, principle, "order"',
    "revision": "job_id, round, revision_try",
    "preference": "job_id, round, revision_try, principle",
}


def _content_of(table: str) -> str:
    job_id = "id" if table == "job" else "job_id"
    content = f"to_jsonb({table}) - CAST(:left_out AS text[])"
    if table == "step":
        content += " - CASE state WHEN 'done' THEN CAST(:of_tries AS text[]) ELSE '{}' END"
    return (
        f"SELECT {job_id} AS job_id, '{table} ' || CAST({content} AS text) AS content"
        f" FROM {table} WHERE run_id = :run"
    )


_CONTENTS = text(
    f"WITH line AS ({' UNION ALL '.join(map(_content_of, IDENTITIES))})"
    " SELECT job.external_id, md5(string_agg(line.content, E'\\n' ORDER BY line.content))"
    " FROM line JOIN job ON job.id = line.job_id GROUP BY 1"
)
_JOBS = text(
    "SELECT count(*) AS submitted, count(*) FILTER (WHERE state = 'done') AS done,"
    " count(*) FILTER (WHERE state = 'failed') AS failed,"
    " count(*) FILTER (WHERE state = 'cancelled') AS cancelled FROM job WHERE run_id = :run"
)
_STEPS = text(
    "SELECT count(*) FILTER (WHERE attempt > 0) AS steps, coalesce(sum(attempt), 0) AS begun,"
    " coalesce(max(attempt), 0) AS most_attempts,"
    " coalesce(max(attempt) FILTER (WHERE external_id <> ALL(:must_fail)), 0) AS most_of_healthy,"
    " count(*) FILTER (WHERE step.state IN ('queued','running') OR lease_until IS NOT NULL)"
    " AS open FROM step JOIN job ON job.id = step.job_id WHERE step.run_id = :run"
)
#: What a run used is added up as its steps are committed: a step counted twice would show.
_TALLIED = text(
    "SELECT (SELECT (count(*) FILTER (WHERE state = 'done'), coalesce(sum(input_tokens), 0),"
    "  coalesce(sum(output_tokens), 0))::text FROM step WHERE run_id = :run) AS in_rows,"
    " (SELECT (coalesce(sum(steps_done), 0), coalesce(sum(input_tokens), 0),"
    "  coalesce(sum(output_tokens), 0))::text FROM tally WHERE run_id = :run) AS in_sums"
)
_FAILED = text(
    "SELECT external_id, stop_reason, error_code FROM job WHERE run_id = :run AND state = 'failed'"
)


@dataclass(frozen=True)
class Counts:
    """A run in numbers.

    Attributes:
        steps: Steps that were begun at all.
        begun: How often they were begun.
        most_attempts: How often any one was begun.
        most_of_healthy: How often any one was begun of a job whose content is sound.
        open: Steps that have not ended or still have a lease.
    """

    submitted: int
    done: int
    failed: int
    cancelled: int
    steps: int
    begun: int
    most_attempts: int
    most_of_healthy: int
    open: int

    @property
    def ended(self) -> int:
        """Jobs that ended."""
        return self.done + self.failed + self.cancelled


def count(connection: Connection, run_id: UUID, must_fail: Collection[str]) -> Counts:
    """Count a run's jobs and steps."""
    named = {"run": run_id, "must_fail": list(must_fail)}
    jobs = connection.execute(_JOBS, {"run": run_id}).one()._mapping
    steps = connection.execute(_STEPS, named).one()._mapping
    return Counts(**jobs, **{name: int(value) for name, value in steps.items()})


def contents(connection: Connection, run_id: UUID) -> dict[str, str]:
    """Digest of everything a run has on each job, by the caller's id."""
    left_out = {"run": run_id, "left_out": MAY_DIFFER, "of_tries": OF_EARLIER_TRIES}
    return {str(name): digest for name, digest in connection.execute(_CONTENTS, left_out)}


def duplicates(connection: Connection, run_id: UUID) -> int:
    """Rows beyond the first of each identity."""
    surplus = 0
    for table, identity in IDENTITIES.items():
        statement = f"SELECT count(*) - count(DISTINCT ({identity})) FROM {table}"
        statement += " WHERE run_id = :run"
        surplus += int(connection.execute(text(statement), {"run": run_id}).scalar_one())
    return surplus


def wrong_sums(connection: Connection, run_id: UUID) -> str | None:
    """How the run's sums of steps and tokens differ from its rows; None where they agree."""
    row = connection.execute(_TALLIED, {"run": run_id}).one()
    return None if row.in_rows == row.in_sums else f"sums {row.in_sums}, rows {row.in_rows}"


def different(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Jobs of the undisturbed run that are missing or have other contents here."""
    return [name for name, digest in expected.items() if found.get(name) != digest]


def wrong_failures(
    connection: Connection, run_id: UUID, must_fail: Mapping[str, Failure]
) -> list[str]:
    """Jobs that failed and should not have, or failed otherwise, or did not fail."""
    rows: Any = connection.execute(_FAILED, {"run": run_id})
    failed = {row.external_id: Failure(row.stop_reason, row.error_code) for row in rows}
    names = failed.keys() | must_fail.keys()
    return [
        f"{name}: {failed.get(name)}, expected {must_fail.get(name)}"
        for name in sorted(names)
        if failed.get(name) != must_fail.get(name)
    ]
