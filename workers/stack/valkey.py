"""The embedded Valkey: how it is configured, started, asked and stopped.

It listens on loopback only and wants a password, which stands in a file only its user may read,
never in the list of processes. ``valkey_server`` is the form for tests and demonstrations.
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.stack.accounts import Account, server_account
from workers.stack.binaries import valkey_program
from workers.stack.places import (
    free_port,
    leave_outside,
    private_file,
    private_folder,
    servers_folder,
)
from workers.stack.server import EmbeddedServer

START_S = 30.0
STOP_S = 20.0
STOP_SIGNAL = signal.SIGTERM


@dataclass(frozen=True)
class ValkeyStore:
    """One Valkey on disk and how it is served.

    Attributes:
        folder: Folder of the server's files, owned by its user.
        program: The ``valkey-server`` program.
        port: Loopback port.
        password: Password of every client.
        account: User the server runs as; None for ours.
        append_only: Whether every write is logged and survives a crash of the server.
    """

    folder: Path
    program: Path
    port: int
    password: str
    account: Account | None
    append_only: bool = True

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def argv(self) -> list[str]:
        return [str(self.program), str(self.folder / "valkey.conf")]

    def prepare(self) -> None:
        """Write the server's configuration, which holds its password."""
        private_folder(self.folder, self.account)
        lines = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": self.password,
            "dir": f'"{self.folder}"',
            "appendonly": "yes" if self.append_only else "no",
            "appendfsync": "everysec",
            "save": '""',
            # Any other policy would drop queues when memory runs out.
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        content = "".join(f"{name} {value}\n" for name, value in lines.items())
        private_file(self.folder / "valkey.conf", content, self.account)


class ValkeyServer(EmbeddedServer):
    """A running embedded Valkey.

    Attributes:
        url: Its address, ``redis://:PASSWORD@127.0.0.1:PORT/0``.
    """

    name = "Valkey"
    start_s = START_S
    stop_s = STOP_S
    stop_signal = STOP_SIGNAL

    def __init__(self, store: ValkeyStore, log: Path) -> None:
        super().__init__(store, log, ping_problem)


@contextmanager
def valkey_server(
    folder: Path, *, port: int | None = None, append_only: bool = True
) -> Iterator[ValkeyServer]:
    """An embedded Valkey for the time of the block.

    It stops with the block and, on Linux, also when the thread that entered the block is killed.
    Where ``folder`` cannot be entered by the servers' user, the data lies outside it and is
    removed at the end; data in ``folder`` stays.

    Args:
        folder: Folder for its data and its log ``valkey.log``.
        port: Loopback port; None for a free one.
        append_only: Whether every write is logged and survives a crash of the server.

    Raises:
        StackError: It did not start, or the wheel is not installed.
    """
    account = server_account(folder / "valkey")
    root = servers_folder(folder, account)
    store = ValkeyStore(
        folder=root / "valkey",
        program=valkey_program(account, root),
        port=port or free_port(),
        password=secrets.token_urlsafe(24),
        account=account,
        append_only=append_only,
    )
    server = ValkeyServer(store, folder / "valkey.log")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        leave_outside(folder, "valkey")


def ping_problem(url: str) -> str | None:
    """Why Redis or Valkey does not answer PING; None when it does."""
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, retry=None) as client:
            client.ping()
    except (RedisError, ValueError) as error:
        return str(error) or type(error).__name__
    return None
