"""A transaction whose statements travel together, for the two that every step makes.

A claim and a commit are a handful of statements each; sent one by one they wait for the server
more than they work. Plain SQL only: nothing here knows a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Cursor
from psycopg.rows import DictRow, dict_row
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from schemas.errors import LedgerError, LedgerRefused

#: What the server says of values that it will never take. Not of statements: those it refuses
#: while the tables are being changed, and a step must not fail for that.
REFUSALS = (psycopg.DataError, psycopg.IntegrityError)


class Pipeline:
    """An open transaction."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def send(self, statement: str, values: Mapping[str, Any]) -> Cursor[DictRow]:
        """Send a statement without waiting for it.

        Returns:
            Its result, to be fetched after the transaction, or earlier at the price of a wait.
        """
        cursor = self._driver.cursor(row_factory=dict_row)
        # Our own constants, never text from outside.
        return cursor.execute(statement.encode(), values)


@contextmanager
def pipelined(engine: Engine) -> Iterator[Pipeline]:
    """One transaction; commits at the end, rolls back on any exception.

    A statement that fails undoes them all, also those that were sent after it.

    Raises:
        LedgerRefused: The server will not take a value, however often it is sent.
        LedgerError: The server is away; whether the transaction was committed is not known.
    """
    try:
        with engine.connect() as connection:
            driver = _driver_of(connection)
            with _in_our_hands(driver), driver.pipeline():
                pipeline = Pipeline(driver)
                pipeline.send("BEGIN", {})
                yield pipeline
                pipeline.send("COMMIT", {})
    except DBAPIError as error:
        raise _translated(engine, error.orig or error) from error
    except psycopg.Error as error:
        raise _translated(engine, error) from error


@contextmanager
def _in_our_hands(driver: psycopg.Connection[Any]) -> Iterator[None]:
    """Begin and commit by statements among the others: the driver's own would wait each time."""
    driver.autocommit = True
    try:
        yield
    finally:
        if not driver.closed:
            driver.rollback()
            driver.autocommit = False


def _driver_of(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _translated(engine: Engine, error: BaseException) -> LedgerError:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    if isinstance(error, REFUSALS):
        return LedgerRefused(f"the ledger cannot hold a value: {reason}")
    # A server that restarted has cut all pooled connections; the next try begins with a new one.
    engine.dispose()
    return LedgerError(f"the ledger is out of reach: {reason}")
