"""Rows of new jobs and their first steps, written by COPY.

COPY knows no ON CONFLICT. So the jobs that are there already are asked for first, and where
another submitter was faster in between, its rows are waited for and asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Protocol, cast
from uuid import UUID

import psycopg
from psycopg.errors import UniqueViolation
from sqlalchemy import Connection

from schemas.errors import LedgerError, LedgerRefused

JOB_COLUMNS = ("id", "run_id", "job_key", "kind", "external_id", "ordinal", "payload")
STEP_COLUMNS = (
    "id", "job_id", "run_id", "kind", "round", "revision_try", "depth", "ordinal", "queue", "role"
)  # fmt: skip
_COPY_JOBS = f"COPY job ({', '.join(JOB_COLUMNS)}) FROM STDIN"
_COPY_STEPS = f"COPY step ({', '.join(STEP_COLUMNS)}) FROM STDIN"


class NewRows(Protocol):
    """A job's rows, made when their turn comes: meanwhile the server works on those before."""

    def job_row(self) -> tuple[Any, ...]:
        """Values in the order of ``JOB_COLUMNS``."""
        ...

    def step_row(self) -> tuple[Any, ...]:
        """Values of its first step in the order of ``STEP_COLUMNS``."""
        ...


def copy_new(connection: Connection, rows: Mapping[UUID, NewRows]) -> int:
    """Write the rows of those jobs that the ledger does not have.

    Args:
        connection: Inside a transaction, which the caller commits.
        rows: By the job's id.

    Returns:
        How many jobs were new.

    Raises:
        LedgerError: The server is away or refused the rows.
    """
    with _translated():
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        known = -1
        while len(found := _known(driver, rows)) > known:
            known = len(found)
            new = {job_id: rows[job_id] for job_id in rows if job_id not in found}
            try:
                if new:
                    with connection.begin_nested():
                        _copy(driver, new)
                return len(new)
            except UniqueViolation:
                # Another submitter has committed some of them by now: ask again.
                continue
    raise LedgerError("jobs are refused as known and cannot be found: submit again")


def _known(driver: psycopg.Connection[Any], rows: Mapping[UUID, NewRows]) -> set[UUID]:
    found = driver.execute("SELECT id FROM job WHERE id = ANY(%s)", [list(rows)])
    return {row[0] for row in found}


def _copy(driver: psycopg.Connection[Any], new: Mapping[UUID, NewRows]) -> None:
    with driver.cursor() as cursor:
        # In the order of their ids: two submitters of the same jobs in different orders would
        # otherwise wait for each other's rows.
        with cursor.copy(_COPY_JOBS) as jobs:
            for job_id in sorted(new, key=attrgetter("int")):
                jobs.write_row(new[job_id].job_row())
        with cursor.copy(_COPY_STEPS) as steps:
            for rows in new.values():
                steps.write_row(rows.step_row())


@contextmanager
def _translated() -> Iterator[None]:
    # COPY goes past SQLAlchemy, and so past its translation of the driver's errors.
    try:
        yield
    except psycopg.OperationalError as error:
        raise LedgerError(f"the ledger is out of reach: {_first_line(error)}") from error
    except psycopg.Error as error:
        raise LedgerRefused(f"the ledger refused a batch of jobs: {_first_line(error)}") from error


def _first_line(error: psycopg.Error) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
