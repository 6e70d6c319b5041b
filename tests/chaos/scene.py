"""One drill at work: its own run on the stage, the faults it makes, and the wait for the end."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from producer import Client
from schemas.errors import LedgerError
from schemas.routing import run_id_of
from tests.acceptance.system import wait_for
from tests.chaos.jobs import plain_jobs
from tests.chaos.stage import MOST_ATTEMPTS, Player, Stage

#: A run that is not through by then has lost something.
FINISH_S = 240.0

_OPEN = text("SELECT count(*) FROM job WHERE run_id = :run AND stop_reason IS NULL")
_ENDED = text("SELECT count(*) FROM step WHERE run_id = :run AND state = 'done'")
_HELD = text("SELECT count(*) FROM step WHERE state = 'running' AND worker LIKE :worker")


@dataclass(frozen=True)
class Fault:
    """A fault in wall-clock time: when it began, and when its cause was gone."""

    at: float
    healed_at: float


@dataclass(frozen=True)
class Failure:
    """How a job has to end whose content makes it fail."""

    stop_reason: str
    error_code: str


@dataclass
class Scene:
    """What one drill does and what it has to say.

    Attributes:
        faults: Faults so far.
        notes: Figures of this drill alone, for the report.
        must_fail: Jobs, by their id, that cannot succeed.
        given_back: Steps begun, withdrawn in good order, and not counted as an attempt.
        most_attempts: Times that a step of a sound job may be begun.
        submitted: Jobs that were handed in.
    """

    stage: Stage
    name: str
    rng: random.Random
    faults: list[Fault] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    must_fail: dict[str, Failure] = field(default_factory=dict)
    given_back: int = 0
    most_attempts: int = MOST_ATTEMPTS
    submitted: int = 0

    @property
    def run_id(self) -> UUID:
        """The run of this drill."""
        return run_id_of(self.name)

    def start(self, marked: Sequence[dict[str, Any]] = ()) -> None:
        """Submit the plain jobs and the marked ones in a random order; wait until all is busy."""
        jobs = [*plain_jobs(self.stage.pace.jobs), *marked]
        self.rng.shuffle(jobs)
        self.submitted = len(jobs)
        with Client(settings=self.stage.system.settings) as client:
            client.submit_many(jobs, run=self.name, config=self.stage.system.config_path)
        enough = self.stage.pace.jobs // 5
        wait_for(lambda: self._count(_ENDED) >= enough, "a fifth as many steps as jobs are done")

    def expect(self, marked: Sequence[dict[str, Any]], stop_reason: str, code: str) -> None:
        """Say that these jobs must fail, and how."""
        self.must_fail |= {job["id"]: Failure(stop_reason, code) for job in marked}

    def still_open(self) -> int:
        """Jobs that have not ended."""
        return self._count(_OPEN)

    def held_by(self, player: Player) -> int:
        """Steps that a worker runs at this moment."""
        assert player.process
        with self.stage.system.database.connect() as connection:
            worker = {"worker": f"%-{player.process.pid}@%"}
            return int(connection.execute(_HELD, worker).scalar_one())

    def _count(self, statement: Any) -> int:
        with self.stage.system.database.connect() as connection:
            return int(connection.execute(statement, {"run": self.run_id}).scalar_one())

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Break something inside the block; at its end the cause is gone."""
        assert self.still_open(), f"{self.name}: the run ended before its fault, use more --jobs"
        at = time.time()
        yield
        self.faults.append(Fault(at, time.time()))

    def in_a_row(self, act: Callable[[], None]) -> int:
        """Do it every few seconds while the run goes on; how often it was done."""
        pace, done = self.stage.pace, 0
        while done < pace.faults and self.still_open():
            with self.fault():
                act()
            done += 1
            self.watch(pace.every_s)
        return done

    def watch(self, seconds: float) -> None:
        """Let time pass, replacing processes that die, at most until the run has ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.still_open():
            self.stage.revive()
            time.sleep(0.2)

    def kill(self, player: Player) -> None:
        """SIGKILL a process."""
        assert player.process
        self.stage.system.kill(player.process)

    def send(self, player: Player, signal_number: signal.Signals) -> None:
        """Signal a process."""
        assert player.process
        player.process.send_signal(signal_number)

    def finish(self) -> None:
        """Wait until every job has ended, replacing processes that die meanwhile."""
        wait_for(self._through, lambda: self._why_open(), FINISH_S)

    def expect_nobody_ended(self) -> None:
        """Check that every process has outlived the faults."""
        ended = [
            f"{player.arguments[0]} with status {ending.status}: ...{ending.last_words}"
            for player in self.stage.players
            for ending in player.ended
        ]
        assert not ended, "processes ended that should not have:\n" + "\n".join(ended)

    def _through(self) -> bool:
        self.stage.revive()
        try:
            return not self.still_open()
        except (DBAPIError, LedgerError):
            return False

    def _why_open(self) -> str:
        steps = self.stage.system.open_steps()
        logs = "\n".join(self.stage.log_of(player)[-2_000:] for player in self.stage.players)
        return f"{self.name}: {len(steps)} open steps, e.g. {steps[:5]}\n{logs}"
