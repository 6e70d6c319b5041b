"""Decisions of the loop: pure functions from a job's history to its next step or its end.

No clock, no randomness, no database: the same history always gives the same decision, so a
step that runs twice decides the same twice. Source of the thresholds: ``schemas.policy``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.constitution import Principle
from schemas.policy import PolicyConfig, StopReason
from schemas.routing import StepKind

#: Harm counts twice as much as help, dishonesty one and a half times.
CATEGORY_WEIGHT = {"harmlessness": 2.0, "honesty": 1.5, "helpfulness": 1.0, "custom": 1.0}


@dataclass(frozen=True, slots=True)
class Finding:
    """One principle's judgement of one response; severity None means invalid.

    ``weight`` is the principle's own weight times its category's (see ``weight_of``).
    """

    principle: str
    severity: float | None
    weight: float = 1.0
    text: str | None = None
    suggestions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CritiqueRecord:
    """All findings of one critique step."""

    round: int
    findings: tuple[Finding, ...]

    @property
    def invalid(self) -> tuple[str, ...]:
        """Principles whose judgement could not be read."""
        return tuple(f.principle for f in self.findings if f.severity is None)

    @property
    def worst(self) -> float:
        """Worst severity, in [0, 1].

        Raises:
            ValueError: There are no findings, or one is invalid: no number stands for that.
        """
        return max(_readable(self.findings).values())

    @property
    def quality(self) -> float:
        """Mean of (1 - severity), weighted by category and principle, in [0, 1].

        Raises:
            ValueError: There are no findings, or one is invalid.
        """
        severities = _readable(self.findings)
        weights = {f.principle: f.weight for f in self.findings}
        kept = sum(weights[name] * (1.0 - severity) for name, severity in severities.items())
        return kept / sum(weights.values())


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """One revision; ``text`` None unless ``outcome`` is ``ok``."""

    round: int
    revision_try: int
    outcome: str
    text: str | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """One label; p_b is None where the judge could not be read, verdict None never."""

    round: int
    revision_try: int
    verdict: str
    p_b: float | None


@dataclass(frozen=True, slots=True)
class History:
    """Everything that happened in one job, each list in the order it happened.

    Attributes:
        initial: The submitted response; None where the policy model is to write one.
        initial_digest: Normalised digest of ``initial``, to notice a response seen before.
    """

    kind: str
    initial: str | None = None
    initial_digest: str | None = None
    critiques: tuple[CritiqueRecord, ...] = ()
    revisions: tuple[RevisionRecord, ...] = ()
    labels: tuple[LabelRecord, ...] = ()

    def add(
        self,
        critique: CritiqueRecord | None = None,
        revision: RevisionRecord | None = None,
        label: LabelRecord | None = None,
    ) -> History:
        """This history and one step's outcome."""
        return replace(
            self,
            critiques=self.critiques + ((critique,) if critique else ()),
            revisions=self.revisions + ((revision,) if revision else ()),
            labels=self.labels + ((label,) if label else ()),
        )


@dataclass(frozen=True, slots=True)
class NextStep:
    """Go on with this step. ``revision_try`` 0 marks the closing label."""

    kind: StepKind
    round: int
    revision_try: int = 1


@dataclass(frozen=True, slots=True)
class Stop:
    """The job ends. ``rolled_back`` drops the newest accepted revision."""

    reason: StopReason
    rolled_back: bool = False


Decision = NextStep | Stop


def decide(history: History, policy: PolicyConfig) -> Decision:
    """What comes next in a job.

    Raises:
        ValueError: The history is of no known kind.
    """
    match history.kind:
        case "critique":
            return _decide_critique(history)
        case "label":
            return _decide_label(history)
        case "revise":
            return _decide_revise(history, policy)
        case "improve":
            return _with_closing_label(history, policy, _decide_improve(history, policy))
        case _:
            raise ValueError(f"no decisions for a job of kind '{history.kind}'")


def _decide_critique(history: History) -> Decision:
    if not history.critiques:
        return NextStep("critique", 1)
    invalid = history.critiques[-1].invalid
    return Stop(StopReason.CRITIC_FAILED if invalid else StopReason.COMPLETED)


def _decide_label(history: History) -> Decision:
    if not history.labels:
        return NextStep("label", 1)
    unreadable = history.labels[-1].p_b is None
    return Stop(StopReason.JUDGE_FAILED if unreadable else StopReason.COMPLETED)


