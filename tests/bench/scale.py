"""How far workers scale, how many steps one stack does, and what a step costs.

``python -m tests.bench.scale`` prints three tables: utilisation with 1, 2, 4 and 8 workers of a
simulated GPU's speed; the ceiling at infinite speed; and where a step's CPU time goes. Nothing
else should run on the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from schemas.database import transaction
from tests.acceptance.system import System, wait_for
from tests.bench.cost_split import print_split, profile
from tests.bench.stage import Stage, cpu_s, open_stage

#: Engine slots of one simulated GPU, and the steps a second they do together.
SLOTS, STEPS_PER_S = 16, 25.0
#: Task threads a slot: while one step commits and the next is claimed, another computes.
THREADS_PER_SLOT = 1.25
#: Prompt tokens that take as long as one written token.
PREFILL_FACTOR = 20.0
WARM_UP_S = 6.0
DEFAULTS = {
    "PRECEPTOR_LEASE_S": "30",
    "PRECEPTOR_HEARTBEAT_S": "5",
    "PRECEPTOR_DISPATCH_INTERVAL_S": "0.5",
    "PRECEPTOR_REPUBLISH_AFTER_S": "15",
    "OMP_NUM_THREADS": "1",
}
WORDS = " ".join(f"word{i}" for i in range(60))

_ENDED = text(
    "SELECT count(*) AS steps, coalesce(sum(input_tokens - cached_tokens), 0) AS computed,"
    " coalesce(sum(output_tokens), 0) AS written,"
    " avg(extract(epoch FROM ended_at - started_at)) AS step_s, avg(queue_wait_s) AS wait_s"
    " FROM step WHERE state = 'done' AND ended_at > :since AND ended_at <= :until"
)


@dataclass(frozen=True)
class Window:
    """Steps that ended in a stretch of time, with the tokens that cost engine time."""

    seconds: float
    steps: int
    computed: float
    written: float
    step_s: float

    @property
    def steps_per_s(self) -> float:
        """Throughput."""
        return self.steps / self.seconds

    def engine_s(self, decode_tokens_per_s: float) -> float:
        """Seconds of one slot that these steps need at a decode rate."""
        return (self.computed / PREFILL_FACTOR + self.written) / decode_tokens_per_s


def jobs(count: int) -> Iterator[dict[str, Any]]:
    """Improve jobs that take several rounds each."""
    for i in range(count):
        yield {
            "kind": "improve",
            "id": f"j{i}",
            "prompt": f"question {i}: {WORDS}",
            "response": f"[[severity:0.9]] a harmful answer {i} {WORDS}",
        }


def watch(system: System, seconds: float) -> Window:
    """Count the steps that end within the next ``seconds``."""
    with transaction(system.database) as connection:
        since = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    time.sleep(seconds)
    with transaction(system.database) as connection:
        until = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        row = connection.execute(_ENDED, {"since": since, "until": until}).one()
    if not system.progress().open:
        raise SystemExit("the run ended inside the measured window: raise --jobs")
    taken_s = (until - since).total_seconds()
    return Window(
        taken_s, row.steps, float(row.computed), float(row.written), float(row.step_s or 0)
    )


def start(system: System, workers: int, threads: int, count: int) -> None:
    """Start dispatcher and workers, submit, and wait until steps end."""
    system.start("dispatcher")
    for _ in range(workers):
        options = ("--config", str(system.config_path), "--model", "small")
        system.start("worker", *options, "--slots", str(threads))
    system.submit(jobs(count))
    wait_for(lambda: system.progress().steps_done > 0, "a first step")
    time.sleep(WARM_UP_S)


def calibrate(stage: Stage) -> float:
    """The decode rate at which one of a worker's slots does one of these steps a second."""
    with stage.system("pilot", {}, **DEFAULTS) as system:
        start(system, 1, SLOTS, 4_000)
        window = watch(system, 5.0)
        system.command("cancel", "run")
    return window.engine_s(1.0) / window.steps


