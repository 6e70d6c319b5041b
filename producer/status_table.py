"""Progress as text for a terminal. Formats only; it fetches nothing and decides nothing."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from schemas.results import RunProgress

if TYPE_CHECKING:
    from schemas.progress import RunSummary

_WIDTH = 100


def run_text(progress: RunProgress) -> str:
    """One run: its counts, its queues, and the equation that must hold, last."""
    parts = [_counts(progress), _queues(progress)]
    return "\n".join([*(part for part in parts if part), progress.accounting])


def runs_text(runs: Iterable[RunSummary]) -> str:
    """The list of runs, newest first."""
    table = _table("run", "state", "jobs", "open", "failed", "created (UTC)")
    for run in runs:
        created = f"{run.created_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            run.name, run.state, str(run.submitted), str(run.open), str(run.failed), created
        )
    return _rendered(table) if table.row_count else "no runs yet: 'preceptor submit' makes one"


def progress_line(progress: RunProgress) -> str:
    """One line for someone who waits."""
    stages = ", ".join(f"{stage}: {n}" for stage, n in progress.by_stage.items())
    tail = f" ({stages})" if stages else ""
    return (
        f"run {progress.run}: {progress.done} done, {progress.failed} failed, "
        f"{progress.cancelled} cancelled, {progress.open} open{tail}"
    )


def idle_queues(progress: RunProgress) -> list[str]:
    """Queues that the run needs and no live worker serves."""
    return [queue.queue for queue in progress.queues if queue.live_workers == 0]


def _counts(progress: RunProgress) -> str:
    table = _table("run", progress.run, header=False)
    rows = {
        "run": f"{progress.run} ({progress.state})",
        "jobs": f"{progress.queued} queued, {progress.running} running, {progress.done} done, "
        f"{progress.failed} failed, {progress.cancelled} cancelled",
        "open steps": _pairs(progress.by_stage),
        "stop reasons": _pairs(progress.by_stop_reason),
        "errors": _pairs(progress.errors),
        "tokens": f"{progress.input_tokens:,} in ({progress.cached_tokens:,} cached), "
        f"{progress.output_tokens:,} out",
        "cost": f"{progress.cost_usd:.4f} USD, {progress.engine_s:,.1f} engine seconds",
        "steps done": f"{progress.steps_done:,} in {progress.active_s:,.1f} s",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return _rendered(table)


def _queues(progress: RunProgress) -> str:
    table = _table("queue", "queued", "running", "live workers", "slots")
    for queue in progress.queues:
        counts = (queue.queued, queue.running, queue.live_workers, queue.live_slots)
        table.add_row(queue.queue, *(str(count) for count in counts))
    return _rendered(table)


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _table(*columns: str, header: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, show_header=header, header_style="")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _rendered(table: Table) -> str:
    # Into a string and through click.echo, so that pipes and encodings are click's business.
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
