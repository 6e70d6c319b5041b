"""Where drills take place: a Postgres, a Valkey, a dispatcher and three workers, all real.

The stage starts, replaces and ends processes; it breaks nothing and judges nothing. It must be
used from one thread, the servers end with the thread that started them.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from schemas.migrations import upgrade
from schemas.settings import Settings
from tests.acceptance.system import SCRIPTED, System
from workers.stack import PostgresServer, ValkeyServer, postgres_server, valkey_server

WORKERS = 3
SLOTS = 8
#: Claims after which a step fails its job.
MOST_ATTEMPTS = 5
LEASE_S = 4.0
ENVIRONMENT = {
    "PRECEPTOR_LEASE_S": str(LEASE_S),
    "PRECEPTOR_HEARTBEAT_S": "0.5",
    "PRECEPTOR_DISPATCH_INTERVAL_S": "0.2",
    "PRECEPTOR_REPUBLISH_AFTER_S": "2",
    "PRECEPTOR_WATCHDOG_S": "5",
    "PRECEPTOR_MAX_ATTEMPTS": str(MOST_ATTEMPTS),
    "OMP_NUM_THREADS": "1",
}
PRINCIPLES = ["no_harmful_content", "privacy_protection"]


@dataclass(frozen=True)
class Pace:
    """How long drills take.

    Attributes:
        jobs: Plain jobs of one drill.
        step_s: Simulated engine seconds of the average step.
        outage_s: Length of the long outage of Postgres.
        every_s: Seconds between two of a row of faults.
        faults: Most faults of a row.
        logs: Folder that keeps what every process wrote; None where nobody wants it.
    """

    jobs: int
    step_s: float
    outage_s: float
    every_s: float
    faults: int
    logs: Path | None = None


@dataclass(frozen=True)
class Cast:
    """Who plays: the oddity of each process, "" for the product as it is."""

    workers: Sequence[str] = ("",) * WORKERS
    dispatchers: Sequence[str] = ("",)


@dataclass(frozen=True)
class Ending:
    """How a process ended: its exit status, and the end of what it wrote."""

    status: int
    last_words: str


@dataclass
class Player:
    """One place on the stage, the process that fills it now, and those it lost in this drill."""

    oddity: str
    arguments: tuple[str, ...]
    process: subprocess.Popen | None = None
    ended: list[Ending] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether its process runs; a stopped one does too."""
        return self.process is not None and self.process.poll() is None


@dataclass
class Stage:
    """Servers and processes that drills share."""

    system: System
    postgres: PostgresServer
    valkey: ValkeyServer
    pace: Pace
    seed: int
    append_only: bool
    cast: Cast | None = None
    workers: list[Player] = field(default_factory=list)
    dispatchers: list[Player] = field(default_factory=list)

    @contextmanager
    def redis(self) -> Iterator[Redis]:
        """A client that fails at once."""
        with Redis.from_url(self.valkey.url, socket_timeout=5, retry=None) as client:
            yield client

    def perform(self, cast: Cast) -> None:
        """Fill the stage: another cast replaces the present one, else only gaps are filled."""
        if cast != self.cast:
            self.clear()
            serve = ("worker", "--config", str(self.system.config_path), "--model", "small")
            self.dispatchers = [Player(oddity, ("dispatcher",)) for oddity in cast.dispatchers]
            self.workers = [Player(oddity, serve) for oddity in cast.workers]
            self.cast = cast
        for player in self.players:
            if player.alive:
                player.process.send_signal(signal.SIGCONT)
        self.revive()
        for player in self.players:
            self.system.await_ready(player.process)
            player.ended.clear()

    @property
    def players(self) -> list[Player]:
        """Every place."""
        return [*self.dispatchers, *self.workers]

    def revive(self) -> list[Player]:
        """Start a process for every place that lost its own, as a supervisor would."""
        missing = [player for player in self.players if not player.alive]
        for player in missing:
            if player.process is not None:
                player.ended.append(Ending(player.process.returncode, self.log_of(player)[-3_000:]))
            player.process = self._spawn(player)
        return missing

    def _spawn(self, player: Player) -> subprocess.Popen:
        if not player.oddity:
            return self.system.spawn(*player.arguments)
        words = (player.oddity, *player.arguments)
        return self.system.spawn(*words, module="tests.chaos.odd_process")

    def clear(self) -> None:
        """End every process in the gentle way."""
        living = [player.process for player in self.players if player.alive]
        for process in living:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in living:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                self.system.kill(process)

    def log_of(self, player: Player) -> str:
        """What a place's present process wrote."""
        number = self.system.processes.index(player.process)
        return self.system.log_of(number).read_text(errors="replace")


def scripted(pace: Pace, seed: int) -> dict[str, Any]:
    """The run configuration: few principles, and an engine whose steps take ``pace.step_s``."""
    # The average step of these jobs computes 140 words and writes 6.
    speed = {"prefill_tokens_per_s": 200 / pace.step_s, "decode_tokens_per_s": 20 / pace.step_s}
    model = {"engine": "scripted", "model": "scripted", "max_batch_rows": SLOTS, "options": speed}
    return SCRIPTED | {
        "seed": seed,
        "models": {"small": model},
        "constitution": {"name": "default", "principles": PRINCIPLES},
        "policy": {"max_critique_texts": 1, "use_rubrics": False},
    }


@contextmanager
def open_stage(pace: Pace, seed: int, *, append_only: bool = True) -> Iterator[Stage]:
    """Start the servers; processes come with the first cast."""
    folder = Path(tempfile.mkdtemp(prefix="preceptor-chaos-"))
    folder.chmod(0o711)
    try:
        with (
            postgres_server(folder) as postgres,
            valkey_server(folder, append_only=append_only) as valkey,
        ):
            upgrade(postgres.url)
            settings = Settings(
                home=folder / "home", database_url=postgres.url, redis_url=valkey.url
            )
            system = System(settings, folder, scripted(pace, seed), ENVIRONMENT)
            stage = Stage(system, postgres, valkey, pace, seed, append_only)
            try:
                yield stage
            finally:
                stage.clear()
                system.close()
                _keep_logs(folder, pace.logs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep_logs(folder: Path, keep: Path | None) -> None:
    if keep is not None:
        target = Path(tempfile.mkdtemp(prefix="stage-", dir=keep))
        for log in folder.glob("*.log"):
            shutil.copy(log, target)
