"""Which user the servers run as, and what that user can reach.

Postgres refuses to run as root, so a stack started by root runs its servers as an existing,
unprivileged user. No user is created and no mode of a folder we did not make is changed.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import StackError


@dataclass(frozen=True)
class Account:
    """An existing, unprivileged user."""

    name: str
    uid: int
    gid: int


def server_account(servers_folder: Path | None = None) -> Account | None:
    """The user the servers run as; None for the user we already are.

    Args:
        servers_folder: Folder of an earlier start. Its owner's files can be served by that owner
            only, so it decides where it exists.

    Raises:
        StackError: We are root and there is no unprivileged user to be had.
    """
    if os.geteuid() != 0:
        return None
    for uid in (_owner(servers_folder), int(os.environ.get("SUDO_UID", "0"))):
        if uid and (account := _account_of_uid(uid)):
            return account
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise StackError(
            "the local stack was started by root, Postgres refuses to run as root, and this "
            "system has no user 'nobody': start the stack as a normal user"
        ) from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def may(account: Account | None, tests: str, path: Path) -> bool:
    """Whether ``account`` passes each of ``tests`` (letters of test(1): r, w, x) on ``path``."""
    if account is None:
        return all(os.access(path, getattr(os, f"{letter.upper()}_OK")) for letter in tests)
    # Asked as that user, because modes alone miss access lists and mount options.
    question = " && ".join(f'test -{letter} "$0"' for letter in tests)
    answer = subprocess.run(
        ["/bin/sh", "-c", question, str(path)],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    return answer.returncode == 0


def _owner(folder: Path | None) -> int:
    if folder is None or not folder.exists():
        return 0
    return folder.stat().st_uid


def _account_of_uid(uid: int) -> Account | None:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
