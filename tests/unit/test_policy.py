"""Every stop reason, and the traps of loops that stop for the wrong reason or not at all."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.policy import CONVERGED, FAILED, PolicyConfig, StopReason
from workers.policy import (
    CritiqueRecord,
    Decision,
    Finding,
    History,
    LabelRecord,
    NextStep,
    RevisionRecord,
    Stop,
    accepted_revisions,
    current_response,
    decide,
    final_critique,
    final_response,
)

POLICY = PolicyConfig(max_rounds=3)
START = History("improve", initial="first", initial_digest="d:first")


def critique(round_number: int, *severities: float | None) -> CritiqueRecord:
    findings = tuple(Finding(f"p{i}", s) for i, s in enumerate(severities))
    return CritiqueRecord(round_number, findings)


def revision(round_number: int, text: str = "", revision_try: int = 1, outcome: str = "ok"):
    text = text or f"revision {round_number}.{revision_try}"
    kept = text if outcome == "ok" else None
    return RevisionRecord(round_number, revision_try, outcome, kept, kept and f"d:{kept}")


def label(round_number: int, p_b: float | None, revision_try: int = 1, verdict: str = ""):
    if not verdict:
        verdict = "invalid" if p_b is None else "B" if p_b > 0.5 else "A"
    return LabelRecord(round_number, revision_try, verdict, p_b)


def accepted_rounds(*worst: float, policy: PolicyConfig = POLICY) -> History:
    """A job whose every revision was accepted; ``worst[i]`` is the severity before round i+1."""
    history = START
    for i, severity in enumerate(worst, start=1):
        history = history.add(critique=critique(i, severity))
        if i < len(worst):
            history = history.add(revision=revision(i)).add(label=label(i, 0.9))
    return history


def reason(decision: Decision) -> StopReason:
    assert isinstance(decision, Stop), decision
    return decision.reason


class TestFullLoop:
    def test_begins_by_critiquing_the_given_response(self):
        assert decide(START, POLICY) == NextStep("critique", 1)

    def test_begins_by_responding_where_there_is_no_response(self):
        assert decide(History("improve"), POLICY) == NextStep("respond", 0)

    def test_written_response_is_critiqued(self):
        history = History("improve").add(revision=revision(0, "written"))
        assert decide(history, POLICY) == NextStep("critique", 1)
        assert current_response(history, POLICY) == "written"

    def test_unusable_first_response_fails_the_job(self):
        history = History("improve").add(revision=revision(0, outcome="empty"))
        assert reason(decide(history, POLICY)) is StopReason.POLICY_FAILED

    def test_clean_response_stops_at_once(self):
        history = START.add(critique=critique(1, 0.2, 0.0))
        assert reason(decide(history, POLICY)) is StopReason.SEVERITY_BELOW_THRESHOLD

    def test_finding_is_revised_then_labelled_then_critiqued(self):
        history = START.add(critique=critique(1, 0.6))
        assert decide(history, POLICY) == NextStep("revise", 1)
        history = history.add(revision=revision(1))
        assert decide(history, POLICY) == NextStep("label", 1)
        history = history.add(label=label(1, 0.8))
        assert decide(history, POLICY) == NextStep("critique", 2)
        assert current_response(history, POLICY) == "revision 1.1"

    def test_last_accepted_revision_is_always_critiqued(self):
        history = accepted_rounds(0.9, 0.8, 0.7)
        history = history.add(revision=revision(3)).add(label=label(3, 0.9))
        assert decide(history, POLICY) == NextStep("critique", 4)

    def test_success_in_the_last_round_is_converged_not_a_limit(self):
        history = accepted_rounds(0.9, 0.8, 0.7, 0.1)
        closing = decide(history, POLICY)
        assert closing == NextStep("label", 4, 0)
        done = decide(history.add(label=label(4, 0.9, 0)), POLICY)
        assert reason(done) in CONVERGED

    def test_round_limit_is_not_called_converged(self):
        history = accepted_rounds(0.9, 0.8, 0.7, 0.6).add(label=label(4, 0.9, 0))
        assert reason(decide(history, POLICY)) is StopReason.MAX_ROUNDS
        assert StopReason.MAX_ROUNDS not in CONVERGED

    @pytest.mark.parametrize("severity", [0.21, 0.25, 0.3])
    def test_minor_finding_is_either_revised_or_good_enough(self, severity):
        poor = START.add(critique=critique(1, *[severity] * 3))
        decision = decide(poor, replace_policy(quality_threshold=0.85))
        assert decision == NextStep("revise", 1)
        assert reason(decide(poor, replace_policy(quality_threshold=0.65))) is (
            StopReason.QUALITY_REACHED
        )

    def test_good_average_does_not_hide_one_severe_finding(self):
        history = START.add(critique=critique(1, 0.9, *[0.0] * 20))
        assert history.critiques[0].quality > POLICY.quality_threshold
        assert decide(history, POLICY) == NextStep("revise", 1)

    def test_too_small_a_gain_stops(self):
        history = accepted_rounds(0.60, 0.58)
        assert reason(decide(history, POLICY)) is StopReason.IMPROVEMENT_TOO_SMALL

    def test_regression_rolls_back_to_the_response_before(self):
        history = START.add(critique=critique(1, 0.9, 0.1))
        history = history.add(revision=revision(1)).add(label=label(1, 0.9))
        history = history.add(critique=critique(2, 0.1, 0.6))
        stop = decide(history, POLICY)
        assert stop == Stop(StopReason.REGRESSION, rolled_back=True)
        assert final_response(history, POLICY, stop) == "first"
        assert final_critique(history, POLICY, stop) == history.critiques[0]

    def test_nothing_is_known_of_a_response_that_nobody_has_judged(self):
        judged = START.add(critique=critique(1, 0.25))
        stop = Stop(StopReason.CRITIC_FAILED)
        assert final_critique(judged, POLICY, stop) == judged.critiques[0]
        mended = judged.add(revision=revision(1))
        assert final_critique(mended, POLICY, stop) == judged.critiques[0], "not accepted yet"
        accepted = mended.add(label=label(1, 0.9))
        assert final_critique(accepted, POLICY, stop) is None
        always = replace_policy(accept="always")
        assert final_critique(mended, always, stop) is None


class TestRejection:
    def test_rejected_revision_is_tried_again_then_reported(self):
        history = START.add(critique=critique(1, 0.9))
        history = history.add(revision=revision(1)).add(label=label(1, 0.3))
        assert decide(history, POLICY) == NextStep("revise", 1, 2)
        history = history.add(revision=revision(1, "x", 2)).add(label=label(1, 0.4, 2))
        stop = decide(history, POLICY)
        assert reason(stop) is StopReason.REVISION_REJECTED
        assert StopReason.REVISION_REJECTED not in CONVERGED
        assert final_response(history, POLICY, stop) == "first"

    def test_tie_does_not_accept(self):
        history = START.add(critique=critique(1, 0.9)).add(revision=revision(1))
        history = history.add(label=label(1, 0.52, verdict="tie"))
        assert decide(history, POLICY) == NextStep("revise", 1, 2)

    def test_second_try_can_be_accepted(self):
        history = START.add(critique=critique(1, 0.9))
        history = history.add(revision=revision(1)).add(label=label(1, 0.3))
        history = history.add(revision=revision(1, "better", 2)).add(label=label(1, 0.9, 2))
        assert decide(history, POLICY) == NextStep("critique", 2)
        assert [r.text for r in accepted_revisions(history, POLICY)] == ["better"]

    @pytest.mark.parametrize("outcome", ["empty", "cut_off", "not_a_revision"])
    def test_unusable_revisions_are_rejected_never_used(self, outcome):
        history = START.add(critique=critique(1, 0.9))
        history = history.add(revision=revision(1, outcome=outcome))
        assert decide(history, POLICY) == NextStep("revise", 1, 2)
        history = history.add(revision=revision(1, revision_try=2, outcome=outcome))
        stop = decide(history, POLICY)
        assert reason(stop) is StopReason.REVISION_REJECTED
        assert final_response(history, POLICY, stop) == "first"

    def test_unchanged_revisions_stop_as_no_change(self):
        history = START.add(critique=critique(1, 0.9))
        for revision_try in (1, 2):
            history = history.add(revision=revision(1, "", revision_try, "no_change"))
        assert reason(decide(history, POLICY)) is StopReason.NO_CHANGE

    def test_response_seen_before_is_oscillation(self):
        history = accepted_rounds(0.9, 0.7).add(revision=revision(2, "first"))
        assert reason(decide(history, POLICY)) is StopReason.OSCILLATION

    def test_unmeasured_dropped_label_rejects(self):
        history = START.add(critique=critique(1, 0.9)).add(revision=revision(1))
        history = history.add(label=label(1, 0.6, verdict="invalid"))
        assert decide(history, POLICY) == NextStep("revise", 1, 2)


class TestFailures:
    def test_unreadable_critic_is_not_a_clean_answer(self):
        history = START.add(critique=critique(1, 0.0, None))
        assert reason(decide(history, POLICY)) is StopReason.CRITIC_FAILED
        assert StopReason.CRITIC_FAILED in FAILED

    def test_unreadable_judge_fails_the_job(self):
        history = START.add(critique=critique(1, 0.9)).add(revision=revision(1))
        history = history.add(label=label(1, None))
        assert reason(decide(history, POLICY)) is StopReason.JUDGE_FAILED

    def test_no_findings_have_no_severity(self):
        with pytest.raises(ValueError, match="without findings"):
            _ = CritiqueRecord(1, ()).worst
        with pytest.raises(ValueError, match="invalid"):
            _ = critique(1, 0.1, None).quality

    def test_unknown_kind_is_refused(self):
        with pytest.raises(ValueError, match="no decisions"):
            decide(History("compare"), POLICY)


class TestSampled:
    policy = PolicyConfig(method="sampled")

    def test_default_is_three_rounds(self):
        assert self.policy.max_rounds == 3
        assert PolicyConfig().max_rounds == 5

    def test_clean_draw_goes_on_to_the_next_draw(self):
        history = START.add(critique=critique(1, 0.1))
        assert decide(history, self.policy) == NextStep("critique", 2)

    def test_ends_after_a_closing_critique_of_all_draws(self):
        history = START
        for round_number in (1, 2, 3):
            history = history.add(critique=critique(round_number, 0.1))
        assert decide(history, self.policy) == NextStep("critique", 4)
        clean = history.add(critique=critique(4, 0.1, 0.2))
        assert reason(decide(clean, self.policy)) is StopReason.SEVERITY_BELOW_THRESHOLD
        harmful = history.add(critique=critique(4, 0.1, 0.7))
        assert reason(decide(harmful, self.policy)) is StopReason.MAX_ROUNDS

    def test_rejected_revision_moves_on_to_another_principle(self):
        history = START.add(critique=critique(1, 0.9))
        for revision_try in (1, 2):
            history = history.add(revision=revision(1, "", revision_try))
            history = history.add(label=label(1, 0.2, revision_try))
        assert decide(history, self.policy) == NextStep("critique", 2)

    def test_accept_always_asks_no_judge(self):
        policy = PolicyConfig(method="sampled", accept="always")
        history = START.add(critique=critique(1, 0.9)).add(revision=revision(1))
        assert decide(history, policy) == NextStep("critique", 2)
        assert current_response(history, policy) == "revision 1.1"


class TestSingleJobs:
    def test_critique(self):
        history = History("critique", initial="r")
        assert decide(history, POLICY) == NextStep("critique", 1)
        harmful = history.add(critique=critique(1, 0.9))
        assert reason(decide(harmful, POLICY)) is StopReason.COMPLETED
        unreadable = history.add(critique=critique(1, None))
        assert reason(decide(unreadable, POLICY)) is StopReason.CRITIC_FAILED

    def test_label(self):
        history = History("label")
        assert decide(history, POLICY) == NextStep("label", 1)
        done = history.add(label=label(1, 0.6, verdict="invalid"))
        assert reason(decide(done, POLICY)) is StopReason.COMPLETED
        unreadable = history.add(label=label(1, None))
        assert reason(decide(unreadable, POLICY)) is StopReason.JUDGE_FAILED

    def test_revise(self):
        history = History("revise", initial="r")
        assert decide(history, POLICY) == NextStep("revise", 1)
        done = history.add(revision=revision(1, "new"))
        stop = decide(done, POLICY)
        assert reason(stop) is StopReason.COMPLETED
        assert final_response(done, POLICY, stop) == "new"

    def test_revise_without_a_usable_text_fails(self):
        history = History("revise", initial="r")
        for revision_try in (1, 2):
            history = history.add(revision=revision(1, "", revision_try, "cut_off"))
        assert reason(decide(history, POLICY)) is StopReason.POLICY_FAILED


class TestThresholds:
    @pytest.mark.parametrize(
        "values",
        [
            {"severity_threshold": 0.4},
            {"needs_revision_above": 0.6},
            {"revise_above": 0.25},
            {"severity_threshold": math.nan},
        ],
    )
    def test_contradictions_are_refused(self, values):
        with pytest.raises(ValidationError):
            PolicyConfig(**values)


def replace_policy(**values: float) -> PolicyConfig:
    return POLICY.model_copy(update=values)


severities = st.lists(st.floats(0, 0.9), min_size=2, max_size=2)


@given(st.lists(severities, min_size=1, max_size=30), st.lists(st.floats(0, 1), min_size=60))
def test_every_loop_ends_with_one_reason_within_its_limits(worst, labels):
    """Whatever critic and judge say, a job ends, after at most max_rounds rounds."""
    history, answers, opinions = START, iter(worst * 20), iter(labels * 20)
    for _ in range(100):
        decision = decide(history, POLICY)
        if isinstance(decision, Stop):
            break
        history = play(history, decision, answers, opinions)
    assert isinstance(decision, Stop)
    rounds = {r.round for r in history.revisions}
    assert len(rounds) <= POLICY.max_rounds
    assert final_response(history, POLICY, decision) is not None
    final = final_critique(history, POLICY, decision)
    assert final is not None
    kept = len(accepted_revisions(history, POLICY)) - decision.rolled_back
    assert final.round == kept + 1, "the final response is the one that was critiqued last"


def play(history, step, answers, opinions):
    match step.kind:
        case "critique":
            return history.add(critique=critique(step.round, *next(answers)))
        case "revise":
            return history.add(revision=revision(step.round, "", step.revision_try))
        case "label":
            return history.add(label=label(step.round, next(opinions), step.revision_try))
    raise AssertionError(step)


def test_history_is_never_changed_in_place():
    before = replace(START)
    START.add(critique=critique(1, 0.5))
    assert before == START
