"""Which labels and jobs become training rows, and for which reason the others do not."""

from typing import Any

import pytest

from analysis.export import ExportPlan, export_rows
from analysis.export_filters import Filters
from analysis.manifest import ExportCounts
from analysis.pairs import PAIR_REASONS, Drop, is_improved, preference_rows, sft_row
from schemas.results import JobResult
from tests.unit.results_sample import config, label, result, revision


def rows_of(job: JobResult, **options: Any) -> list[Any]:
    return [row for _, row in preference_rows(job, config(**options))]


def test_the_judges_preferred_is_chosen_whichever_side_it_stood_on() -> None:
    job = result(preferences=[label(0.2), label(0.9, revision_try=2)])
    taken, refused = rows_of(job)
    assert taken["chosen"] == [{"role": "assistant", "content": "revised"}]
    assert refused["chosen"] == [{"role": "assistant", "content": "current"}]
    assert (taken["p"], taken["margin"]) == pytest.approx((0.8, 0.6))
    assert (refused["p"], refused["margin"]) == pytest.approx((0.9, 0.8))


def test_prompts_are_message_lists_and_keep_their_turns() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
    ]
    assert rows_of(result(preferences=[label()]))[0]["prompt"] == [
        {"role": "user", "content": "What now?"}
    ]
    assert rows_of(result(prompt=turns, preferences=[label()]))[0]["prompt"] == turns


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (label(None), "unreadable"),
        (label(0.4, verdict="invalid"), "orders_disagree"),
        (label(0.2, response_b=" current\n"), "identical"),
        (label(0.2, response_a=" "), "empty_response"),
        (label(0.5), "tie"),
        (label(0.48, verdict="tie"), "tie"),
        (label(0.45), "low_confidence"),
        (label(0.2, revision_try=0), "closing_label"),
    ],
)
def test_unfit_labels_are_dropped_for_one_reason(made: Any, reason: str) -> None:
    dropped = rows_of(result(preferences=[made]), data={"min_confidence": 0.2})
    assert dropped == [Drop(reason)]
    assert reason in PAIR_REASONS


def test_kept_ties_still_need_a_preferred_side() -> None:
    ties = [label(0.48, verdict="tie"), label(0.5)]
    kept, dropped = rows_of(result(preferences=ties), data={"filter_ties": False})
    assert kept["chosen"][0]["content"] == "revised"
    assert dropped == Drop("tie")


def test_a_revision_that_was_rolled_back_is_no_preference() -> None:
    broken = result(
        stop_reason="regression", preferences=[label(0.2)], revisions=[revision(accepted=False)]
    )
    assert rows_of(broken) == [Drop("rolled_back")]
    merely_refused = result(preferences=[label(0.2)], revisions=[revision(accepted=False)])
    assert isinstance(rows_of(merely_refused)[0], dict)


def test_closing_labels_on_request() -> None:
    job = result(preferences=[label(0.2, revision_try=0)])
    ((_, row),) = preference_rows(job, config(), closing=True)
    assert isinstance(row, dict)


def test_counts_in_are_rows_plus_reasons() -> None:
    labels = [label(0.2), label(None), label(0.5), label(0.9, consistent=False)]
    counts, plan = ExportCounts(), ExportPlan("trl-preference", Filters.of(config()))
    rows = list(export_rows([result("a", preferences=labels), result("b")], config(), plan, counts))
    assert counts.read == 4 == len(rows) + counts.dropped.total()
    assert counts.equation == "accounting: 4 read = 2 exported + 1 tie + 1 unreadable"
    assert (counts.labels.readable, counts.labels.flipped) == (3, 1)


def test_a_judge_that_prefers_against_the_critic_has_not_improved() -> None:
    said_better = {"preferences": [label(0.2)], "revisions": [revision()]}
    assert is_improved(result(**said_better))
    assert not is_improved(result(**said_better, quality_last=0.4))
    assert is_improved(result(**said_better, quality_last=0.4), comparable=False)


def test_nothing_measured_is_no_improvement() -> None:
    assert not is_improved(result(quality_first=None))
    assert not is_improved(result(final_response="current "))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "label", "stop_reason": "completed"}, "no_loop"),
        ({"state": "failed", "stop_reason": "judge_failed"}, "not_done"),
        ({"final_response": None}, "no_response"),
        ({"quality_last": 0.1}, "not_good_enough"),
    ],
)
def test_unfit_jobs_are_dropped(changes: dict[str, Any], reason: str) -> None:
    assert sft_row(result(**changes), config()) == Drop(reason)


def test_converged_without_a_revision_is_kept_unless_improvement_is_asked_for() -> None:
    job = result(stop_reason="severity_below_threshold", final_response="current")
    row = sft_row(job, config())
    assert isinstance(row, dict)
    assert row["completion"] == [{"role": "assistant", "content": "current"}]
    assert sft_row(job, config(), keep="improved") == Drop("not_good_enough")
