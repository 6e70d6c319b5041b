"""Sums of a run's use: commits at the same time add up, whatever shard they meet in."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid5

import pytest
from sqlalchemy import Engine, func, select

from schemas.database import open_database, transaction
from schemas.jobs import ImproveJob
from schemas.routing import run_id_of
from schemas.tables import Tally
from tests.integration.rows import open_jobs
from workers.tally import SHARDS, add_to_tally, shard_of

RUN = run_id_of("run")
USED = {
    "model": "scripted",
    "prompt_version": "v1",
    "input_tokens": 10,
    "output_tokens": 3,
    "cached_tokens": 4,
    "engine_s": 0.5,
    "cost_usd": 0.25,
}


@pytest.fixture
def engine(database_url: str):
    database = open_database(database_url, pool_size=8)
    open_jobs(database, ImproveJob(prompt="p", response="r"))
    yield database
    database.dispose()


def step(number: int) -> UUID:
    return uuid5(RUN, str(number))


def add(engine: Engine, number: int, kind: str = "critique", *, failed: bool = False, **used):
    with transaction(engine) as connection:
        send = connection.exec_driver_sql
        add_to_tally(send, step(number), RUN, kind, failed=failed, measures=used)


def sums(engine: Engine, *names: str) -> tuple:
    columns = (func.sum(getattr(Tally, name)) for name in names)
    with transaction(engine) as connection:
        return tuple(connection.execute(select(*columns)).one())


def test_concurrent_commits_add_up(engine):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(engine, number, **USED), range(400)))
    assert sums(engine, "steps_done", "input_tokens", "engine_s") == (400, 4_000, 200.0)
    with transaction(engine) as connection:
        shards = connection.execute(select(Tally.shard)).scalars().all()
    assert sorted(shards) == list(range(SHARDS)), "one row a shard, and all are used"


def test_commits_that_meet_in_one_row_add_up(engine):
    same = [number for number in range(2_000) if shard_of(step(number)) == 3][:64]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(engine, number, **USED), same))
    assert sums(engine, "steps_done", "output_tokens", "cost_usd") == (64, 192, 16.0)


def test_commits_of_other_steps_do_not_wait_for_one_that_is_slow(engine):
    slow, other = (
        step(0),
        next(step(n) for n in range(99) if shard_of(step(n)) != shard_of(step(0))),
    )
    with transaction(engine) as holding:
        add_to_tally(holding.exec_driver_sql, slow, RUN, "label", failed=False, measures=USED)
        with transaction(engine) as free:
            free.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            add_to_tally(free.exec_driver_sql, other, RUN, "label", failed=False, measures=USED)


def test_failures_are_counted_apart_and_by_kind(engine):
    add(engine, 1, **USED)
    add(engine, 2, failed=True)
    add(engine, 2, "label", failed=True, input_tokens=5)
    assert sums(engine, "steps_done", "steps_failed", "input_tokens") == (1, 2, 15)
    with transaction(engine) as connection:
        kinds = connection.execute(select(Tally.kind).distinct()).scalars().all()
    assert sorted(kinds) == ["critique", "label"]


def test_a_rolled_back_step_leaves_no_trace(engine):
    with engine.connect() as connection:
        add_to_tally(
            connection.exec_driver_sql, step(1), RUN, "revise", failed=False, measures=USED
        )
        connection.rollback()
    assert sums(engine, "steps_done") == (None,)
