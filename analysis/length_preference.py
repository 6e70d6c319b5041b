"""Whether a run's judge prefers the longer response, from the lengths that frames hold. Pure.

A preference, not a bias: people may share it, and in a loop the longer response is often the
revision, so both cases are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from analysis import tables
from analysis.frames import Frames
from analysis.loop_labels import revision_labels, win_of_b, with_prompts
from analysis.statistics.clustered import clustered_share
from analysis.statistics.estimates import Estimate


@dataclass(frozen=True, slots=True)
class LengthPreference:
    """Shares in [0, 1] of labels of responses that differ, ties half, clustered by prompt.

    Lengths are words; pairs of equal length are left out.

    Attributes:
        longer: For the longer response, revisions against what stood before them.
        if_longer: For the revision, where it is the longer one.
        if_shorter: For the revision, where it is the shorter one.
        closing: For the longer of a loop's last and first response, labels given at its end.
        label_jobs: For the longer response of label jobs.
    """

    longer: Estimate
    if_longer: Estimate
    if_shorter: Estimate
    closing: Estimate
    label_jobs: Estimate


def length_preference(frames: Frames) -> LengthPreference:
    """The preference of a run's judge; undefined where no such label was read.

    Args:
        frames: With the columns of texts.
    """
    judged = frames.preferences.filter(tables.is_judged())
    others = with_prompts(frames, judged).with_columns(win=win_of_b())
    is_job = pl.col("kind") == "label"
    revisions = revision_labels(frames).filter(tables.is_judged())
    longer, shorter = (revisions.filter(each) for each in (_IS_LONGER, _IS_SHORTER))
    return LengthPreference(
        longer=_for_the_longer(revisions),
        if_longer=_for_b(longer),
        if_shorter=_for_b(shorter),
        closing=_for_the_longer(others.filter(~is_job & (pl.col("revision_try") == 0))),
        label_jobs=_for_the_longer(others.filter(is_job)),
    )


_IS_LONGER = pl.col("words_b") > pl.col("words_a")
_IS_SHORTER = pl.col("words_b") < pl.col("words_a")


def _for_the_longer(labels: pl.DataFrame) -> Estimate:
    win = pl.when(_IS_LONGER).then("win").when(_IS_SHORTER).then(1.0 - pl.col("win"))
    return _for_b(labels.with_columns(win=win))


def _for_b(labels: pl.DataFrame) -> Estimate:
    # What the labeler's mode calls invalid has a probability, and no winner.
    return clustered_share(labels.drop_nulls("win"), "win", "prompt")
