"""Opening the ledger for a command that reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from schemas.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from schemas.acceptance import OpenRun


@contextmanager
def ledger() -> Iterator[Engine]:
    from schemas.database import check_revision, open_database

    engine = open_database(load_settings().require_database_url(), pool_size=2)
    try:
        check_revision(engine)
        yield engine
    finally:
        engine.dispose()


@contextmanager
def reading(run: str) -> Iterator[tuple[Connection, OpenRun]]:
    from schemas.acceptance import find_run
    from schemas.database import transaction

    with ledger() as engine, transaction(engine) as connection:
        yield connection, find_run(connection, run)
