"""What a drill is, and how one is played and judged."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from schemas.database import transaction
from tests.chaos import checks, recovery
from tests.chaos.scene import Scene
from tests.chaos.stage import MOST_ATTEMPTS, Cast, Stage

#: The undisturbed run that every drill is compared with.
CALM = "calm"


def _as_it_is(_jobs: int) -> Cast:
    return Cast()


@dataclass(frozen=True)
class Drill:
    """One drill.

    Attributes:
        name: What ``--drill`` takes.
        what: One line for people.
        act: Starts the run, breaks something, waits for the end.
        cast: The processes it needs, given the number of plain jobs.
        append_only: Whether its Valkey keeps a log.
    """

    name: str
    what: str
    act: Callable[[Scene], None]
    cast: Callable[[int], Cast] = _as_it_is
    append_only: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of a run under one drill."""

    drill: str
    counts: checks.Counts
    lost: int
    duplicated: int
    problems: list[str]
    contents: Mapping[str, str]
    given_back: int
    recovery: recovery.Recovery | None
    faults: int
    seconds: float
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def steps_per_s(self) -> float:
        """Throughput of the whole run, faults included."""
        return self.counts.steps / self.seconds

    @property
    def wasted_steps(self) -> int:
        """Times a step was begun in vain. Each counts as a whole step, however far it got."""
        return self.counts.begun - self.counts.steps + self.given_back

    @property
    def wasted_share(self) -> float:
        """Share of all steps begun that was in vain."""
        begun = self.counts.begun + self.given_back
        return self.wasted_steps / begun if begun else 0.0


def play(stage: Stage, drill: Drill, expected: Mapping[str, str]) -> Outcome:
    """Play one drill and judge it, also where it broke off.

    Args:
        expected: Contents of the undisturbed run by job; empty where this is that run.
    """
    stage.perform(drill.cast(stage.pace.jobs))
    scene = Scene(stage, drill.name, random.Random(f"{stage.seed}/{drill.name}"))
    started = time.monotonic()
    problems = []
    try:
        drill.act(scene)
    except AssertionError as error:
        problems.append(str(error))
    outcome = _judge(scene, drill, expected, time.monotonic() - started)
    outcome.problems[:0] = problems
    return outcome


def _judge(scene: Scene, drill: Drill, expected: Mapping[str, str], seconds: float) -> Outcome:
    with transaction(scene.stage.system.database) as connection:
        counts = checks.count(connection, scene.run_id, scene.must_fail)
        contents = checks.contents(connection, scene.run_id)
        duplicated = checks.duplicates(connection, scene.run_id)
        wrong = checks.wrong_failures(connection, scene.run_id, scene.must_fail)
        sums = checks.wrong_sums(connection, scene.run_id)
        recovered = recovery.measure(connection, scene.run_id, scene.faults)
    missing = len(expected.keys() - contents.keys())
    differing = checks.different(expected, contents)
    problems = [
        *_unless(counts.submitted == scene.submitted, f"{counts.submitted} jobs are there"),
        *_unless(counts.ended == counts.submitted, f"{counts.ended} jobs ended"),
        *_unless(not counts.open, f"{counts.open} steps are open or still leased"),
        *_unless(not duplicated, f"{duplicated} rows are there twice"),
        *_unless(not sums, f"the tally is wrong: {sums}"),
        *_unless(not differing, f"{len(differing)} jobs differ, e.g. {differing[:3]}"),
        *_unless(not wrong, f"{len(wrong)} wrong failures, e.g. {wrong[:3]}"),
        *_unless(
            counts.most_of_healthy <= scene.most_attempts and counts.most_attempts <= MOST_ATTEMPTS,
            f"a step was begun {counts.most_attempts} times, one of a sound job"
            f" {counts.most_of_healthy} times; at most {scene.most_attempts}",
        ),
    ]
    return Outcome(
        drill=drill.name,
        counts=counts,
        lost=counts.submitted - counts.ended + missing,
        duplicated=duplicated,
        problems=problems,
        contents=contents,
        given_back=scene.given_back,
        recovery=recovered,
        faults=len(scene.faults),
        seconds=seconds,
        notes=scene.notes,
    )


def _unless(holds: bool, problem: str) -> list[str]:
    return [] if holds else [problem]
