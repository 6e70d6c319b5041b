"""One job's history, arranged for a reader: rounds, findings, changes word by word, labels.

Pure. It shows what the ledger holds and adds no judgement; pages are made in
``analysis.report``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from analysis.pairs import prompt_messages
from schemas.policy import StopReason
from schemas.results import CritiqueResult, JobResult, PreferenceResult, RevisionResult

#: Longer texts are shown whole: comparing words takes quadratic time.
MAX_DIFF_WORDS = 2_000

#: Equal runs inside a change that are shorter than this, white space counted, are not kept apart.
MIN_KEPT_WORDS = 6

Change = Literal["same", "cut", "new"]

STOP_MEANING: dict[str, str] = {
    StopReason.SEVERITY_BELOW_THRESHOLD: "the worst finding is at or below the threshold",
    StopReason.QUALITY_REACHED: "the weighted quality is reached and nothing needs revision",
    StopReason.COMPLETED: "the one step that was asked for is done",
    StopReason.IMPROVEMENT_TOO_SMALL: "the last accepted revision gained too little",
    StopReason.REVISION_REJECTED: "no revision of the round was usable and preferred",
    StopReason.REGRESSION: "a principle that had passed failed; the revision was rolled back",
    StopReason.OSCILLATION: "the revision repeats an earlier response",
    StopReason.NO_CHANGE: "every revision repeated the current response",
    StopReason.MAX_ROUNDS: "the round limit was met",
    StopReason.BUDGET_EXHAUSTED: "the run's budget was used up",
    StopReason.DEADLINE: "the run's deadline passed",
    StopReason.CANCELLED: "the run was cancelled",
    StopReason.CRITIC_FAILED: "the critic could not be read or did not answer",
    StopReason.JUDGE_FAILED: "the judge could not be read or did not answer",
    StopReason.POLICY_FAILED: "the policy model gave no usable text",
}


@dataclass(frozen=True, slots=True)
class RevisionView:
    """One revision: how it changed the response, and what the judge said of it."""

    revision: RevisionResult
    changes: tuple[tuple[Change, str], ...]
    label: PreferenceResult | None


@dataclass(frozen=True, slots=True)
class RoundView:
    """One round: findings worst first, then the revisions tried."""

    number: int
    findings: tuple[CritiqueResult, ...]
    revisions: tuple[RevisionView, ...]

    @property
    def worst(self) -> float | None:
        """Worst severity; None where a finding is unreadable or there is none."""
        severities = [f.severity for f in self.findings]
        known = [s for s in severities if s is not None]
        return max(known) if known and len(known) == len(severities) else None


@dataclass(frozen=True, slots=True)
class Story:
    """One job as a reader sees it; ``titles`` say why it is shown."""

    titles: tuple[str, ...]
    result: JobResult
    prompt: tuple[tuple[str, str], ...]
    rounds: tuple[RoundView, ...]
    closing: PreferenceResult | None
    overall_changes: tuple[tuple[Change, str], ...]

    @property
    def stop_meaning(self) -> str:
        """The stop reason in words."""
        reason = self.result.stop_reason
        return STOP_MEANING[reason] if reason else "the job has not ended"


def tell(result: JobResult, titles: Sequence[str] = ()) -> Story:
    """Arrange a job's history."""
    rounds, current = [], result.response or ""
    numbers = {c.round for c in result.critiques} | {r.round for r in result.revisions}
    for number in sorted(numbers - {0}):
        view, current = _round(result, number, current)
        rounds.append(view)
    final = result.final_response
    return Story(
        titles=tuple(titles),
        result=result,
        prompt=tuple((m["role"], m["content"]) for m in prompt_messages(result)),
        rounds=tuple(rounds),
        closing=next((p for p in result.preferences if p.revision_try == 0), None),
        overall_changes=changes(result.response or "", final) if final else (),
    )


def _round(result: JobResult, number: int, current: str) -> tuple[RoundView, str]:
    findings = [c for c in result.critiques if c.round == number]
    findings.sort(key=lambda c: -1.0 if c.severity is None else -c.severity)
    views = []
    for revision in (r for r in result.revisions if r.round == number):
        text = revision.text if revision.text is not None else revision.raw_text
        views.append(RevisionView(revision, changes(current, text), _label_of(result, revision)))
        # A revision that was rolled back stood all the same until the next critique.
        if revision.accepted and revision.text is not None:
            current = revision.text
    return RoundView(number, tuple(findings), tuple(views)), current


def _label_of(result: JobResult, revision: RevisionResult) -> PreferenceResult | None:
    place = (revision.round, revision.revision_try)
    return next((p for p in result.preferences if (p.round, p.revision_try) == place), None)


def changes(before: str, after: str) -> tuple[tuple[Change, str], ...]:
    """What was kept, cut and added, as pieces of text in reading order.

    The kept and added pieces together are ``after``; texts too long to compare come as cut and
    added whole.
    """
    old, new = _words(before), _words(after)
    if max(len(old), len(new)) > MAX_DIFF_WORDS:
        return _pieces(("cut", before), ("new", after))
    found: list[tuple[Change, str]] = []
    for kind, cut, added in _merge_islands(old, new):
        if kind == "equal":
            found.append(("same", "".join(added)))
        else:
            found += [("cut", "".join(cut)), ("new", "".join(added))]
    return _pieces(*found)


def _merge_islands(old: list[str], new: list[str]) -> list[tuple[str, list[str], list[str]]]:
    """Runs of equal and changed words; a short equal run between changes counts as changed.

    Texts that share only small words would otherwise be cut into shreds nobody can read.
    """
    runs: list[tuple[str, list[str], list[str]]] = []
    opcodes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for index, (kind, a, b, c, d) in enumerate(opcodes):
        island = kind == "equal" and b - a < MIN_KEPT_WORDS and 0 < index < len(opcodes) - 1
        kept = kind == "equal" and not island
        if runs and not kept and runs[-1][0] == "changed":
            runs[-1] = ("changed", runs[-1][1] + old[a:b], runs[-1][2] + new[c:d])
        else:
            runs.append(("equal" if kept else "changed", old[a:b], new[c:d]))
    return runs


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|[^\s]+", text)


def _pieces(*found: tuple[Change, str]) -> tuple[tuple[Change, str], ...]:
    return tuple((kind, text) for kind, text in found if text)
