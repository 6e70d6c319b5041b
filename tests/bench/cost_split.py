"""Where a worker's Python time goes, by library: samples of its stacks, taken from outside.

Only the thread that holds the interpreter lock is sampled: waiting threads look busy to a sampler.

A sample counts for the innermost frame that belongs to a named group, so that what the standard
library does for Celery is Celery's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

GROUPS = {
    "Celery and kombu": ("/celery/", "/kombu/", "/amqp/", "/billiard/", "/vine/"),
    "Redis client": ("/redis/",),
    "SQLAlchemy": ("/sqlalchemy/",),
    "psycopg": ("/psycopg", "psycopg_binary"),
    "pydantic": ("/pydantic",),
    "prompts and scripted engine": ("/jinja2/", "workers/prompts/", "workers/engines/"),
    "ledger and history": ("workers/ledger", "workers/history", "workers/recording"),
    "rest of ours": ("workers/", "schemas/"),
}


def profile(pid: int, seconds: int) -> Counter[str]:
    """Samples a group of a running process, 200 a second, idle threads left out."""
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        raise SystemExit("py-spy is missing: pip install -e '.[dev]'")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stacks"
        subprocess.run(
            [program, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", "200",
             "--gil", "--format", "raw", "--full-filenames", "--output", str(out)],
            check=True, capture_output=True,
        )  # fmt: skip
        return split(out.read_text())


def split(stacks: str) -> Counter[str]:
    """Count folded stacks (``outer;...;inner count`` a line) by group."""
    counted: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        counted[_group(frames.split(";"))] += int(count)
    return counted


def _group(frames: list[str]) -> str:
    for frame in reversed(frames):
        for group, marks in GROUPS.items():
            if any(mark in frame for mark in marks):
                return group
    return "interpreter"


def print_split(samples: Counter[str], ms_per_step: float) -> None:
    """A table of each group's share, and its part of a step's CPU milliseconds."""
    total = samples.total()
    print("\n| part of the worker | share | ms a step |\n|---|--:|--:|")
    for group, count in samples.most_common():
        print(f"| {group} | {count / total:.1%} | {ms_per_step * count / total:.2f} |")
    print("", flush=True)
