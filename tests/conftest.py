"""Servers and addresses for every test that needs them.

One Postgres and one Valkey per test process, started on first use. Where their programs are
missing, tests skip on a laptop and fail in CI.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.errors import StackError
from schemas.settings import Settings
from workers.stack import PostgresServer, ValkeyServer, postgres_server, valkey_server
from workers.stack.accounts import server_account
from workers.stack.binaries import postgres_programs, valkey_program

TEMPLATE = "preceptor_template"
VALKEY_DATABASES = 16

_database_numbers = itertools.count(1)
_valkey_numbers = itertools.cycle(range(VALKEY_DATABASES))


@pytest.fixture(autouse=True)
def _no_outside_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test may reach the developer's own servers or local stack."""
    for name in list(os.environ):
        if name.startswith("PRECEPTOR_") or name in ("DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PRECEPTOR_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder that the servers' user can enter, unlike pytest's own."""
    with _open_folder() as folder:
        yield folder


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """As ``servers_folder``, for a test that starts servers of its own."""
    with _open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[PostgresServer]:
    """The test process's Postgres. A test that stops or kills one starts its own."""
    _require("Postgres", lambda: postgres_programs(server_account(), servers_folder))
    with postgres_server(servers_folder) as server:
        yield server


@pytest.fixture(scope="session")
def valkey(servers_folder: Path) -> Iterator[ValkeyServer]:
    """The test process's Valkey. A test that stops or kills one starts its own."""
    _require("Valkey", lambda: valkey_program(server_account(), servers_folder))
    with valkey_server(servers_folder) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> str:
    """Name of a database with the newest tables, cloned for each test."""
    from schemas.migrations import upgrade

    _administer(postgres.url, f"CREATE DATABASE {TEMPLATE}")
    upgrade(_address(postgres.url, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_url(postgres: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A migrated, empty ledger of this test's own, as its superuser."""
    name = f"ledger_{next(_database_numbers)}"
    _administer(postgres.url, f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
    yield _address(postgres.url, name)
    _administer(postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    """An empty Valkey database of this test's own."""
    from redis import Redis

    address = f"{valkey.url.rpartition('/')[0]}/{next(_valkey_numbers)}"
    with Redis.from_url(address) as client:
        client.flushdb()
    return address


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a process that knows this test's ledger and broker."""
    return Settings(home=tmp_path / "home", database_url=database_url, redis_url=redis_url)


@contextmanager
def _open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="preceptor-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _require(server: str, find: Callable[[], Path]) -> None:
    try:
        find()
    except StackError as error:
        if os.environ.get("CI"):
            pytest.fail(f"{server} must be there in CI: {error}", pytrace=False)
        pytest.skip(str(error))


def _administer(url: str, statement: str) -> None:
    import psycopg

    address = url.replace("+psycopg", "", 1)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(statement.encode())


def _address(url: str, database: str) -> str:
    return f"{url.rpartition('/')[0]}/{database}"
