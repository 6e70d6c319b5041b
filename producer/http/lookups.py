"""Finding the run that a request names."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, select

from schemas.errors import Conflict, NotFound
from schemas.progress import fetch_progress
from schemas.results import RunProgress
from schemas.routing import run_id_of
from schemas.tables import Run


def require_run(connection: Connection, run: str, *, open_to_jobs: bool = False) -> UUID:
    """The id of the run called ``run``.

    Args:
        open_to_jobs: Refuse a cancelled run, and keep it from being cancelled until the
            transaction ends.

    Raises:
        NotFound: No such run.
        Conflict: It takes no more jobs.
    """
    statement = select(Run.id, Run.state).where(Run.id == run_id_of(run))
    if open_to_jobs:
        statement = statement.with_for_update(read=True)
    found = connection.execute(statement).first()
    if found is None:
        raise NotFound(f"no run is called '{run}': GET /v1/runs lists them, POST makes one")
    if open_to_jobs and found.state == "cancelled":
        raise Conflict(f"run '{run}' was cancelled and takes no more jobs: use another name")
    run_id: UUID = found.id
    return run_id


def progress_of_run(connection: Connection, run: str) -> RunProgress:
    """How the run called ``run`` stands.

    Raises:
        NotFound: No such run.
    """
    return fetch_progress(connection, require_run(connection, run))
