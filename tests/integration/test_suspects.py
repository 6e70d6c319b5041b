"""Steps that lost their worker twice go one at a time: the one that kills dies alone."""

import pytest
from sqlalchemy import Engine

from schemas.control import pause_run
from schemas.database import transaction
from schemas.routing import run_id_of
from schemas.settings import Settings
from tests.integration.dispatching import Dispatching, jobs, run_sql, worker
from tests.integration.rows import open_jobs
from workers.ledger import Ledger

SETTINGS = Settings(backlog_factor=3, republish_after_s=60, max_attempts=5)


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return worker(engine, slots=8)


@pytest.fixture
def dispatching(engine: Engine, ledger: Ledger) -> Dispatching:
    return Dispatching(engine, SETTINGS)


def lose(engine: Engine, ledger: Ledger, steps: list) -> None:
    """Claim these steps and let their worker die."""
    for step in steps:
        assert ledger.claim(step)
    run_sql(engine, "UPDATE step SET lease_until = now() - interval '1 s' WHERE state = 'running'")


def lose_twice(engine: Engine, ledger: Ledger, dispatching: Dispatching, count: int) -> list:
    """A run of so many steps that have lost their worker twice, and what comes back then."""
    open_jobs(engine, *jobs(count))
    lose(engine, ledger, dispatching.once())
    again = dispatching.once()
    assert len(again) == count, "after the first loss all come back at once"
    lose(engine, ledger, again)
    return dispatching.once()


def test_after_a_second_loss_they_come_back_singly(engine, ledger, dispatching):
    (first,) = lose_twice(engine, ledger, dispatching, 3)
    assert dispatching.once() == [], "the first waits on Redis"
    claimed = ledger.claim(first)
    assert claimed
    assert dispatching.once() == [], "the first runs"
    ledger.give_back(claimed)
    assert dispatching.once() == [first], "given back, it is still the one under way"
    run_sql(engine, "UPDATE step SET state = 'done' WHERE id = :id", id=first)
    (second,) = dispatching.once()
    assert second != first


def test_others_are_not_held_up(engine, ledger, dispatching):
    lose_twice(engine, ledger, dispatching, 2)
    open_jobs(engine, *jobs(3, first=10), run_name="other")
    assert len(dispatching.once()) == 3


def test_one_that_dies_again_goes_to_the_end_of_the_line(engine, ledger, dispatching):
    (first,) = lose_twice(engine, ledger, dispatching, 2)
    lose(engine, ledger, [first])
    (second,) = dispatching.once()
    assert second != first
    lose(engine, ledger, [second])
    assert dispatching.once() == [first]


def test_a_paused_run_holds_up_nobody(engine, ledger, dispatching):
    (first,) = lose_twice(engine, ledger, dispatching, 1)
    with transaction(engine) as connection:
        pause_run(connection, run_id_of("run"))
    open_jobs(engine, *jobs(1, first=10), run_name="other")
    lose(engine, ledger, dispatching.once())
    lose(engine, ledger, dispatching.once())
    (other,) = dispatching.once()
    assert other != first
