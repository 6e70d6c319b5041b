"""Where the servers keep their files, and which ports are free for them.

The servers' user must be able to reach its data. Where the folder asked for lies under one that
user may not enter (root's home, a pytest folder), the data goes to a private folder in /var/tmp
whose name is derived from the folder asked for, so that the next start finds it again.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from schemas.errors import StackError
from workers.stack.accounts import Account, may

#: Below the range from which systems draw the local ports of outgoing connections, so that no
#: client takes a server's port while that server restarts.
PORTS = range(15_000, 30_000)
OUTSIDE = Path("/var/tmp")


def outside_folder(folder: Path) -> Path:
    """The private folder that stands in for ``folder`` where it cannot be reached."""
    name = f"{os.geteuid()}:{folder.resolve()}"
    return OUTSIDE / f"preceptor-{sha256(name.encode()).hexdigest()[:12]}"


def servers_folder(folder: Path, account: Account | None) -> Path:
    """The folder the servers of ``folder`` keep their data under, created: ``folder`` itself
    where ``account`` can enter it, else its stand-in.

    Raises:
        StackError: Someone else made a folder of the stand-in's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if may(account, "x", folder):
        return folder.resolve()
    stand_in = outside_folder(folder)
    stand_in.mkdir(mode=0o711, exist_ok=True)
    found = stand_in.lstat()
    # /var/tmp is open to all: a folder or link that someone else put there is not used.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StackError(f"{stand_in} was made by another user: remove it, then start again")
    stand_in.chmod(0o711)
    return stand_in


def leave_outside(folder: Path, name: str) -> None:
    """Remove what the server ``name`` of ``folder`` keeps outside it, once the server is gone."""
    stand_in = outside_folder(folder)
    shutil.rmtree(stand_in / name, ignore_errors=True)
    (stand_in / f"{name}.password").unlink(missing_ok=True)
    # Another server of the same folder may still be running.
    if stand_in.exists() and {path.name for path in stand_in.iterdir()} <= {"programs"}:
        shutil.rmtree(stand_in)


def private_folder(folder: Path, account: Account | None) -> Path:
    """``folder``, created where missing, readable by its owner ``account`` alone.

    Raises:
        StackError: It belongs to another user.
    """
    if not folder.exists():
        folder.mkdir(mode=0o700)
        hand_over(folder, account)
    wanted = account.uid if account else os.geteuid()
    if folder.stat().st_uid != wanted:
        raise StackError(
            f"{folder} belongs to user {folder.stat().st_uid}, the servers run as {wanted}: start "
            "the stack as the user who made it, or set PRECEPTOR_HOME to another folder"
        )
    return folder


def private_file(path: Path, content: str, account: Account | None = None) -> Path:
    """Write ``path`` whole or not at all, readable by its owner alone."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    hand_over(unfinished, account)
    return unfinished.replace(path)


def hand_over(path: Path, account: Account | None) -> None:
    """Make ``account`` the owner of ``path``."""
    if account:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback ``port`` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: connections that linger after a stop do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(taken: Iterable[int] = ()) -> int:
    """A loopback port that is free now and not in ``taken``.

    Raises:
        StackError: None was found.
    """
    refused = set(taken)
    for port in random.SystemRandom().sample(PORTS, 200):
        if port not in refused and is_free(port):
            return port
    raise StackError(f"no free loopback port between {PORTS.start} and {PORTS.stop}")
