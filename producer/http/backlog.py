"""How many jobs wait in the whole ledger, and whether one more batch may join them.

Asked before each batch, so the count is kept for a moment. An open job has one open step, and
open steps are counted from their small indexes.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, text

from producer.http.ledger import Ledger
from schemas.errors import LimitReached

FRESH_S = 2.0
#: Seconds until a client should try again when the backlog is full.
RETRY_AFTER_S = 15

_OPEN = text(
    "SELECT count(*) FROM (SELECT 1 FROM step WHERE state = 'queued' LIMIT :enough) AS queued"
)


class Backlog:
    """The limit on open jobs, shared by all requests of one process.

    Args:
        ledger: Where they are counted.
        max_jobs: Open jobs at which no more are taken. Several server processes, and batches
            that are under way, may each go past it by what they took within two seconds.
    """

    def __init__(self, ledger: Ledger, max_jobs: int) -> None:
        self._ledger = ledger
        self._max_jobs = max_jobs
        self._open_jobs = 0
        self._counted_at = float("-inf")

    async def check(self) -> None:
        """Let a batch pass.

        Raises:
            LimitReached: The backlog is full.
        """
        if time.monotonic() - self._counted_at > FRESH_S:
            self._open_jobs = await self._ledger.run(self._count)
            self._counted_at = time.monotonic()
        if self._open_jobs >= self._max_jobs:
            raise LimitReached(
                f"{self._max_jobs:,} jobs wait already, which is the limit of this ledger: send "
                "the rest when some have ended",
                RETRY_AFTER_S,
            )

    def add(self, jobs: int) -> None:
        """Count jobs that were just accepted."""
        self._open_jobs += jobs

    def _count(self, connection: Connection) -> int:
        return int(connection.execute(_OPEN, {"enough": self._max_jobs}).scalar_one())
