"""The dispatcher on a real Postgres: thin queues, lost messages, lost workers, limits."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select, text, update

from schemas.database import open_database, transaction
from schemas.jobs import ImproveJob
from schemas.settings import Settings
from schemas.tables import JobRow, Run, StepRow
from tests.integration.rows import critique_outcome, open_jobs, scripted_config
from workers.dispatcher import Dispatcher
from workers.ledger import Ledger
from workers.policy import NextStep


@pytest.fixture
def engine(database_url: str):
    database = open_database(database_url, pool_size=10)
    yield database
    database.dispose()


@pytest.fixture
def published() -> list:
    return []


@pytest.fixture
def dispatcher(engine: Engine, published: list) -> Dispatcher:
    settings = Settings(backlog_factor=3, republish_after_s=10, max_attempts=2)
    return Dispatcher(engine, lambda *message: published.append(message), settings)


def jobs(n: int) -> list[ImproveJob]:
    return [ImproveJob(prompt=f"p{i}", response="r") for i in range(n)]


def worker(engine: Engine, slots: int = 2, name: str = "w") -> Ledger:
    ledger = Ledger(engine, name, lease_s=30)
    ledger.announce("gen.small", slots, "scripted")
    return ledger


def job_rows(engine: Engine) -> list:
    with engine.connect() as connection:
        return list(connection.execute(select(JobRow).order_by(JobRow.ordinal)))


def run_sql(engine: Engine, statement: str) -> None:
    with transaction(engine) as connection:
        connection.execute(text(statement))


def test_no_messages_without_a_live_worker(engine, dispatcher, published):
    open_jobs(engine, *jobs(3))
    assert dispatcher.dispatch_once() == 0
    worker(engine)
    run_sql(engine, "UPDATE worker SET seen_at = now() - interval '1 hour'")
    assert dispatcher.dispatch_once() == 0
    assert published == []


def test_queue_stays_thin(engine, dispatcher, published):
    open_jobs(engine, *jobs(50))
    worker(engine, slots=2)
    assert dispatcher.dispatch_once() == 6
    assert dispatcher.dispatch_once() == 0
    assert {queue for _, queue, _ in published} == {"gen.small"}


def test_file_order_and_depth_first(engine, dispatcher, published):
    ids = open_jobs(engine, *jobs(9))
    ledger = worker(engine, slots=1)
    dispatcher.dispatch_once()
    assert [m[0] for m in published] == ids[:3]
    step = ledger.claim(ids[0])
    with transaction(engine) as connection:
        connection.execute(update(Run).values(state="paused"))
    ledger.commit(step, critique_outcome(step, 0.9), NextStep("revise", 1))
    with transaction(engine) as connection:
        connection.execute(update(Run).values(state="active"))
    dispatcher.dispatch_once()
    with engine.connect() as connection:
        kind = connection.execute(
            select(StepRow.kind).where(StepRow.id == published[3][0])
        ).scalar_one()
    assert kind == "revise", "the job that has begun goes before the one that has not"


def test_two_runs_share_a_queue(engine, dispatcher, published):
    first = set(open_jobs(engine, *jobs(50), run_name="one"))
    second = set(open_jobs(engine, *jobs(50), run_name="two"))
    worker(engine, slots=4)
    dispatcher.dispatch_once()
    sent = {message[0] for message in published}
    assert len(sent & first) == len(sent & second) == 6


def test_lost_message_is_published_again_and_not_at_once(engine, dispatcher, published):
    (step_id,) = open_jobs(engine, *jobs(1))
    worker(engine)
    dispatcher.dispatch_once()
    dispatcher.dispatch_once()
    assert len(published) == 1
    run_sql(engine, "UPDATE step SET published_at = now() - interval '11 s'")
    dispatcher.dispatch_once()
    assert [m[0] for m in published] == [step_id] * 2
    run_sql(engine, "UPDATE step SET published_at = now() - interval '11 s'")
    dispatcher.dispatch_once()
    assert len(published) == 2, "the second pause is twice the first"


def test_step_of_a_dead_worker_runs_elsewhere(engine, dispatcher, published):
    (step_id,) = open_jobs(engine, *jobs(1))
    dead = worker(engine)
    step = dead.claim(step_id)
    run_sql(engine, "UPDATE step SET lease_until = now() - interval '1 s'")
    dispatcher.dispatch_once()
    assert [m[0] for m in published] == [step_id]
    taken = worker(engine, name="other").claim(step_id)
    assert taken.attempt == 2
    assert taken.fence > step.fence


def test_job_that_kills_its_workers_fails_with_a_reason(engine, dispatcher, published):
    (step_id,) = open_jobs(engine, *jobs(1))
    ledger = worker(engine)
    for _ in range(2):
        assert ledger.claim(step_id) is not None
        run_sql(engine, "UPDATE step SET lease_until = now() - interval '1 s'")
    dispatcher.dispatch_once()
    (job,) = job_rows(engine)
    assert (job.state, job.stop_reason) == ("failed", "critic_failed")
    assert job.error_code == "attempts_exhausted"
    assert "2 times" in job.error
    assert published == []


def test_deadline_ends_waiting_jobs_with_what_they_have(engine, dispatcher, published):
    open_jobs(engine, *jobs(2))
    worker(engine)
    with transaction(engine) as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(Run).values(deadline_at=past))
    dispatcher.dispatch_once()
    assert [(j.state, j.stop_reason, j.final_response) for j in job_rows(engine)] == [
        ("done", "deadline", "r")
    ] * 2
    assert published == []


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        ({"max_tokens": 100}, "input_tokens = 60, output_tokens = 60"),
        ({"max_usd": 0.5}, "cost_usd = 0.6"),
        ({"max_engine_s": 5.0}, "engine_s = 5.5"),
    ],
)
def test_spent_budget_stops_hard_and_is_no_failure(engine, dispatcher, budget, spent):
    open_jobs(engine, *jobs(3), config=scripted_config(budgets=budget))
    worker(engine, slots=1)
    assert dispatcher.dispatch_once() == 3
    run_sql(engine, f"UPDATE step SET {spent} WHERE ordinal = 0")
    dispatcher.dispatch_once()
    assert {(j.state, j.stop_reason) for j in job_rows(engine)} == {("done", "budget_exhausted")}


def test_cancelled_run_ends_every_waiting_job(engine, dispatcher, published):
    ids = open_jobs(engine, *jobs(3))
    ledger = worker(engine)
    running = ledger.claim(ids[0])
    with transaction(engine) as connection:
        connection.execute(update(Run).values(state="cancelled"))
    dispatcher.dispatch_once()
    assert [j.state for j in job_rows(engine)] == ["running", "cancelled", "cancelled"]
    ledger.commit(running, critique_outcome(running, 0.9), NextStep("revise", 1))
    assert [j.state for j in job_rows(engine)] == ["cancelled"] * 3
    assert published == []


def test_one_dispatcher_leads_and_the_other_takes_over(engine):
    leads = [threading.Event(), threading.Event()]
    settings = Settings(dispatch_interval_s=0.05)
    open_jobs(engine, *jobs(1))
    worker(engine)

    def publisher(event: threading.Event):
        return lambda *_: event.set()

    pair = [Dispatcher(engine, publisher(event), settings) for event in leads]
    threads = [threading.Thread(target=d.run, args=(lambda: None,)) for d in pair]
    for thread in threads:
        thread.start()
    try:
        assert wait_any(leads), "somebody publishes"
        assert not all(event.is_set() for event in leads)
        leader = 0 if leads[0].is_set() else 1
        pair[leader].stop()
        threads[leader].join(10)
        run_sql(engine, "UPDATE step SET published_at = NULL")
        assert leads[1 - leader].wait(10), "the one standing by takes over"
    finally:
        for dispatcher in pair:
            dispatcher.stop()
        for thread in threads:
            thread.join(10)


def wait_any(events: list[threading.Event]) -> bool:
    done = threading.Event()

    def watch(event: threading.Event) -> None:
        if event.wait(10):
            done.set()

    for event in events:
        threading.Thread(target=watch, args=(event,), daemon=True).start()
    return done.wait(10)
