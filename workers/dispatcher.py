"""The dispatcher: keeps a thin stream of wake-ups on Redis and mends what got stuck.

One is active, held by an advisory lock; any number stand by. It never runs a model and never
decides about a loop. Killing it loses nothing: all it knows is in the ledger.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from schemas.database import transaction
from schemas.errors import BrokerError, LedgerError
from schemas.routing import PRIORITY_FIRST_STEP, PRIORITY_NEXT_STEP
from schemas.settings import Settings
from workers import backlog
from workers.backlog import Ending, QueueLoad, ReadyStep
from workers.endings import end_job
from workers.telemetry import BACKLOG, PUBLISHED, RECLAIMED, REPUBLISHED, SLOTS

log = logging.getLogger(__name__)

DISPATCHER_LOCK = 0x50524344
Publish = Callable[[UUID, str, int], None]


class Dispatcher:
    """Serves one ledger.

    Args:
        engine: The ledger.
        publish: Puts a wake-up on Redis.
        settings: Intervals and limits.
    """

    def __init__(self, engine: Engine, publish: Publish, settings: Settings) -> None:
        self._engine = engine
        self._publish = publish
        self._settings = settings
        self._stop = threading.Event()

    def stop(self) -> None:
        """End ``run`` after its present round."""
        self._stop.set()

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until stopped; stand by while another dispatcher is active.

        Args:
            on_ready: Called once, when the ledger has been reached.
        """
        said_ready = False
        while not self._stop.is_set():
            try:
                with self._engine.connect() as connection:
                    if not said_ready:
                        on_ready()
                        said_ready = True
                    self._lead(connection)
            except (LedgerError, DBAPIError) as error:
                log.warning("the ledger is away, trying again: %s", error)
            self._stop.wait(self._settings.dispatch_interval_s)

    def _lead(self, connection: Connection) -> None:
        """Serve for as long as this connection holds the lock: it ends with the connection."""
        lock = connection.execute(
            text("SELECT pg_try_advisory_lock(:key)"), {"key": DISPATCHER_LOCK}
        )
        leading = bool(lock.scalar())
        connection.commit()
        if not leading:
            return
        log.info("dispatching")
        while not self._stop.is_set():
            connection.execute(text("SELECT 1"))
            connection.commit()
            self.dispatch_once()
            self._stop.wait(self._settings.dispatch_interval_s)
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": DISPATCHER_LOCK})
        connection.commit()

    def dispatch_once(self) -> int:
        """One round: mend, end what has run out, publish what is ready.

        Returns:
            Wake-ups published.
        """
        self._mend()
        self._end_jobs()
        published = 0
        with transaction(self._engine) as connection:
            loads = backlog.queue_loads(connection)
        for load in loads:
            _measure(load)
            published += self._fill(load)
        return published

    def _mend(self) -> None:
        settings = self._settings
        with transaction(self._engine) as connection:
            reclaimed = backlog.reclaim_expired(connection, settings.max_attempts)
            stale = backlog.unpublish_stale(connection, settings.republish_after_s)
        RECLAIMED.inc(reclaimed)
        REPUBLISHED.inc(stale)
        if reclaimed or stale:
            log.info("reclaimed %d leases, %d lost messages", reclaimed, stale)

    def _end_jobs(self) -> None:
        most = self._settings.max_attempts
        finders: tuple[Callable[[Connection], list[Ending]], ...] = (
            lambda connection: backlog.exhausted_jobs(connection, most),
            backlog.cancelled_jobs,
            backlog.overdue_jobs,
            backlog.over_budget_jobs,
        )
        for find in finders:
            with transaction(self._engine) as connection:
                for ending in find(connection):
                    end_job(connection, ending)

    def _fill(self, load: QueueLoad) -> int:
        """Publish up to ``backlog_factor`` messages a slot, in fair turns over the runs."""
        wanted = int(load.slots * self._settings.backlog_factor) - load.published
        if wanted <= 0:
            return 0
        ready: list[ReadyStep] = []
        with transaction(self._engine) as connection:
            runs = backlog.active_runs(connection)
            for position, run_id in enumerate(runs):
                share = -(-(wanted - len(ready)) // (len(runs) - position))
                ready += backlog.mark_published(connection, load.queue, run_id, share)
        # After the commit: a message must never name a row that is not there.
        for step in ready:
            self._send(step)
        return len(ready)

    def _send(self, step: ReadyStep) -> None:
        try:
            priority = PRIORITY_FIRST_STEP if step.first else PRIORITY_NEXT_STEP
            self._publish(step.id, step.queue, priority)
            PUBLISHED.labels("dispatcher").inc()
        except BrokerError as error:
            log.warning("%s; published again later", error)


def _measure(load: QueueLoad) -> None:
    SLOTS.labels(load.queue).set(load.slots)
    BACKLOG.labels(load.queue, "published").set(load.published)
    BACKLOG.labels(load.queue, "running").set(load.running)
