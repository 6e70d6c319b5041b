"""From what was measured to ratios and a table. What was not measured stays empty."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

#: Key of a ratio, its two parts (slower first), and the target.
RATIOS = (
    ("speedup_transformers_same_outcome", "sequential", "transformers_same_outcome", 15.0),
    ("speedup_transformers_same_work", "sequential", "transformers_same_work", 4.0),
    ("speedup_vllm_same_outcome", "sequential", "vllm_same_outcome", 40.0),
    ("speedup_vllm_same_work", "sequential", "vllm_same_work", 10.0),
    ("engine_vs_offline_vllm", "recorded_offline", "recorded_engine", 0.9),
    ("vs_distilabel", "client_distilabel", "client_ours", 1.5),
)
_PARTS_OF = {"recorded_offline": "limit", "client_distilabel": "clients", "client_ours": "clients"}


def ratios(found: dict[str, Any], notes: dict[str, str]) -> dict[str, Any]:
    """Each ratio by its key, None with a ``..._note`` where a side is missing."""
    made: dict[str, Any] = {}
    for key, slower, faster, _ in RATIOS:
        if slower in found and faster in found:
            made[key] = _seconds(found[slower]) / _seconds(found[faster])
        else:
            made[key] = None
            missing = slower if slower not in found else faster
            part = _PARTS_OF.get(missing, missing.split("_")[0])
            made[f"{key}_note"] = notes.get(part, f"the part '{part}' was not asked for")
    return made


def _seconds(part: dict[str, Any]) -> float:
    """Seconds a job, or of the whole where no jobs are counted."""
    return float(part["seconds"]) / float(part.get("jobs", 1))


def print_table(console: Console, result: dict[str, Any]) -> None:
    """What ran, and the ratios beside their targets."""
    console.print(f"\nmachine: {result['machine']}\ncommand: {result['command']}", highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    headings = ("part", "s", "jobs/min", "prompt tok", "of them shared", "written", "tok/s",
                "rows", "fill", "idle", "first job", "ready", "peak GB", "KV MB")  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for name, part in result["found"].items():
        table.add_row(name, *_cells(part))
    console.print(table)
    for key, _, _, target in RATIOS:
        value = result[key]
        shown = "-" if value is None else f"{value:.2f}"
        note = result.get(f"{key}_note", "")
        console.print(f"{key:36} {shown:>8}   target {target:g}   {note}", highlight=False)


def _cells(part: dict[str, Any]) -> list[str]:
    seconds, jobs = part["seconds"], part.get("jobs")
    written = part.get("output_tokens")
    return [
        f"{seconds:.1f}",
        f"{60 * jobs / seconds:.2f}" if jobs else "",
        _count(part.get("input_tokens")),
        _count(part.get("cached_tokens")),
        _count(written),
        f"{written / seconds:.0f}" if written else "",
        _number(part.get("batch_rows"), "{:.1f}"),
        _number(part.get("batch_fill"), "{:.0%}"),
        _number(part.get("idle_share"), "{:.0%}"),
        _number(part.get("first_job_s"), "{:.1f} s"),
        _number(part.get("ready_s"), "{:.1f} s"),
        _number(part.get("peak_bytes"), "{:.2f}", 1e-9),
        _number(part.get("cache_bytes"), "{:.0f}", 1e-6),
    ]


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _number(value: float | None, form: str, unit: float = 1.0) -> str:
    return "" if value is None else form.format(value * unit)