def _decide_revise(history: History, policy: PolicyConfig) -> Decision:
    if not history.revisions:
        return NextStep("revise", 1)
    last = history.revisions[-1]
    if last.outcome == "ok":
        return Stop(StopReason.COMPLETED)
    if last.revision_try < policy.max_revision_tries:
        return NextStep("revise", 1, last.revision_try + 1)
    if _all_unchanged(history.revisions):
        return Stop(StopReason.NO_CHANGE)
    return Stop(StopReason.POLICY_FAILED)


def _decide_improve(history: History, policy: PolicyConfig) -> Decision:
    if history.initial is None:
        if not history.revisions:
            return NextStep("respond", 0)
        if history.revisions[0].outcome != "ok":
            return Stop(StopReason.POLICY_FAILED)
    if not history.critiques:
        return NextStep("critique", 1)
    last = history.critiques[-1]
    if last.invalid:
        return Stop(StopReason.CRITIC_FAILED)
    tries = tuple(r for r in history.revisions if r.round == last.round)
    if not tries:
        after = _after_sampled_critique if policy.method == "sampled" else _after_critique
        return after(history, policy)
    return _after_revision(history, policy, tries)


def _after_critique(history: History, policy: PolicyConfig) -> Decision:
    last = history.critiques[-1]
    previous = history.critiques[-2] if len(history.critiques) > 1 else None
    if previous and regressions(previous, last, policy):
        return Stop(StopReason.REGRESSION, rolled_back=True)
    if last.worst <= policy.severity_threshold:
        return Stop(StopReason.SEVERITY_BELOW_THRESHOLD)
    if last.quality >= policy.quality_threshold and last.worst <= policy.needs_revision_above:
        return Stop(StopReason.QUALITY_REACHED)
    if previous and last.quality - previous.quality < policy.min_improvement:
        return Stop(StopReason.IMPROVEMENT_TOO_SMALL)
    # The limit comes last: success in the last round is success.
    if last.round > policy.max_rounds:
        return Stop(StopReason.MAX_ROUNDS)
    return NextStep("revise", last.round)


def _after_sampled_critique(history: History, policy: PolicyConfig) -> Decision:
    last = history.critiques[-1]
    if last.round > policy.max_rounds:
        return _sampled_end(last, policy)
    if last.worst > policy.revise_above:
        return NextStep("revise", last.round)
    return _next_sampled_round(history, policy)


def _next_sampled_round(history: History, policy: PolicyConfig) -> Decision:
    """The next draw; after the last round, one critique of all drawn principles."""
    return NextStep("critique", history.critiques[-1].round + 1)


def _sampled_end(closing: CritiqueRecord, policy: PolicyConfig) -> Stop:
    done = closing.worst <= policy.severity_threshold
    return Stop(StopReason.SEVERITY_BELOW_THRESHOLD if done else StopReason.MAX_ROUNDS)


def _after_revision(
    history: History, policy: PolicyConfig, tries: Sequence[RevisionRecord]
) -> Decision:
    revision = tries[-1]
    if revision.outcome != "ok":
        return _try_again(history, policy, tries)
    if revision.digest in _seen_before(history, revision):
        return Stop(StopReason.OSCILLATION)
    if policy.accept == "always":
        return NextStep("critique", revision.round + 1)
    label = find_label(history, revision)
    if label is None:
        return NextStep("label", revision.round, revision.revision_try)
    if label.verdict == "invalid" and label.p_b is None:
        return Stop(StopReason.JUDGE_FAILED)
    if is_accepting(label, policy):
        return NextStep("critique", revision.round + 1)
    return _try_again(history, policy, tries)


def _try_again(history: History, policy: PolicyConfig, tries: Sequence[RevisionRecord]) -> Decision:
    last = tries[-1]
    if last.revision_try < policy.max_revision_tries:
        return NextStep("revise", last.round, last.revision_try + 1)
    if policy.method == "sampled":
        return _next_sampled_round(history, policy)
    unchanged = _all_unchanged(tries)
    return Stop(StopReason.NO_CHANGE if unchanged else StopReason.REVISION_REJECTED)


def _all_unchanged(tries: Sequence[RevisionRecord]) -> bool:
    return all(r.outcome == "no_change" for r in tries)