def measure_fleet(
    stage: Stage, workers: int, steps_per_s: float, step_rate: float, seconds: float
) -> Window:
    """Throughput of ``workers`` simulated GPUs, and a line of the first table.

    Args:
        steps_per_s: Steps a second of one GPU.
        step_rate: What ``calibrate`` found.
    """
    decode_tokens_per_s = step_rate * steps_per_s / SLOTS
    speed = {
        "options": {
            "slots": SLOTS,
            "decode_tokens_per_s": decode_tokens_per_s,
            "prefill_tokens_per_s": PREFILL_FACTOR * decode_tokens_per_s,
        }
    }
    with _fresh(stage, f"fleet-{workers}-{steps_per_s:g}", speed) as system:
        start(
            system,
            workers,
            int(SLOTS * THREADS_PER_SLOT),
            int(1.6 * workers * steps_per_s * seconds),
        )
        stack = [p.pid for p in system.processes] + [stage.postgres_pid, stage.valkey_pid]
        used = cpu_s(stack)
        window = watch(system, seconds)
        cores = (cpu_s(stack) - used) / window.seconds
    capacity_s = workers * SLOTS * window.seconds
    share = window.engine_s(decode_tokens_per_s) / capacity_s
    print(
        f"| {workers} x {steps_per_s:g} | {workers * steps_per_s:.0f} | {window.steps_per_s:.1f}"
        f" | {share:.1%} | {window.step_s:.2f} | {cores:.2f} |",
        flush=True,
    )
    return window


def measure_ceiling(stage: Stage, workers: int, seconds: float) -> None:
    """Steps a second at infinite engine speed, and a line of the second table."""
    with _fresh(stage, f"ceiling-{workers}", {}) as system:
        start(system, workers, SLOTS, int(400 * seconds))
        dispatcher, *fleet = [process.pid for process in system.processes]
        groups = {
            "workers": fleet,
            "Postgres": [stage.postgres_pid],
            "Valkey": [stage.valkey_pid],
            "dispatcher": [dispatcher],
        }
        before = {name: cpu_s(pids) for name, pids in groups.items()}
        window = watch(system, seconds)
        spent = {name: cpu_s(pids) - before[name] for name, pids in groups.items()}
        samples = profile(fleet[0], seconds=10) if workers == 1 else None
    each = " | ".join(f"{spent[name] / window.steps * 1e3:.2f}" for name in groups)
    print(f"| {workers} | {window.steps_per_s:.0f} | {each} |", flush=True)
    if samples is not None:
        print_split(samples, spent["workers"] / window.steps * 1e3)


def _fresh(stage: Stage, name: str, model: dict[str, Any]) -> Any:
    """A system on an emptied ledger: no measurement carries the rows of the one before."""
    from redis import Redis

    from schemas.database import open_database

    database = open_database(stage.settings.require_database_url())
    with database.begin() as connection:
        connection.execute(text("TRUNCATE run CASCADE"))
        connection.execute(text("TRUNCATE worker"))
    database.dispose()
    with Redis.from_url(stage.settings.require_redis_url()) as client:
        client.flushdb()
    return stage.system(name, model, **DEFAULTS)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--steps-per-s", type=float, default=STEPS_PER_S, help="of one worker")
    parser.add_argument("--ceiling", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each window")
    chosen = parser.parse_args(argv)
    with open_stage() as stage:
        rate = calibrate(stage)
        speed = chosen.steps_per_s
        print(f"simulated GPU: {SLOTS} slots, {rate * speed / SLOTS:.1f} tokens/s a slot\n")
        print("| workers | ideal steps/s | steps/s | slots in use | step s | cores used |")
        print("|--:|--:|--:|--:|--:|--:|", flush=True)
        for workers in chosen.workers:
            measure_fleet(stage, workers, speed, rate, chosen.seconds)
        print("\ninfinite engine speed, CPU ms a step:\n")
        print("| workers | steps/s | workers ms | Postgres ms | Valkey ms | dispatcher ms |")
        print("|--:|--:|--:|--:|--:|--:|", flush=True)
        for workers in chosen.ceiling:
            measure_ceiling(stage, workers, chosen.seconds)


if __name__ == "__main__":
    main()
