"""From a job's history to training rows: which are fit, and why the others are not.

Pure. The judge's preferred response is ``chosen``, whether it was the revision or not; what is
left out is left out for one named reason, so that counts in = rows + counts out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from analysis.frames import Frames, is_identical
from schemas.config import RunConfig
from schemas.policy import CONVERGED, StopReason
from schemas.results import JobResult, PreferenceResult

Messages = list[dict[str, str]]
SftKeep = Literal["improved", "converged", "either"]

#: Reasons for which a label makes no preference row.
PAIR_REASONS = (
    "unreadable",
    "orders_disagree",
    "identical",
    "empty_response",
    "tie",
    "low_confidence",
    "rolled_back",
    "closing_label",
)
#: Reasons for which a job makes no SFT row.
SFT_REASONS = ("no_loop", "not_done", "no_response", "not_good_enough")


@dataclass(frozen=True, slots=True)
class Drop:
    """A candidate that was left out, and why."""

    reason: str


Row = dict[str, Any]


def preference_rows(
    result: JobResult, config: RunConfig, *, closing: bool = False
) -> Iterator[tuple[PreferenceResult, Row | Drop]]:
    """Each label of a job, with its row or the reason for which there is none.

    Args:
        closing: Take closing labels too: the final response against the first, which shares
            its texts with the pairs in between.
    """
    for label in result.preferences:
        reason = _why_not(result, label, config, closing)
        yield label, Drop(reason) if reason else _preference_row(result, label)


def _why_not(
    result: JobResult, label: PreferenceResult, config: RunConfig, closing: bool
) -> str | None:
    if label.revision_try == 0 and not closing:
        return "closing_label"
    if label.p_a is None:
        return "unreadable"
    if label.verdict == "invalid":
        return "orders_disagree"
    if is_identical(label.response_a, label.response_b):
        return "identical"
    if not (label.response_a.strip() and label.response_b.strip()):
        return "empty_response"
    # At 0.5 neither is preferred, whatever the configuration says of ties.
    if label.p_a == 0.5 or (label.verdict == "tie" and config.data.filter_ties):
        return "tie"
    if label.confidence is None or label.confidence < config.data.min_confidence:
        return "low_confidence"
    return "rolled_back" if _is_rolled_back(result, label, config) else None


def _is_rolled_back(result: JobResult, label: PreferenceResult, config: RunConfig) -> bool:
    """The judge took the revision, then the critic found that it broke a principle."""
    if result.stop_reason is not StopReason.REGRESSION or label.p_a is None:
        return False
    place = (label.round, label.revision_try)
    revision = next((r for r in result.revisions if (r.round, r.revision_try) == place), None)
    taken = label.verdict == "B" and 1.0 - label.p_a > config.policy.accept_above
    return taken and revision is not None and revision.accepted is False


def count_pairs(frames: Frames, config: RunConfig) -> int:
    """How many rows ``preference_rows`` would make of a run, counted from its frames.

    Closing labels are left out, as an export does unless it is asked for them.
    """
    place = ["job_id", "round", "revision_try"]
    told = frames.preferences.join(
        frames.revisions.select(*place, "accepted"), on=place, how="left"
    ).join(frames.jobs.select("job_id", "stop_reason"), on="job_id", how="left")
    taken = (pl.col("verdict") == "B") & (1.0 - pl.col("p_a") > config.policy.accept_above)
    rolled_back = (
        (pl.col("stop_reason") == StopReason.REGRESSION.value) & taken & ~pl.col("accepted")
    )
    tie = (pl.col("p_a") == 0.5) | ((pl.col("verdict") == "tie") & config.data.filter_ties)
    kept = told.filter(
        pl.col("revision_try") != 0,
        pl.col("p_a").is_not_null(),
        pl.col("verdict") != "invalid",
        ~pl.col("identical"),
        ~pl.col("empty"),
        ~tie,
        pl.col("confidence") >= config.data.min_confidence,
        ~rolled_back.fill_null(False),
    )
    return kept.height


def _preference_row(result: JobResult, label: PreferenceResult) -> Row:
    p_a = 0.5 if label.p_a is None else label.p_a
    p = max(p_a, 1.0 - p_a)
    better, worse = label.response_a, label.response_b
    if p_a < 0.5:
        better, worse = worse, better
    return {
        "prompt": prompt_messages(result),
        "chosen": _answer(better),
        "rejected": _answer(worse),
        "id": result.id or str(result.job_id),
        "p": p,
        "margin": 2 * p - 1,
        "round": label.round,
        "revision_try": label.revision_try,
        "principle": label.principle,
        "orders_agree": label.consistent,
        "job_id": str(result.job_id),
    }


def sft_row(result: JobResult, config: RunConfig, keep: SftKeep = "either") -> Row | Drop:
    """A job's prompt and final response, or the reason for which there is no row.

    Args:
        keep: Jobs whose response improved, jobs that converged, or either.
    """
    if result.kind not in ("improve", "revise"):
        return Drop("no_loop")
    if result.state != "done":
        return Drop("not_done")
    if result.final_response is None or not result.final_response.strip():
        return Drop("no_response")
    if not _is_kept(result, config, keep):
        return Drop("not_good_enough")
    return {
        "prompt": prompt_messages(result),
        "completion": _answer(result.final_response),
        "id": result.id or str(result.job_id),
        "severity": result.severity_last,
        "stop_reason": result.stop_reason,
        "job_id": str(result.job_id),
    }


def _is_kept(result: JobResult, config: RunConfig, keep: SftKeep) -> bool:
    converged = result.stop_reason in CONVERGED
    improved = is_improved(result, comparable=config.policy.method == "full")
    return {"converged": converged, "improved": improved, "either": converged or improved}[keep]


def is_improved(result: JobResult, *, comparable: bool = True) -> bool:
    """Whether what was measured says that the final response beats the first.

    Judge and critic must both say so where both have spoken; where neither has, nothing is known
    and the answer is no.

    Args:
        comparable: First and final quality speak of the same principles; false where a round
            draws its own.
    """
    final, first = result.final_response, result.response
    if final is None or first is None or is_identical(final, first):
        return False
    spoken = []
    if result.p_last_better_than_first is not None:
        spoken.append(result.p_last_better_than_first > 0.5)
    if comparable and result.quality_first is not None and result.quality_last is not None:
        spoken.append(result.quality_last > result.quality_first)
    return bool(spoken) and all(spoken)


def prompt_messages(result: JobResult) -> Messages:
    """The prompt as chat messages."""
    if isinstance(result.prompt, str):
        return [{"role": "user", "content": result.prompt}]
    return [{"role": turn["role"], "content": turn["content"]} for turn in result.prompt]


def _answer(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]
