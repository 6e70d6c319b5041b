"""Plays drills one after the other, each compared with one undisturbed run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.chaos.drill import CALM, Drill, Outcome, play
from tests.chaos.drills_broker import DRILLS as BROKER
from tests.chaos.drills_database import DRILLS as DATABASE
from tests.chaos.drills_engine import DRILLS as ENGINE
from tests.chaos.drills_export import DRILLS as EXPORT
from tests.chaos.drills_workers import DRILLS as WORKERS
from tests.chaos.scene import Scene
from tests.chaos.stage import Pace, Stage, open_stage

#: In the order in which the fewest processes and servers are started anew.
DRILLS = {
    drill.name: drill
    for drill in sorted(
        [*WORKERS, *DATABASE, *ENGINE, *EXPORT, *BROKER],
        key=lambda drill: (not drill.append_only, repr(drill.cast(1))),
    )
}


def _stay_calm(scene: Scene) -> None:
    scene.start()
    scene.finish()
    scene.most_attempts = 1


CALM_DRILL = Drill(CALM, "nothing is broken", _stay_calm)


@dataclass
class Theatre:
    """Opens a stage when a drill needs another, and keeps what the undisturbed run found."""

    pace: Pace
    seed: int
    calm: Outcome | None = None
    _stage: Stage | None = None
    _exits: ExitStack = field(default_factory=ExitStack)

    def play(self, drill: Drill) -> Outcome:
        """Play a drill, after the undisturbed run if it is the first."""
        if self.calm is None:
            self.calm = play(self._stage_for(CALM_DRILL), CALM_DRILL, {})
        outcome = play(self._stage_for(drill), drill, self.calm.contents)
        if outcome.problems:
            # What it left broken must not be held against the next one.
            self.close()
        return outcome

    def _stage_for(self, drill: Drill) -> Stage:
        if self._stage is None or self._stage.append_only != drill.append_only:
            self.close()
            new = open_stage(self.pace, self.seed, append_only=drill.append_only)
            self._stage = self._exits.enter_context(new)
        return self._stage

    def close(self) -> None:
        """End all that was started."""
        self._exits.close()
        self._stage = None


@contextmanager
def open_theatre(pace: Pace, seed: int) -> Iterator[Theatre]:
    """A theatre for the time of the block."""
    theatre = Theatre(pace, seed)
    try:
        yield theatre
    finally:
        theatre.close()
