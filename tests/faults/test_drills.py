"""The sharpest fault drills in short; ``make chaos`` plays all of them, at length."""

from collections.abc import Iterator

import pytest

from tests.chaos.report import paragraph
from tests.chaos.stage import Pace
from tests.chaos.theatre import DRILLS, Theatre, open_theatre

PACE = Pace(jobs=120, step_s=0.2, outage_s=3.0, every_s=1.0, faults=3)
#: In the theatre's order, which starts the fewest processes anew.
SHORT = [
    name
    for name in DRILLS
    if name
    in {
        "worker-kill",
        "worker-sleep",
        "postgres-kill",
        "valkey-kill",
        "flushall",
        "unpublished",
        "publish-twice",
    }
]


@pytest.fixture(scope="module")
def theatre(postgres, valkey) -> Iterator[Theatre]:
    """A theatre with servers of its own; those of other tests only show that there are any."""
    with open_theatre(PACE, seed=7) as theatre:
        yield theatre


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_and_nothing_is_there_twice(theatre: Theatre, name: str):
    outcome = theatre.play(DRILLS[name])
    assert not outcome.problems, paragraph(outcome, DRILLS[name].what)
