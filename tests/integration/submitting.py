"""Files, configurations and workers for tests of the doors."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from sqlalchemy import Engine, text

from schemas.database import transaction
from schemas.settings import Settings

ROOT = Path(__file__).parents[2]
CONFIG = {
    "models": {"small": {"engine": "scripted", "model": "scripted"}},
    "roles": {"policy": "small", "critic": "small", "judge": "small"},
}


def write_prompts(path: Path, count: int) -> Path:
    lines = [json.dumps({"id": f"p{n}", "prompt": f"prompt {n}"}) for n in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def counted(engine: Engine, statement: str) -> int:
    with transaction(engine) as connection:
        return connection.execute(text(statement)).scalar_one()


def await_true(condition, what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)


@contextmanager
def intake_worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real intake worker in a process of its own, consuming when the block begins."""
    command = [sys.executable, "-m", "schemas.cli", "worker", "--intake"]
    env = {
        **os.environ,
        "DATABASE_URL": settings.database_url or "",
        "REDIS_URL": settings.redis_url or "",
        "PRECEPTOR_HOME": str(settings.home),
        "OMP_NUM_THREADS": "1",
    }
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def queue_length(settings: Settings) -> int:
    """Messages waiting for the intake worker, of all priorities."""
    assert settings.redis_url is not None
    with Redis.from_url(settings.redis_url) as client:
        keys = client.keys(f"{settings.key_prefix}intake*")
        return sum(client.llen(key) for key in keys)
