"""A loop's labels and findings, joined as coverage, convergence and preferences need them. Pure.

A label of a loop compares the current response (A) with its revision (B): ``win`` is 1 where the
revision won, 0.5 for a tie. Unreadable labels have no ``win``.
"""

from __future__ import annotations

import polars as pl

from analysis import tables
from analysis.frames import Frames


def with_prompts(frames: Frames, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with ``prompt``, what their intervals are clustered by: jobs of one prompt share it."""
    jobs = frames.jobs.select("job_id", "kind", prompt="prompt_digest")
    return rows.join(jobs, on="job_id")


def revision_labels(frames: Frames) -> pl.DataFrame:
    """Labels of a revision against what stood before it, with columns prompt and win.

    Closing labels and those of label jobs are none of these.
    """
    labels = with_prompts(frames, frames.preferences)
    asked = (pl.col("kind") != "label") & (pl.col("revision_try") > 0)
    return labels.filter(asked).with_columns(win=win_of_b())


def win_of_b() -> pl.Expr:
    """1 where B won, 0.5 for a tie, 0 where A won, null where the label is invalid."""
    wins = {"A": 0.0, "tie": 0.5, "B": 1.0}
    return pl.col("verdict").replace_strict(wins, default=None, return_dtype=pl.Float64)


def last_against_first(frames: Frames) -> pl.DataFrame:
    """Columns job_id, prompt, win, is_closing: labels that compared final and first response.

    A closing label did; without one, the label of the only accepted revision did.
    """
    labels = with_prompts(frames, frames.preferences).filter(pl.col("kind") == "improve")
    labels = labels.with_columns(win=win_of_b(), is_closing=pl.col("revision_try") == 0)
    closing = labels.filter("is_closing")
    accepted = frames.revisions.filter(pl.col("accepted") & (pl.col("round") > 0))
    only = accepted.filter(pl.len().over("job_id") == 1)
    single = labels.join(only, on=["job_id", "round", "revision_try"], how="semi")
    single = single.join(closing, on="job_id", how="anti")
    both = pl.concat([closing, single]).drop_nulls("win")
    return both.select("job_id", "prompt", "win", "is_closing").sort("job_id")


def worst_findings(frames: Frames) -> pl.DataFrame:
    """Columns job_id, round, principle: the worst finding of each critique that was read whole.

    Several where they are equally bad; none where nothing is wrong at all.
    """
    worst = tables.worst_severities(frames).filter(pl.col("worst") > 0)
    found = frames.critiques.join(worst, on=["job_id", "round"])
    leads = found.filter(pl.col("severity") == pl.col("worst"))
    return leads.select("job_id", "round", "principle")


def revision_requests(frames: Frames) -> pl.DataFrame:
    """Columns job_id, round: critiques that a revision was asked after."""
    revised = frames.revisions.filter(pl.col("round") > 0)
    asked = frames.critiques.join(revised, on=["job_id", "round"], how="semi")
    return asked.select("job_id", "round").unique()


def labels_by_principle(frames: Frames) -> pl.DataFrame:
    """Revision labels, each under the principle that it was about.

    That is the one the judge was asked by, else the worst finding of the critique before it, and
    each of them where several are equally bad.
    """
    labels = revision_labels(frames)
    asked = labels.filter(pl.col("principle").is_not_null())
    default = labels.filter(pl.col("principle").is_null()).drop("principle")
    led = default.join(worst_findings(frames), on=["job_id", "round"])
    return pl.concat([asked, led.select(asked.columns)])
