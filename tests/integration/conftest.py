"""What many of these tests open: the ledger's database, a client, the HTTP door."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from producer import Client
from schemas.database import open_database
from schemas.settings import Settings
from tests.integration.http_door import http_door, make_run


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """This test's ledger, with room for many threads."""
    database = open_database(database_url, pool_size=20)
    yield database
    database.dispose()


@pytest.fixture
def read_ledger(engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """This test's ledger, which commands find by the environment."""
    monkeypatch.setenv("DATABASE_URL", database_url.replace("+psycopg", ""))
    return engine


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A client that knows ledger and broker."""
    with Client(settings=settings) as client:
        yield client


@pytest.fixture
def door(settings: Settings) -> Iterator[TestClient]:
    """The HTTP door, with a run called r."""
    with http_door(settings) as client:
        make_run(client)
        yield client
