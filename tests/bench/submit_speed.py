"""How fast ``preceptor submit`` takes a file into the ledger, and in how much memory.

``python -m tests.bench.submit_speed --jobs 10000 100000 1000000`` starts a Postgres of its own
and submits a generated JSONL file of each size to an empty ledger, as the command line does.
Jobs a second depend on what else the machine does; CPU seconds per 1,000 jobs hardly do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psycopg

from schemas.migrations import upgrade
from tests.bench.stage import cpu_s
from workers.stack import PostgresServer, postgres_server

ROOT = Path(__file__).parents[2]
CONFIG = """\
models:
  small: {engine: scripted, model: scripted}
roles: {policy: small, critic: small, judge: small}
"""
PROMPT_CHARACTERS, RESPONSE_CHARACTERS = 200, 400
_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "ki", "lo", "mé", "nu", "par", "ster", "tion")


@dataclass(frozen=True)
class Measured:
    """One submission: what it took of time, processors and memory."""

    jobs: int
    wall_s: float
    client_s: float
    server_s: float
    peak_bytes: int
    ledger_bytes: int
    wal_bytes: int
    said: str

    def row(self) -> str:
        thousand = self.jobs / 1_000
        share = self.server_s / (self.server_s + self.client_s)
        return (
            f"{self.jobs:>9,} {self.wall_s:>7.1f} {self.jobs / self.wall_s:>8,.0f} "
            f"{self.client_s / thousand * 1e3:>9.1f} {self.server_s / thousand * 1e3:>9.1f} "
            f"{share:>7.0%} {self.peak_bytes / 2**20:>9.1f} "
            f"{self.ledger_bytes / self.jobs:>10,.0f} {self.wal_bytes / self.jobs:>8,.0f}"
        )


HEADER = (
    "     jobs  wall s   jobs/s  client ms server ms  server  peak MiB  ledger B    WAL B\n"
    "                              /1,000     /1,000  of CPU               /job     /job"
)


def write_jobs(path: Path, count: int) -> None:
    """A JSONL file of improve jobs, the same for the same count."""
    words = random.Random(20)
    with path.open("w", encoding="utf-8") as out:
        for number in range(count):
            job = {
                "id": f"prompt-{number:07d}",
                "prompt": _text(words, PROMPT_CHARACTERS),
                "response": _text(words, RESPONSE_CHARACTERS),
            }
            out.write(json.dumps(job, ensure_ascii=False) + "\n")


def _text(words: random.Random, characters: int) -> str:
    syllables = words.choices(_SYLLABLES, k=characters // 3)
    ends = words.choices(("", "", " ", " ", ", ", ".\n", '" '), k=len(syllables))
    return "".join(a + b for a, b in zip(syllables, ends, strict=True))[: characters - 1] + "."


@contextmanager
def empty_ledger(server: PostgresServer, name: str) -> Iterator[str]:
    """Address of a migrated database without rows, dropped at the end."""
    plain = server.url.replace("+psycopg", "", 1)
    url = f"{server.url.rpartition('/')[0]}/{name}"
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        upgrade(url)
        connection.execute("CHECKPOINT")
        try:
            yield url
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def measure(server: PostgresServer, folder: Path, jobs: int) -> Measured:
    """Submit that many jobs to an empty ledger."""
    source, config = folder / f"jobs-{jobs}.jsonl", folder / "run.yaml"
    write_jobs(source, jobs)
    config.write_text(CONFIG)
    try:
        with empty_ledger(server, f"bench_{jobs}") as url:
            return _measure(server, url, source, config, jobs)
    finally:
        source.unlink()


def _measure(server: PostgresServer, url: str, source: Path, config: Path, jobs: int) -> Measured:
    wal_before, server_before = _ask(url, "pg_current_wal_lsn() - '0/0'"), cpu_s([server.pid])
    begun = time.perf_counter()
    cost, said = submit(url, source, config)
    wall_s = time.perf_counter() - begun
    return Measured(
        jobs,
        wall_s,
        cost["cpu_s"],
        cpu_s([server.pid]) - server_before,
        cost["peak_bytes"],
        _ask(url, "pg_database_size(current_database())"),
        _ask(url, "pg_current_wal_lsn() - '0/0'") - wal_before,
        said,
    )


def submit(url: str, source: Path, config: Path) -> tuple[dict[str, Any], str]:
    """What ``preceptor submit`` cost and what it said."""
    command = ("submit", str(source), "--config", str(config), "--run", "bench")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PRECEPTOR_")}
    environment |= {"DATABASE_URL": url, "PRECEPTOR_HOME": str(source.parent / "home")}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench.measured_command", *command],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    *said, cost = ended.stdout.splitlines()
    return json.loads(cost), said[-1]


def _ask(url: str, question: str) -> int:
    with psycopg.connect(url.replace("+psycopg", "", 1)) as connection:
        row = connection.execute(f"SELECT {question}".encode()).fetchone()
    return int(row[0]) if row else 0


def main() -> None:
    """Measure each size asked for and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="preceptor-bench-"))
    folder.chmod(0o711)
    try:
        with postgres_server(folder, durable=True) as server:
            click.echo(HEADER)
            for jobs in asked.jobs:
                measured = measure(server, folder, jobs)
                click.echo(f"{measured.row()}\n  {measured.said}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
