"""The report of a run: one self-contained page of HTML that loads nothing.

Gathers numbers from ``analysis.tables`` and histories from ``analysis.story`` for the templates,
which escape every text. A number that was not measured is printed as "not measured".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from analysis import tables
from analysis.pages import page_environment
from analysis.records import RunRecords
from analysis.story import STOP_MEANING, Story, tell
from schemas.errors import ContractError
from schemas.policy import CONVERGED, FAILED
from schemas.results import JobResult

#: Width of a bin of the severity charts, as bins in [0, 1].
SEVERITY_BINS = 40
#: Most jobs drawn one by one; of more, as many evenly spaced ones.
DRAWN_JOBS = 24
BUNDLED_MODEL = "smollm2-135m-instruct"

Histories = Callable[[Sequence[str]], list[JobResult]]


@dataclass(frozen=True, slots=True)
class RoundChart:
    """Distribution of the worst severities of one round's critiques."""

    number: int
    jobs: int
    median: float
    heights: tuple[float, ...]


def render_report(records: RunRecords, histories: Histories, *, jobs: Sequence[str] = ()) -> str:
    """The page.

    Args:
        histories: Fetches whole jobs by id; asked for the few that are told.
        jobs: Ids of further jobs to tell, the caller's or the ledger's.

    Raises:
        ContractError: No ended job has one of these ids.
    """
    return (
        page_environment()
        .get_template("report.html")
        .render(
            records=records,
            written_at=datetime.now(UTC),
            progress=records.progress,
            config=records.config,
            constitution=records.constitution,
            accounting=accounting_line(records),
            reasons=_reasons(records),
            errors=tables.errors(records.frames).rows(named=True),
            rounds=round_charts(records),
            slopes=_slopes(records),
            principles=_principles(records),
            labels=tables.label_summary(records.frames),
            revisions=tables.revision_outcomes(records.frames).rows(named=True),
            work=tables.work_by_kind(records.frames).rows(named=True),
            stories=told(records, histories, jobs),
            small_model=_uses_bundled_model(records),
        )
    )


def accounting_line(records: RunRecords) -> str:
    """The equation of jobs in and out; of a file, of the jobs it holds."""
    if records.progress is not None:
        return records.progress.accounting
    counted = tables.accounting(records.frames)
    parts = " + ".join(f"{n} {state}" for state, n in counted.items())
    return f"accounting: {records.frames.jobs.height} ended in this file = {parts}"


def _reasons(records: RunRecords) -> list[dict[str, Any]]:
    rows = tables.stop_reasons(records.frames).rows(named=True)
    total = sum(row["jobs"] for row in rows)
    return [
        row
        | {
            "share": row["jobs"] / total,
            "tone": _tone(row["stop_reason"]),
            "meaning": STOP_MEANING[row["stop_reason"]],
        }
        for row in rows
    ]


def _tone(reason: str) -> str:
    if reason in FAILED:
        return "bad"
    return "good" if reason in CONVERGED or reason == "completed" else "plain"


def round_charts(records: RunRecords) -> list[RoundChart]:
    """One chart a round; heights in [0, 1] of the round's fullest bin."""
    worst = tables.worst_severities(records.frames)
    charts = []
    for row in tables.severity_by_round(records.frames).iter_rows(named=True):
        values = worst.filter(pl.col("round") == row["round"]).get_column("worst").to_list()
        counts = tables.histogram(values, SEVERITY_BINS)
        heights = tuple(count / max(counts) for count in counts)
        charts.append(RoundChart(row["round"], row["jobs"], row["median"], heights))
    return charts


def _slopes(records: RunRecords) -> dict[str, Any]:
    measured = tables.first_and_last(records.frames)
    gains = measured.get_column("gain")
    return {
        "total": measured.height,
        "better": int((gains > 0).sum()),
        "worse": int((gains < 0).sum()),
        "median_gain": gains.median(),
        "rows": evenly(measured.rows(named=True), DRAWN_JOBS),
    }


def evenly(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most ``most`` of the rows, first and last among them, evenly spaced."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def _principles(records: RunRecords) -> list[dict[str, Any]]:
    rows = tables.principle_fires(records.frames).rows(named=True)
    known = {p.name: p for p in records.constitution.principles} if records.constitution else {}
    asked = {row["principle"] for row in rows}
    unasked = [
        {"principle": n, "draws": 0, "readable": 0, "fires": 0}
        | {"fire_rate": None, "mean_severity": None}
        for n in known
        if n not in asked
    ]
    return [row | {"known": known.get(row["principle"])} for row in [*rows, *unasked]]


def told(records: RunRecords, histories: Histories, jobs: Sequence[str]) -> list[Story]:
    """The jobs worth reading, each once, with every reason for which it is."""
    titles: dict[str, list[str]] = {}
    for title, job_id in [*_remarkable(records), *_asked_for(records, jobs)]:
        titles.setdefault(job_id, []).append(title)
    found = histories(list(titles))
    return [tell(result, titles[str(result.job_id)]) for result in found]


def _remarkable(records: RunRecords) -> Iterable[tuple[str, str]]:
    measured = tables.first_and_last(records.frames)
    if measured.height and measured["gain"][0] > 0:
        yield "largest gain", measured["job_id"][0]
    if measured.height and measured["gain"][-1] < 0:
        yield "largest regression", measured["job_id"][-1]
    closest = (
        records.frames.preferences.filter(~pl.col("identical"))
        .drop_nulls("confidence")
        .sort("confidence", "job_id")
    )
    if closest.height:
        yield "closest call", closest["job_id"][0]
    jobs = records.frames.jobs
    longest = jobs.filter(pl.col("rounds") > 0).sort("rounds", descending=True, maintain_order=True)
    if longest.height:
        yield "most rounds", longest["job_id"][0]
    failed = jobs.filter(pl.col("state") == "failed")
    if failed.height:
        yield "failed", failed["job_id"][0]


def _asked_for(records: RunRecords, jobs: Sequence[str]) -> Iterable[tuple[str, str]]:
    held = records.frames.jobs
    for name in jobs:
        found = held.filter((pl.col("id") == name) | (pl.col("job_id") == name))
        if not found.height:
            raise ContractError(
                f"no ended job of {records.run} has the id '{name}': 'preceptor results' lists them"
            )
        yield "asked for", found["job_id"][0]


def _uses_bundled_model(records: RunRecords) -> bool:
    if records.config is None:
        return any(BUNDLED_MODEL in name for name in records.models.values())
    served = {records.config.models[name].model for _, name in records.config.roles}
    return BUNDLED_MODEL in served
