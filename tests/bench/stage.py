"""Servers and a running system for a benchmark, and what its processes cost.

Starts a Postgres and a Valkey of its own in a temporary folder and ends them again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from schemas.migrations import upgrade
from schemas.settings import Settings
from tests.acceptance.system import SCRIPTED, System
from workers.stack import postgres_server, valkey_server


@dataclass(frozen=True)
class Stage:
    """Servers to open systems on, with the ids of their processes."""

    folder: Path
    settings: Settings
    postgres_pid: int
    valkey_pid: int

    @contextmanager
    def system(self, name: str, model: dict[str, Any], **environment: str) -> Iterator[System]:
        """A system whose only model is a scripted one with the given options."""
        folder = self.folder / name
        folder.mkdir()
        config = SCRIPTED | {"models": {"small": {"engine": "scripted", "model": "s", **model}}}
        config |= {"policy": {"max_critique_texts": 1, "use_rubrics": False}}
        system = System(self.settings, folder, config, environment)
        try:
            yield system
        finally:
            system.close()


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Start the servers."""
    folder = Path(tempfile.mkdtemp(prefix="preceptor-bench-"))
    folder.chmod(0o711)
    try:
        with postgres_server(folder) as postgres, valkey_server(folder) as valkey:
            upgrade(postgres.url)
            settings = Settings(
                home=folder / "home", database_url=postgres.url, redis_url=valkey.url
            )
            yield Stage(folder, settings, postgres.pid, valkey.pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds that processes and their children have used; ended children included."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        # What ended children used stands with their parent.
        own = process.cpu_times()
        total += own.children_user + own.children_system
    return total
