"""The frames that every analysis works on: their columns, and how a ``JobResult`` fills them.

Numbers and names only, no texts: a frame of a million jobs must fit into memory. Nothing here
queries or computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.results import JobResult

Schema = dict[str, Any]

JOBS: Schema = {
    "job_id": pl.String,
    "id": pl.String,
    "kind": pl.String,
    "state": pl.String,
    "stop_reason": pl.String,
    "rounds": pl.Int64,
    "severity_first": pl.Float64,
    "severity_last": pl.Float64,
    "quality_first": pl.Float64,
    "quality_last": pl.Float64,
    "error_code": pl.String,
}
CRITIQUES: Schema = {
    "job_id": pl.String,
    "round": pl.Int64,
    "principle": pl.String,
    "outcome": pl.String,
    "severity": pl.Float64,
    "outside_mass": pl.Float64,
    "needs_revision": pl.Boolean,
}
REVISIONS: Schema = {
    "job_id": pl.String,
    "round": pl.Int64,
    "revision_try": pl.Int64,
    "outcome": pl.String,
    "accepted": pl.Boolean,
}
PREFERENCES: Schema = {
    "job_id": pl.String,
    "round": pl.Int64,
    "revision_try": pl.Int64,
    "principle": pl.String,
    "verdict": pl.String,
    "p_a": pl.Float64,
    "p_a_shown_first": pl.Float64,
    "p_a_shown_second": pl.Float64,
    "consistent": pl.Boolean,
    "confidence": pl.Float64,
    "self_judged": pl.Boolean,
    "identical": pl.Boolean,
    "empty": pl.Boolean,
}
STEPS: Schema = {
    "job_id": pl.String,
    "round": pl.Int64,
    "revision_try": pl.Int64,
    "kind": pl.String,
    "state": pl.String,
    "role": pl.String,
    "model": pl.String,
    "attempt": pl.Int64,
    "input_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "cached_tokens": pl.Int64,
    "engine_s": pl.Float64,
    "cost_usd": pl.Float64,
    "queue_wait_s": pl.Float64,
    "error_code": pl.String,
}


@dataclass(frozen=True, slots=True)
class Frames:
    """All rows of one run; ``job_id`` joins them."""

    jobs: pl.DataFrame
    critiques: pl.DataFrame
    revisions: pl.DataFrame
    preferences: pl.DataFrame
    steps: pl.DataFrame


def frame(rows: Iterable[Mapping[str, Any]], schema: Schema) -> pl.DataFrame:
    """Rows as a frame of exactly these columns."""
    held = [{name: row[name] for name in schema} for row in rows]
    return pl.DataFrame(held, schema=schema, orient="row")


def frames_of(results: Iterable[JobResult]) -> Frames:
    """The frames of results that were read from a file."""
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("jobs", "critiques", "revisions", "preferences", "steps")
    }
    for result in results:
        job_id = str(result.job_id)
        rows["jobs"].append(_row(result, JOBS, job_id))
        rows["critiques"] += [_row(x, CRITIQUES, job_id) for x in result.critiques]
        rows["revisions"] += [_row(x, REVISIONS, job_id) for x in result.revisions]
        rows["steps"] += [_row(x, STEPS, job_id) for x in result.steps]
        for label in result.preferences:
            known = {
                "identical": is_identical(label.response_a, label.response_b),
                "empty": not (label.response_a.strip() and label.response_b.strip()),
            }
            rows["preferences"].append(_row(label, PREFERENCES, job_id, **known))
    return Frames(
        frame(rows["jobs"], JOBS),
        frame(rows["critiques"], CRITIQUES),
        frame(rows["revisions"], REVISIONS),
        frame(rows["preferences"], PREFERENCES),
        frame(rows["steps"], STEPS),
    )


def is_identical(response_a: str, response_b: str) -> bool:
    """Whether two responses say the same but for white space."""
    return response_a.split() == response_b.split()


def _row(source: Any, schema: Schema, job_id: str, **known: Any) -> dict[str, Any]:
    fixed = {"job_id": job_id, **known}
    names = [name for name in schema if name not in fixed]
    return fixed | {name: getattr(source, name) for name in names}