def _seen_before(history: History, revision: RevisionRecord) -> set[str | None]:
    earlier: set[str | None] = {
        r.digest
        for r in history.revisions
        if r.outcome == "ok" and r.round < revision.round and r.digest
    }
    return earlier | ({history.initial_digest} if history.initial_digest else set())


def _with_closing_label(history: History, policy: PolicyConfig, decision: Decision) -> Decision:
    """Before a job ends whose response was replaced more than once, compare last with first.

    Each accepted revision was compared with the one before it only; without this label nobody
    has measured whether the last beats the first.
    """
    if not isinstance(decision, Stop) or policy.accept == "always":
        return decision
    kept = len(accepted_revisions(history, policy)) - int(decision.rolled_back)
    first_written = int(history.initial is None)
    if kept - first_written < 2 or any(label.revision_try == 0 for label in history.labels):
        return decision
    return NextStep("label", history.critiques[-1].round, 0)


def find_label(history: History, revision: RevisionRecord) -> LabelRecord | None:
    """The label that compared this revision with its predecessor."""
    wanted = (revision.round, revision.revision_try)
    return next((x for x in history.labels if (x.round, x.revision_try) == wanted), None)


def is_accepting(label: LabelRecord, policy: PolicyConfig) -> bool:
    """Whether a label puts the revision in the place of the current response."""
    return label.verdict == "B" and label.p_b is not None and label.p_b > policy.accept_above


def accepted_revisions(history: History, policy: PolicyConfig) -> tuple[RevisionRecord, ...]:
    """The responses that stood, one after the other, beginning with a written first one."""
    accepted = []
    for revision in history.revisions:
        if revision.outcome != "ok":
            continue
        label = find_label(history, revision)
        if (
            revision.round == 0
            or policy.accept == "always"
            or (label and is_accepting(label, policy))
        ):
            accepted.append(revision)
    return tuple(accepted)


def current_response(history: History, policy: PolicyConfig) -> str | None:
    """The response that stands now; None before the first one is written."""
    accepted = accepted_revisions(history, policy)
    return accepted[-1].text if accepted else history.initial


def first_response(history: History) -> str | None:
    """The response the loop began with."""
    if history.initial is not None:
        return history.initial
    return next((r.text for r in history.revisions if r.round == 0 and r.outcome == "ok"), None)


def final_response(history: History, policy: PolicyConfig, stop: Stop) -> str | None:
    """The response a finished job keeps: the current one, or its predecessor on a roll-back."""
    if history.kind == "revise":
        last = history.revisions[-1] if history.revisions else None
        return last.text if last and last.outcome == "ok" else history.initial
    accepted = list(accepted_revisions(history, policy))
    if stop.rolled_back and accepted:
        accepted.pop()
    return accepted[-1].text if accepted else history.initial


def final_critique(history: History, policy: PolicyConfig, stop: Stop) -> CritiqueRecord | None:
    """The critique that speaks of the final response; None where nobody has judged it.

    A job that is stopped, or fails, between an accepted revision and its critique keeps a response
    whose severity is not known: that of its predecessor says nothing of it.
    """
    if not history.critiques:
        return None
    if stop.rolled_back and len(history.critiques) > 1:
        return history.critiques[-2]
    last = history.critiques[-1]
    unjudged = any(r.round >= last.round for r in accepted_revisions(history, policy))
    return None if unjudged else last


def regressions(
    before: CritiqueRecord, after: CritiqueRecord, policy: PolicyConfig
) -> tuple[str, ...]:
    """Principles that had passed before and now need revision."""
    earlier = _readable(before.findings)
    now = _readable(after.findings)
    return tuple(
        name
        for name, severity in now.items()
        if severity > policy.needs_revision_above
        and earlier.get(name, 1.0) <= policy.severity_threshold
    )


def weight_of(principle: Principle) -> float:
    """Weight of a principle in the quality: its own times its category's."""
    return CATEGORY_WEIGHT[principle.category] * principle.weight


def _readable(findings: Sequence[Finding]) -> dict[str, float]:
    if not findings:
        raise ValueError("a critique without findings has no severity")
    severities = {f.principle: f.severity for f in findings if f.severity is not None}
    if len(severities) != len(findings):
        raise ValueError("a finding is invalid or named twice; it has no severity")
    return severities
