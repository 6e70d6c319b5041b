"""A running system for acceptance tests: real servers, real subprocesses, the scripted engine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from sqlalchemy import text

from schemas.config_file import load_config
from schemas.database import open_database, transaction
from schemas.histories import iter_results
from schemas.progress import fetch_progress
from schemas.results import JobResult, RunProgress
from schemas.routing import run_id_of
from schemas.settings import Settings

ROOT = Path(__file__).parents[2]
SCRIPTED = {
    "models": {"small": {"engine": "scripted", "model": "scripted", "max_batch_rows": 8}},
    "roles": {"policy": "small", "critic": "small", "judge": "small"},
}


def wait_for(
    condition: Callable[[], object], what: str | Callable[[], str], within_s: float = 60.0
) -> None:
    """Poll until the condition holds; fail with ``what`` when the time is up."""
    give_up_at = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not within {within_s} s: {what() if callable(what) else what}")
        time.sleep(0.05)


@dataclass
class System:
    """Processes around one ledger and one broker; ``close`` ends what it started."""

    settings: Settings
    folder: Path
    config: dict = field(default_factory=lambda: dict(SCRIPTED))
    environment: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config_path = self.folder / "config.yaml"
        self.config_path.write_text(yaml.safe_dump(self.config))
        load_config(self.config_path)
        self.database = open_database(self.settings.require_database_url())

    def _environment(self, ready: Path | None = None) -> dict[str, str]:
        assert self.settings.database_url
        assert self.settings.redis_url
        values = {
            **os.environ,
            "DATABASE_URL": self.settings.database_url,
            "REDIS_URL": self.settings.redis_url,
            "PRECEPTOR_HOME": str(self.settings.home),
            "PRECEPTOR_LEASE_S": "3",
            "PRECEPTOR_HEARTBEAT_S": "0.5",
            "PRECEPTOR_DISPATCH_INTERVAL_S": "0.1",
            "PRECEPTOR_REPUBLISH_AFTER_S": "2",
            **self.environment,
        }
        return values | ({"PRECEPTOR_READY_FILE": str(ready)} if ready else {})

    def spawn(
        self, *arguments: str, module: str = "schemas.cli", python: str = sys.executable
    ) -> subprocess.Popen:
        """Start one of our long-running commands, or a launcher that patches it."""
        number = len(self.processes)
        with self.log_of(number).open("wb") as log:
            process = subprocess.Popen(
                [python, "-m", module, *arguments],
                cwd=ROOT,
                env=self._environment(self._ready_file(number)),
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def await_ready(self, process: subprocess.Popen) -> None:
        """Wait until a spawned command says that it is ready."""
        number = self.processes.index(process)
        ready = self._ready_file(number)
        wait_for(lambda: ready.exists() or process.poll() is not None, f"{process.args} ready", 120)
        assert process.poll() is None, self.log_of(number).read_text()[-3000:]

    def log_of(self, number: int) -> Path:
        """What the process of that place in ``processes`` wrote."""
        return self.folder / f"process-{number}.log"

    def _ready_file(self, number: int) -> Path:
        return self.folder / f"ready-{number}"

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start one of our long-running commands and wait until it is ready."""
        process = self.spawn(*arguments)
        self.await_ready(process)
        return process

    def start_worker(self) -> subprocess.Popen:
        return self.start("worker", "--config", str(self.config_path), "--model", "small")

    def start_all(self, workers: int = 1) -> list[subprocess.Popen]:
        self.start("dispatcher")
        return [self.start_worker() for _ in range(workers)]

    def command(
        self, *arguments: str, code: int = 0, most_file_bytes: int | None = None
    ) -> subprocess.CompletedProcess:
        """Run one of our commands to its end, on a disk with room for so much a file."""
        limit = () if most_file_bytes is None else ("prlimit", f"--fsize={most_file_bytes}")
        done = subprocess.run(
            [*limit, sys.executable, "-m", "schemas.cli", *arguments],
            cwd=ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def submit(self, jobs: Iterable[dict], run: str = "run", name: str = "jobs.jsonl") -> str:
        path = self.folder / name
        path.write_text("".join(json.dumps(job) + "\n" for job in jobs))
        self.command("submit", str(path), "--config", str(self.config_path), "--run", run)
        return run

    def progress(self, run: str = "run") -> RunProgress:
        with transaction(self.database) as connection:
            return fetch_progress(connection, run_id_of(run))

    def open_steps(self) -> list:
        """What is still open, for the message of a test that waits in vain."""
        statement = text(
            "SELECT kind, round, state, attempt, worker, publish_count, published_at - now(),"
            " lease_until - now(), error FROM step WHERE state IN ('queued', 'running')"
        )
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def finish(self, run: str = "run", within_s: float = 90) -> dict[str, JobResult]:
        """Wait until every job has ended; results by the caller's id."""
        wait_for(lambda: not self.progress(run).open, lambda: str(self.open_steps()), within_s)
        progress = self.progress(run)
        assert progress.submitted == progress.done + progress.failed + progress.cancelled
        with transaction(self.database) as connection:
            results = list(iter_results(connection, run_id_of(run)))
        assert len(results) == progress.submitted
        return {str(result.id): result for result in results}

    def kill(self, process: subprocess.Popen) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def drain(self, process: subprocess.Popen) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(30)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill(process)
        self.database.dispose()
