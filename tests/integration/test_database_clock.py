"""Times that decide are the database's: a host whose clock is wrong changes no lease, no deadline.

The statements are watched for any time of this process that travels to the server.
"""

from datetime import datetime

from sqlalchemy import Engine

from schemas.control import set_budgets
from schemas.database import transaction
from schemas.policy import StopReason
from schemas.routing import run_id_of
from tests.integration.dispatching import Dispatching, jobs, run_sql, worker
from tests.integration.query_plans import watch
from tests.integration.rows import critique_outcome, open_jobs, scripted_config
from workers.policy import NextStep, Stop


def times_in(values: object) -> list[datetime]:
    if isinstance(values, dict):
        return [found for value in values.values() for found in times_in(value)]
    if isinstance(values, list | tuple):
        return [found for value in values for found in times_in(value)]
    return [values] if isinstance(values, datetime) else []


def test_no_time_of_ours_travels_to_the_ledger(engine: Engine, monkeypatch):
    config = scripted_config(budgets={"deadline_s": 3_600})
    with watch(engine, monkeypatch) as watched:
        goes_on, ends, back = open_jobs(engine, *jobs(3), config=config)
        ledger = worker(engine)
        dispatching = Dispatching(engine)
        assert len(dispatching.once()) == 3
        steps = [ledger.claim(step_id) for step_id in (goes_on, ends, back)]
        ledger.renew([(step.id, step.fence) for step in steps])
        ledger.commit(steps[0], critique_outcome(steps[0], 0.9), NextStep("revise", 1))
        ledger.commit(steps[1], critique_outcome(steps[1], 0.0), Stop(StopReason.MAX_ROUNDS))
        ledger.give_back(steps[2], after_s=5)
        dispatching.once()
    assert len(watched.statements) > 20
    for statement, values in watched.statements.items():
        assert times_in(values) == [], statement


def test_a_deadline_counts_from_the_database_s_now(engine: Engine):
    open_jobs(engine, *jobs(1), config=scripted_config(budgets={"deadline_s": 3_600}))
    left = "SELECT extract(epoch FROM deadline_at - created_at) FROM run"
    assert run_sql(engine, left) == [(3_600,)]
    with transaction(engine) as connection:
        set_budgets(connection, run_id_of("run"), {"deadline_s": 60})
    assert run_sql(engine, left) == [(60,)]
