"""A critic that failed never reads as one that found nothing, whoever reads it."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from analysis import tables
from analysis.pairs import Drop, sft_row
from analysis.records import RunRecords, load_results, load_run
from analysis.story import tell
from schemas.cli import main
from schemas.database import transaction
from schemas.histories import iter_results
from schemas.results import JobResult
from schemas.routing import run_id_of
from tests.integration.finished_run import (
    PRINCIPLES,
    RUN,
    Told,
    small_config,
    write_finished_run,
)

CODE = "output_error"
#: One finding unreadable; all of them; that of the final response; and a clean one beside them.
JOBS = [
    Told("half", "critic_failed", [[None, 0.0, 0.0]], state="failed", error_code=CODE),
    Told("none", "critic_failed", [[None] * 3], state="failed", error_code=CODE),
    Told(
        "later",
        "critic_failed",
        [[0.6, 0.3, 0.3], [None, 0.0, 0.0]],
        {(1, 1): 0.8},
        state="failed",
        error_code=CODE,
    ),
    Told("clean", "severity_below_threshold", [[0.0, 0.0, 0.0]]),
]


@pytest.fixture
def ledger(read_ledger: Engine) -> Engine:
    write_finished_run(read_ledger, JOBS)
    return read_ledger


@pytest.fixture
def results(ledger: Engine) -> dict[str, JobResult]:
    with transaction(ledger) as connection:
        found = iter_results(connection, run_id_of(RUN))
        return {str(result.id): result for result in found}


@pytest.fixture(params=["ledger", "file"])
def records(request, ledger: Engine, tmp_path: Path) -> RunRecords:
    """The run as analysis reads it, out of the ledger and out of a results file."""
    if request.param == "ledger":
        with transaction(ledger) as connection:
            return load_run(connection, RUN, texts=True, steps=True)
    path = tmp_path / "results.jsonl"
    assert CliRunner().invoke(main, ["results", RUN, "--out", str(path)]).exit_code == 0
    return load_results(path)


def ids(records: RunRecords, found: pl.DataFrame) -> set[str]:
    """The callers' ids of the jobs in a table."""
    jobs = records.frames.jobs
    known = dict(zip(jobs["job_id"], jobs["id"], strict=True))
    return {known[job_id] for job_id in found["job_id"]}


def test_results_say_nothing_of_what_nobody_could_read(results):
    for name in ("half", "none", "later"):
        job = results[name]
        assert (job.severity_last, job.quality_last) == (None, None), name
        unread = [c for c in job.critiques if c.outcome == "invalid"]
        assert unread, name
        for finding in unread:
            assert (finding.severity, finding.level) == (None, None)
            assert (finding.needs_revision, finding.primary) == (None, None)
    assert results["half"].severity_first is None, "two readable zeros do not make a clean answer"
    clean = results["clean"]
    assert (clean.severity_last, clean.critiques[0].needs_revision) == (0.0, False)


def test_exports_take_no_job_whose_critic_failed(results):
    for name in ("half", "none", "later"):
        assert sft_row(results[name], small_config()) == Drop("not_done")
    assert not isinstance(sft_row(results["clean"], small_config()), Drop)


def test_stories_have_no_worst_severity(results):
    worst = {name: [round_.worst for round_ in tell(job).rounds] for name, job in results.items()}
    assert worst["half"] == worst["none"] == [None]
    assert worst["later"] == [0.6, None]
    assert worst["clean"] == [0.0]


def test_tables_leave_out_what_was_not_measured(records):
    worst = tables.worst_severities(records.frames)
    assert ids(records, worst.filter(pl.col("round") == 1)) == {"later", "clean"}
    assert ids(records, worst.filter(pl.col("round") == 2)) == set()
    assert ids(records, tables.first_and_last(records.frames)) == {"clean"}


def test_rates_are_of_the_readable_ones(records):
    found = {row["principle"]: row for row in tables.principle_fires(records.frames).to_dicts()}
    unreadable = found[PRINCIPLES[0]]
    assert (unreadable["draws"], unreadable["readable"], unreadable["fires"]) == (5, 2, 1)
    assert unreadable["fire_rate"] == pytest.approx(0.5)
    flags = records.frames.critiques.filter(pl.col("outcome") == "invalid")["needs_revision"]
    assert flags.null_count() == len(flags) > 0


def test_the_report_names_them_unreadable(ledger: Engine, tmp_path: Path):
    out = tmp_path / "report.html"
    done = CliRunner().invoke(main, ["report", RUN, "--out", str(out), "--job", "half"])
    assert done.exit_code == 0, done.output
    page = out.read_text(encoding="utf-8")
    assert '<span class="bad small">unreadable</span>' in page
    assert "critic failed" in page
