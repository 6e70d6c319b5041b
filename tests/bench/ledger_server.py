"""An empty ledger on an embedded Postgres of its own, for the time of a benchmark."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from schemas.database import open_database
from schemas.migrations import upgrade
from workers.stack import postgres_server


@contextmanager
def empty_ledger(pool_size: int) -> Iterator[tuple[str, Engine]]:
    """Its address, and connections to it."""
    folder = Path(tempfile.mkdtemp(prefix="preceptor-bench-"))
    # The server may run as another user, who has to get there.
    folder.chmod(0o711)
    try:
        with postgres_server(folder) as server:
            upgrade(server.url)
            database = open_database(server.url, pool_size=pool_size)
            yield server.url, database
            database.dispose()
    finally:
        shutil.rmtree(folder)
