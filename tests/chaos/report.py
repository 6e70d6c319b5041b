"""What drills found, in words: a paragraph a drill, a table, and the one line at the end."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.drill import Outcome
from tests.chaos.stage import SLOTS, WORKERS

#: Most of the work that may be wasted at one kill per minute and worker.
TARGET_SHARE = 0.02
HEAD = (
    "| drill | jobs = done + failed + cancelled | steps | in vain | most tries"
    " | longest pause | first step | normal again | figures |"
)


def paragraph(outcome: Outcome, what: str) -> str:
    """A drill's outcome, as it ends."""
    counts = outcome.counts
    verdict = "FAILED" if outcome.problems else "ok"
    equation = (
        f"{counts.submitted} submitted = {counts.done} done + {counts.failed} failed"
        f" + {counts.cancelled} cancelled"
    )
    lines = [
        f"{outcome.drill}: {what}: {verdict} in {outcome.seconds:.0f} s",
        f"  {equation}; lost {outcome.lost}, duplicated {outcome.duplicated}",
        f"  {counts.steps} steps, {outcome.wasted_steps} begun in vain"
        f" ({outcome.wasted_share:.2%}), none more than {counts.most_attempts} times"
        f" ({counts.most_of_healthy} if sound);"
        f" {counts.open} leases left",
        *([f"  {_recovery(outcome)}"] if outcome.recovery else []),
        *([f"  {_notes(outcome)}"] if outcome.notes else []),
        *(f"  PROBLEM {problem}" for problem in outcome.problems),
    ]
    return "\n".join(lines)


def table(outcomes: Sequence[Outcome]) -> str:
    """All drills as Markdown."""
    return "\n".join([HEAD, "|---|---|--:|--:|--:|--:|--:|--:|---|", *map(_row, outcomes)])


def kill_arithmetic(outcome: Outcome) -> tuple[str, float]:
    """How much one kill per minute and worker would waste, from a drill that killed more often.

    A kill wastes the steps that its worker had in flight, whatever the time between two kills. So
    the steps wasted per kill are put beside the steps that one worker does in a minute.
    """
    per_kill = outcome.wasted_steps / max(outcome.faults, 1)
    per_minute = outcome.steps_per_s * 60 / WORKERS
    share = per_kill / (per_kill + per_minute)
    words = (
        f"waste: {outcome.faults} kills began {outcome.wasted_steps} steps in vain,"
        f" {per_kill:.1f} a kill (a worker has {SLOTS} slots); a worker does {per_minute:.0f}"
        f" steps a minute; at one kill per minute and worker {share:.2%}, target {TARGET_SHARE:.0%}"
    )
    return words, share


def last_line(outcomes: Sequence[Outcome], wasted_share: float) -> str:
    """The one line that sums it up."""
    lost = sum(outcome.lost for outcome in outcomes)
    duplicated = sum(outcome.duplicated for outcome in outcomes)
    return (
        f"chaos: {len(outcomes)} drills, lost {lost}, duplicated {duplicated},"
        f" wasted {wasted_share:.2%}".replace("%", " %")
    )


def _row(outcome: Outcome) -> str:
    counts, recovery = outcome.counts, outcome.recovery
    seconds = (recovery.pause_s, recovery.first_s, recovery.normal_s) if recovery else (None,) * 3
    cells = [
        outcome.drill,
        f"{counts.submitted} = {counts.done} + {counts.failed} + {counts.cancelled}",
        str(counts.steps),
        f"{outcome.wasted_steps} ({outcome.wasted_share:.2%})",
        str(counts.most_attempts),
        *(map(_seconds, seconds)),
        "; ".join(filter(None, [_notes(outcome), *map(_first_line, outcome.problems)])),
    ]
    return f"| {' | '.join(cells)} |"


def _recovery(outcome: Outcome) -> str:
    recovery = outcome.recovery
    assert recovery
    return (
        f"{outcome.faults} faults at {recovery.rate:.0f} steps/s: longest pause"
        f" {_seconds(recovery.pause_s)}; after the cause was gone the first step in"
        f" {_seconds(recovery.first_s)}, normal throughput in {_seconds(recovery.normal_s)}"
    )


def _notes(outcome: Outcome) -> str:
    return "; ".join(f"{name}: {value}" for name, value in outcome.notes.items())


def _first_line(problem: str) -> str:
    return problem.partition("\n")[0]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
