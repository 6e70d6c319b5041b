"""The heartbeat: one thread a worker renews all its leases and says that it lives.

It stops renewing when the engine stops making progress, so that a hung worker loses its steps
to others, and then ends the process for the supervisor to restart.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from schemas.errors import LedgerError
from workers.ledger import Ledger
from workers.step_records import ClaimedStep

log = logging.getLogger(__name__)

#: Exit status of a worker whose engine hangs; a supervisor restarts it.
EXIT_ENGINE_STUCK = 70


class Heartbeat:
    """Renews what this worker holds.

    Args:
        ledger: This worker's ledger.
        announce: Called at each beat to say that the worker lives.
        engine_idle_s: Seconds since the engine's last progress, 0 while it has nothing to do.
        interval_s: Seconds between beats.
        watchdog_s: Engine silence after which the process exits.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        announce: Callable[[], None],
        engine_idle_s: Callable[[], float],
        interval_s: float,
        watchdog_s: float,
    ) -> None:
        self._ledger = ledger
        self._announce = announce
        self._engine_idle_s = engine_idle_s
        self._interval_s = interval_s
        self._watchdog_s = watchdog_s
        self._owned: dict[UUID, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; leases then run out by themselves."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._interval_s + 5)

    @contextmanager
    def hold(self, step: ClaimedStep) -> Iterator[None]:
        """Keep a step's lease alive while the block runs."""
        with self._lock:
            self._owned[step.id] = step.fence
        try:
            yield
        finally:
            with self._lock:
                self._owned.pop(step.id, None)

    def held(self) -> int:
        """Steps in progress."""
        with self._lock:
            return len(self._owned)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._check_engine()
            self._beat()

    def _check_engine(self) -> None:
        idle_s = self._engine_idle_s()
        if idle_s > self._watchdog_s:
            log.critical("the engine made no progress for %.0f s; exiting", idle_s)
            # Not sys.exit: a hung native call would keep the interpreter from ever ending.
            os._exit(EXIT_ENGINE_STUCK)

    def _beat(self) -> None:
        with self._lock:
            owned = dict(self._owned)
        try:
            self._announce()
            lost = self._ledger.renew(owned)
        except LedgerError as error:
            log.warning("heartbeat failed, leases run on: %s", error)
            return
        with self._lock:
            lost &= set(self._owned)
        if lost:
            log.warning("leases lost or cancelled", extra={"steps": [str(s) for s in lost]})
