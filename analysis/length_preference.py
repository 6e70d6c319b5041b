"""Whether a run's judge prefers the longer response, from the lengths that frames hold. Pure.

Of revisions against what stood before them. A preference, not a bias: people may share it, and in
a loop the longer response is often the revision, so both cases are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from analysis import tables
from analysis.frames import Frames
from analysis.loop_labels import revision_labels
from analysis.statistics.clustered import clustered_share
from analysis.statistics.estimates import Estimate

_PLACE = ["job_id", "round", "revision_try"]


@dataclass(frozen=True, slots=True)
class LengthPreference:
    """Shares in [0, 1] of labels read in both orders, ties half, clustered by prompt.

    Attributes:
        longer: For the response of more words; pairs of equal length are left out.
        if_longer: For the revision, where it has more words than what stood before.
        if_shorter: For the revision, where it has fewer.
    """

    longer: Estimate
    if_longer: Estimate
    if_shorter: Estimate


def length_preference(frames: Frames) -> LengthPreference:
    """The preference of a run's judge; undefined without labels of revisions."""
    labels = revision_labels(frames).filter(tables.is_read_both()).drop_nulls("win")
    known = labels.join(_lengths(frames), on=_PLACE).sort(_PLACE)
    longer = known.filter(pl.col("words") > pl.col("before"))
    shorter = known.filter(pl.col("words") < pl.col("before"))
    both = pl.concat([longer, shorter.with_columns(win=1.0 - pl.col("win"))])
    return LengthPreference(*(clustered_share(rows, "win", "prompt") for rows in (
        both, longer, shorter,
    )))  # fmt: skip


def _lengths(frames: Frames) -> pl.DataFrame:
    """Columns job_id, round, revision_try, words, before: of a revision and what it revised."""
    revisions = frames.revisions.filter(pl.col("round") > 0).select(*_PLACE, "words", "accepted")
    accepted = revisions.filter("accepted").select("job_id", at="round", stood="words")
    earlier = revisions.join(accepted, on="job_id").filter(pl.col("at") < pl.col("round"))
    newest = earlier.group_by(_PLACE).agg(pl.col("stood").sort_by("at").last())
    first = frames.jobs.select("job_id", "words_first")
    found = revisions.join(newest, on=_PLACE, how="left").join(first, on="job_id")
    before = pl.coalesce("stood", "words_first")
    return found.select(*_PLACE, "words", before=before).drop_nulls(["words", "before"])
