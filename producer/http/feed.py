"""The latest progress of each run that somebody listens to.

All listeners of a run share one question to the ledger a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from anyio import Event, Lock, move_on_after

from producer.http.ledger import Ledger
from producer.http.lookups import progress_of_run
from schemas.errors import LedgerError
from schemas.results import RunProgress

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0


@dataclass(slots=True)
class _Watched:
    lock: Lock = field(default_factory=Lock)
    listeners: int = 0
    asked_at: float = float("-inf")
    progress: RunProgress | None = None


class Feed:
    """Progress for any number of listeners."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._watched: dict[str, _Watched] = {}

    async def follow(
        self, run: str, first: RunProgress, leaving: Event
    ) -> AsyncGenerator[RunProgress, None]:
        """Progress as it changes, beginning with ``first``; the last has nothing open.

        Args:
            leaving: Set when the server stops; ends early then.
        """
        watched = self._watched.setdefault(run, _Watched())
        watched.listeners += 1
        try:
            yield first
            seen = first
            while seen.open and not await _happens(leaving, INTERVAL_S):
                latest = await self._latest(run, watched)
                if latest is not None and _shown(latest) != _shown(seen):
                    seen = latest
                    yield seen
        finally:
            watched.listeners -= 1
            if not watched.listeners:
                self._watched.pop(run, None)

    def listeners(self, run: str) -> int:
        """How many listen to a run."""
        watched = self._watched.get(run)
        return watched.listeners if watched else 0

    async def _latest(self, run: str, watched: _Watched) -> RunProgress | None:
        async with watched.lock:
            if time.monotonic() - watched.asked_at >= INTERVAL_S:
                watched.asked_at = time.monotonic()
                try:
                    watched.progress = await self._ledger.run(partial(progress_of_run, run=run))
                except LedgerError as error:
                    # Listeners wait it out: the run goes on without them.
                    logger.warning("no progress of run '%s': %s", run, error)
            return watched.progress


async def _happens(event: Event, within_s: float) -> bool:
    with move_on_after(within_s):
        await event.wait()
    return event.is_set()


def _shown(progress: RunProgress) -> Any:
    # The clock alone is no news.
    return progress.model_dump(exclude={"active_s"})
