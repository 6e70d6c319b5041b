"""The whole system on the workload: servers, dispatcher, one worker, and what it took."""

from __future__ import annotations

import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from schemas.results import JobResult
from tests.acceptance.system import System
from tests.bench.engines import workload
from tests.bench.stage import Stage

METRICS_PORT = 19464
SLOTS = 64
WITHIN_S = 3600.0


class Peak:
    """Most resident memory of a process and its children, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self.bytes = max(self.bytes, sum(p.memory_info().rss for p in family))
            except psutil.NoSuchProcess:
                continue

    def end(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.bytes


def scraped() -> dict[str, float]:
    """The worker's engine counters now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=10) as reply:
        families = text_string_to_metric_families(reply.read().decode())
        return {
            sample.name.removeprefix("preceptor_engine_").removesuffix("_total"): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("preceptor_engine_")
        }


class Running:
    """A started system and the runs on it."""

    def __init__(self, system: System, worker: Any, ready_s: float) -> None:
        self.system = system
        self.ready_s = ready_s
        self._peak = Peak(worker.pid)

    def run(self, jobs: list[dict[str, Any]], name: str) -> tuple[dict[str, Any], list[JobResult]]:
        """Submit jobs and wait for the last; what it took, and the results in their order."""
        before, began_at, began_s = scraped(), datetime.now(UTC), time.monotonic()
        # The ledger is shared by all systems of the benchmark.
        run = f"{self.system.folder.name}-{name}"
        self.system.submit(jobs, run, f"{name}.jsonl")
        results = self.system.finish(run, WITHIN_S)
        seconds, after = time.monotonic() - began_s, scraped()
        return _figures(began_at, seconds, before, after, list(results.values())), [
            results[str(job["id"])] for job in jobs
        ]

    def peak_bytes(self) -> int:
        """Most memory of the worker so far; ends the watch."""
        return self._peak.end()


def _figures(
    began_at: datetime,
    seconds: float,
    before: dict[str, float],
    after: dict[str, float],
    results: list[JobResult],
) -> dict[str, Any]:
    change = {name: after[name] - before[name] for name in after}
    first_at = min(r.ended_at for r in results if r.ended_at)
    return {
        "seconds": seconds,
        "jobs": len(results),
        "ends": dict(Counter(str(r.stop_reason and r.stop_reason.value) for r in results)),
        "first_job_s": (first_at - began_at).total_seconds(),
        "input_tokens": int(change["input_tokens"]),
        "cached_tokens": int(change["cached_tokens"]),
        "output_tokens": int(change["output_tokens"]),
        "batch_rows": change["step_rows"] / change["steps"] if change["steps"] else None,
        "batch_fill": (
            change["step_rows"] / (change["steps"] * after["max_rows"]) if change["steps"] else None
        ),
        "idle_share": max(0.0, 1 - change["busy_seconds"] / seconds),
        "cache_bytes": int(after["cache_bytes"]),
    }


@contextmanager
def running(
    stage: Stage,
    name: str,
    model: dict[str, Any],
    models: Path,
    *,
    python: str = sys.executable,
    record: Path | None = None,
    **policy: Any,
) -> Iterator[Running]:
    """Start a system with one worker, of another environment where ``python`` says so."""
    folder = stage.folder / name
    folder.mkdir()
    environment = {
        "PRECEPTOR_LEASE_S": "60",
        "PRECEPTOR_HEARTBEAT_S": "5",
        "PRECEPTOR_DISPATCH_INTERVAL_S": "0.2",
        "PRECEPTOR_REPUBLISH_AFTER_S": "30",
        "PRECEPTOR_CACHE": str(models),
        "PRECEPTOR_METRICS_PORT": str(METRICS_PORT),
    }
    if record:
        environment["BENCH_RECORD"] = str(record)
    config = workload.config(model, **policy)
    system = System(stage.settings, folder, config, environment)
    try:
        system.environment["PRECEPTOR_METRICS_PORT"] = "0"
        system.start("dispatcher")
        system.environment["PRECEPTOR_METRICS_PORT"] = str(METRICS_PORT)
        module = "tests.bench.engines.recording_worker" if record else "schemas.cli"
        options = ("--config", str(system.config_path), "--model", "small", "--slots", str(SLOTS))
        began_s = time.monotonic()
        worker = system.spawn("worker", *options, module=module, python=python)
        system.await_ready(worker)
        yield Running(system, worker, time.monotonic() - began_s)
    finally:
        system.close()


def improve_jobs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whole loops."""
    return [
        {"kind": "improve", "id": row["id"], "prompt": row["prompt"], "response": row["response"]}
        for row in rows
    ]


def same_work(started: Running, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the script does, as three runs: all critiques, all revisions, all labels.

    A run waits for the one before, which a loop would not. Severities are read as well, both
    orders are labelled, and a revision that is none (a copy, a refusal to write) is tried again.
    """
    critiques, results = started.run(
        [{**job, "kind": "critique"} for job in improve_jobs(rows)], "critiques"
    )
    jobs = []
    for row, result in zip(rows, results, strict=True):
        read = [
            {"principle": c.principle, "severity": 0.5, "text": c.text or "Nothing."}
            for c in result.critiques[: workload.CRITIQUES_READ]
        ]
        jobs.append({**improve_jobs([row])[0], "kind": "revise", "critiques": read})
    revisions, results = started.run(jobs, "revisions")
    pairs = [
        {
            "kind": "label",
            "id": row["id"],
            "prompt": row["prompt"],
            "response_a": row["response"],
            "response_b": result.final_response or row["response"],
        }
        for row, result in zip(rows, results, strict=True)
    ]
    labels, _ = started.run(pairs, "labels")
    parts = {"critiques": critiques, "revisions": revisions, "labels": labels}
    sums = ("seconds", "input_tokens", "cached_tokens", "output_tokens")
    whole = {name: sum(part[name] for part in parts.values()) for name in sums}
    idle_s = sum(part["idle_share"] * part["seconds"] for part in parts.values())
    return {**whole, "jobs": len(rows), "idle_share": idle_s / whole["seconds"], "parts": parts}
