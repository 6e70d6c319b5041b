"""Who gets a queue's slots: weighted fair shares between runs, as pure functions.

A job that has begun goes on by itself; shares are held by what begins. Two things decide that:
what a run has in flight, measured against its weight, and what it is owed because it held less
than its share of the slots lately. Nothing here knows the ledger or Redis.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

#: Weight of the newest look in the running mean of a queue's step time.
NEWEST = 0.05
#: Least step time reckoned with: below it a look at the queue says nothing about its steps.
LEAST_STEP_S = 0.001

Run = TypeVar("Run", bound=Hashable)

#: Owed step times that weigh as much as one step in flight. A step in flight stands for the rest
#: of its job, some ten steps; paying back faster swings from one run to the other.
STEPS_PER_JOB = 16.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What one run asks of one queue.

    Attributes:
        weight: Its share in proportion to the other runs' weights, above 0.
        ready: Its steps that could be published now.
        published: Its steps that wait on Redis.
        running: Its steps that hold a slot.
        room: Steps it may still publish under its ``max_running``; None for no limit. Negative
            where the limit was lowered below what is in flight.
        owed_s: Slot seconds it had less than its share (above 0) or more (below 0), see
            ``settle``.
    """

    weight: float
    ready: int
    published: int = 0
    running: int = 0
    room: int | None = None
    owed_s: float = 0.0

    @property
    def in_flight(self) -> int:
        """Steps published or running."""
        return self.published + self.running

    @property
    def most(self) -> int:
        """Steps that may be published now at most."""
        return max(0, self.ready if self.room is None else min(self.ready, self.room))


@dataclass(frozen=True, slots=True)
class Turn(Generic[Run]):
    """One step of a run to publish; ``ahead`` of what waits on Redis, or behind it."""

    run: Run
    ahead: bool


def divide(
    claims: Mapping[Run, Claim], *, slots: int, target: int, step_s: float
) -> list[Turn[Run]]:
    """Divide what a queue lacks between the runs that have work for it.

    A run may have its share of the slots in flight however full the queue is of others' steps,
    and these go ahead: a run that arrives late need not wait until all of that has run. The
    rest is shared by deficit until ``target`` steps are published.

    Args:
        claims: The runs, the oldest first.
        slots: Slots of the queue's live workers.
        target: Steps that should wait on Redis.
        step_s: Seconds for which one step holds a slot, above 0.

    Returns:
        Turns in the order to publish them: runs alternate, so that none waits for a block of
        another's steps.
    """
    wanted = target - sum(claim.published for claim in claims.values())
    short = _short_of_slots(claims, slots)
    ahead = turns(short, sum(claim.most for claim in short.values()), step_s)
    had = Counter(ahead)
    rest = {run: _after(claim, had[run]) for run, claim in claims.items()}
    behind = turns(rest, max(0, wanted - len(ahead)), step_s)
    return [Turn(run, True) for run in ahead] + [Turn(run, False) for run in behind]


def _short_of_slots(claims: Mapping[Run, Claim], slots: int) -> dict[Run, Claim]:
    """Claims on no more steps than their runs lack of their share of the slots."""
    wanting = {run: claim for run, claim in claims.items() if claim.in_flight or claim.most}
    whole = sum(claim.weight for claim in wanting.values())
    lacking = {
        run: min(claim.most, int(slots * claim.weight / whole) - claim.in_flight)
        for run, claim in wanting.items()
    }
    return {run: replace(claims[run], ready=steps) for run, steps in lacking.items() if steps > 0}


def _after(claim: Claim, steps: int) -> Claim:
    return replace(
        claim,
        ready=claim.ready - steps,
        published=claim.published + steps,
        room=None if claim.room is None else claim.room - steps,
    )


def turns(claims: Mapping[Run, Claim], wanted: int, step_s: float) -> list[Run]:
    """Give ``wanted`` publications to runs, by deficit against their weights.

    Each goes to the run that is furthest behind; what a run cannot use goes to the others.

    Returns:
        Runs in the order of their turns, at most ``wanted`` and fewer only where no run could
        use more. Of equals the first comes first.
    """
    given: Counter[Run] = Counter()
    order: list[Run] = []
    waiting = [
        (standing(claim, 0, step_s), place, run)
        for place, (run, claim) in enumerate(claims.items())
        if claim.most
    ]
    heapq.heapify(waiting)
    while waiting and len(order) < wanted:
        _, place, run = waiting[0]
        order.append(run)
        given[run] += 1
        if given[run] < claims[run].most:
            again = (standing(claims[run], given[run], step_s), place, run)
            heapq.heapreplace(waiting, again)
        else:
            heapq.heappop(waiting)
    return order


def standing(claim: Claim, given: int, step_s: float) -> float:
    """What a run holds for each unit of its weight when ``given`` more steps are published."""
    # The half rounds to the nearest share: without it each run would get its first step whatever
    # its weight, and with a whole one the lighter runs would always be rounded down.
    held = claim.in_flight + given + 0.5 - claim.owed_s / step_s / STEPS_PER_JOB
    return held / claim.weight


def settle(claims: Mapping[Run, Claim], *, elapsed_s: float, most_s: float) -> dict[Run, float]:
    """What each run is owed after ``elapsed_s`` seconds with its present ``running``.

    In-flight steps alone would cheat runs of short jobs: theirs mostly wait, while a long job
    holds its slot step after step. Only runs that could have used more slots take part; one that
    wanted none has given its share away, and begins at zero when it comes back.

    Args:
        claims: All runs on the queue, with what they were owed before.
        elapsed_s: Seconds since the last settling.
        most_s: Bound of the result, so that nobody pays for times long gone.

    Returns:
        Slot seconds by run.
    """
    taking_part = {run: claim for run, claim in claims.items() if claim.most > 0}
    whole = sum(claim.weight for claim in taking_part.values())
    running = sum(claim.running for claim in taking_part.values())
    missed_s = {
        run: (claim.weight / whole * running - claim.running) * elapsed_s
        for run, claim in taking_part.items()
    }
    return {
        run: max(-most_s, min(most_s, claim.owed_s + missed_s[run]))
        for run, claim in taking_part.items()
    }


def step_time_s(before_s: float | None, running: int, ages_s: float) -> float | None:
    """Seconds for which a step holds a slot, as a running mean over many looks at a queue.

    A step found running is on average half through, so its age is half its time.

    Args:
        before_s: The mean so far; None before the first look.
        running: Steps found running.
        ages_s: Seconds since they were claimed, summed.

    Returns:
        None while no step was ever found running.
    """
    if not running:
        return before_s
    now_s = max(LEAST_STEP_S, 2 * ages_s / running)
    return now_s if before_s is None else before_s + NEWEST * (now_s - before_s)
