"""The embedded Postgres: how its cluster is made, started, asked and stopped.

It listens on loopback only and wants a password. ``postgres_server`` is the form for tests and
demonstrations; the local stack runs the same ``PostgresCluster`` under its supervisor.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import StackError
from workers.stack.accounts import Account, server_account
from workers.stack.binaries import postgres_programs
from workers.stack.places import (
    free_port,
    leave_outside,
    private_file,
    private_folder,
    servers_folder,
)
from workers.stack.server import SERVER_ENV, EmbeddedServer

DATABASE = "preceptor"
START_S = 60.0
STOP_S = 30.0
#: A fast shutdown: sessions are ended, nothing needs recovery at the next start.
STOP_SIGNAL = signal.SIGINT
#: Longest path of a unix socket, less the name of the socket itself.
SOCKET_FOLDER_BYTES = (104 if sys.platform == "darwin" else 107) - len(".s.PGSQL.65535.lock")


@dataclass(frozen=True)
class PostgresCluster:
    """One cluster of databases on disk and how it is served.

    Attributes:
        folder: Folder of the server's files, owned by its user.
        programs: Folder with ``initdb`` and ``postgres``.
        port: Loopback port.
        password: Password of the superuser ``postgres``.
        account: User the server runs as; None for ours.
        durable: Whether commits survive a crash of the machine. They survive a crash of the
            server in either case; tests do without.
    """

    folder: Path
    programs: Path
    port: int
    password: str
    account: Account | None
    durable: bool = True

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def data_folder(self) -> Path:
        return self.folder / "data"

    @property
    def argv(self) -> list[str]:
        fits = len(str(self.folder).encode()) <= SOCKET_FOLDER_BYTES
        switches = {} if self.durable else {"fsync": "off", "full_page_writes": "off"}
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder) if fits else "",
            "unix_socket_permissions": "0700",
            "shared_buffers": "64MB",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **switches,
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data_folder), *flags]

    def prepare(self) -> None:
        """Make the cluster and its database where they are missing.

        Raises:
            StackError: ``initdb`` failed; carries its last lines.
        """
        private_folder(self.folder, self.account)
        if self.data_folder.exists():
            _clear_recycled_pid(self.data_folder)
            return
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._run_initdb(unfinished)
        self._create_database(unfinished)
        # Renamed when whole, so that a start cut short begins anew.
        unfinished.rename(self.data_folder)

    def _run_initdb(self, target: Path) -> None:
        password_file = private_file(self.folder / "password", self.password, self.account)
        try:
            self._run(
                "initdb",
                *("-D", str(target), "-U", "postgres", "--pwfile", str(password_file)),
                *("-A", "scram-sha-256", "-E", "UTF8", "--locale", "C"),
                # The built-in locale exists on every system, the C library's does not.
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                *([] if self.durable else ["--no-sync"]),
            )
        finally:
            password_file.unlink()

    def _create_database(self, target: Path) -> None:
        statement = f"CREATE DATABASE {DATABASE};\n"
        switch = "on" if self.durable else "off"
        self._run(
            "postgres", "--single", "-D", str(target), "-c", f"fsync={switch}", "postgres",
            text_in=statement,
        )  # fmt: skip

    def _run(self, program: str, *arguments: str, text_in: str = "") -> None:
        finished = subprocess.run(
            [str(self.programs / program), *arguments],
            input=text_in,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=SERVER_ENV,
            user=self.account.uid if self.account else None,
            group=self.account.gid if self.account else None,
            extra_groups=[] if self.account else None,
        )
        if finished.returncode != 0 or "ERROR:" in finished.stderr:
            lines = "\n".join((finished.stdout + finished.stderr).splitlines()[-12:])
            raise StackError(f"{program} failed in {self.folder}:\n{lines}")


class PostgresServer(EmbeddedServer):
    """A running embedded Postgres.

    Attributes:
        url: Address of the database ``preceptor`` as its superuser,
            ``postgresql+psycopg://postgres:PASSWORD@127.0.0.1:PORT/preceptor``.
    """

    name = "Postgres"
    start_s = START_S
    stop_s = STOP_S
    stop_signal = STOP_SIGNAL

    def __init__(self, cluster: PostgresCluster, log: Path) -> None:
        super().__init__(cluster, log, connection_problem)


@contextmanager
def postgres_server(
    folder: Path, *, port: int | None = None, durable: bool = False
) -> Iterator[PostgresServer]:
    """An embedded Postgres for the time of the block.

    It stops with the block and, on Linux, also when the thread that entered the block is killed.
    Where ``folder`` cannot be entered by the servers' user, the data lies outside it and is
    removed at the end; data in ``folder`` stays.

    Args:
        folder: Folder for its data and its log ``postgres.log``.
        port: Loopback port; None for a free one.
        durable: Whether commits survive a crash of the machine.

    Raises:
        StackError: It did not start, or the wheel is not installed.
    """
    account = server_account(folder / "postgres")
    root = servers_folder(folder, account)
    cluster = PostgresCluster(
        folder=root / "postgres",
        programs=postgres_programs(account, root),
        port=port or free_port(),
        password=_password(root / "postgres.password"),
        account=account,
        durable=durable,
    )
    server = PostgresServer(cluster, folder / "postgres.log")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        leave_outside(folder, "postgres")


def connection_problem(url: str) -> str | None:
    """Why Postgres does not answer SELECT 1; None when it does."""
    import psycopg

    try:
        with psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return None


def _password(path: Path) -> str:
    if not path.exists():
        private_file(path, secrets.token_urlsafe(24))
    return path.read_text()


def _clear_recycled_pid(data_folder: Path) -> None:
    """Remove the pid file of a dead server whose pid now belongs to another program.

    Postgres itself clears the file of a dead pid; it gives up where that pid is alive again.
    """
    import psutil

    pid_file = data_folder / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        program = psutil.Process(pid).name()
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return
    # A session that outlived its server still holds the memory: then the file must stay.
    if not program.startswith("postgres") and not _is_in_use(data_folder):
        pid_file.unlink()


def _is_in_use(folder: Path) -> bool:
    import psutil

    wanted = str(folder)
    return any(
        process.info["cwd"] == wanted for process in psutil.process_iter(["cwd"], ad_value=None)
    )
