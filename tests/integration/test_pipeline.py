"""Transactions whose statements travel together: all or nothing, and what failure means."""

import pytest
from sqlalchemy import text

from schemas.database import open_database, transaction
from schemas.errors import LedgerError, LedgerRefused
from workers.pipeline import pipelined

ADD = "INSERT INTO note VALUES (%(id)s, %(body)s)"


@pytest.fixture
def engine(database_url: str):
    database = open_database(database_url, pre_ping=False)
    with transaction(database) as connection:
        connection.execute(text("CREATE TABLE note (id int PRIMARY KEY, body text)"))
    yield database
    database.dispose()


def notes(engine) -> list:
    with transaction(engine) as connection:
        return connection.execute(text("SELECT id FROM note ORDER BY id")).scalars().all()


def test_answers_can_be_had_before_and_after_the_commit(engine):
    with pipelined(engine) as pipeline:
        pipeline.send(ADD, {"id": 1, "body": "a"})
        seen = pipeline.send("SELECT count(*) AS n FROM note", {}).fetchone()
        pipeline.send("INSERT INTO note VALUES (2, 'b')", {})
        later = pipeline.send("SELECT body FROM note WHERE id = %(id)s", {"id": 2})
    assert seen == {"n": 1}
    assert later.fetchone() == {"body": "b"}
    assert notes(engine) == [1, 2]


def add(engine, *rows: dict, then: Exception | None = None) -> None:
    with pipelined(engine) as pipeline:
        for row in rows:
            pipeline.send(ADD, row)
        if then is not None:
            assert pipeline.send("SELECT 1 AS one", {}).fetchone() == {"one": 1}
            raise then


def note(number: int) -> dict:
    return {"id": number, "body": "x"}


@pytest.mark.parametrize("bad", [note(1), {"id": "x", "body": ""}, {"id": 2, "body": "\x00"}])
def test_a_refused_statement_undoes_all_of_them(engine, bad):
    with pytest.raises(LedgerRefused, match="cannot hold"):
        add(engine, note(1), bad, note(3))
    assert notes(engine) == []


def test_an_exception_of_the_caller_undoes_all_of_them(engine):
    with pytest.raises(KeyError):
        add(engine, note(1), then=KeyError())
    add(engine, note(2))
    assert notes(engine) == [2]


def test_connections_that_the_server_cut_cost_one_failure(engine, database_url):
    together = [engine.connect() for _ in range(3)]
    for connection in together:
        connection.execute(text("SELECT 1"))
    for connection in together:
        connection.close()
    other = open_database(database_url)
    with transaction(other) as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.dispose()
    with pytest.raises(LedgerError, match="out of reach"):
        add(engine, note(9))
    for number in range(4):
        add(engine, note(number))
    assert notes(engine) == [0, 1, 2, 3]
