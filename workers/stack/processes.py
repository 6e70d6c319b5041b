"""Starting, recognising and stopping processes.

A process is known by its pid and its start time, so that a recycled pid is never signalled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from schemas.errors import StackError
from workers.stack import tether
from workers.stack.accounts import Account

#: Start times are derived from the wall clock, which may be set while a process runs.
CLOCK_SLACK_S = 2.0
#: Set for every process of a stack to the stack's home.
STACK_VARIABLE = "PRECEPTOR_STACK"
#: Line between the outputs of two processes in one log.
START_MARK = "--- a new process starts here ---\n"


@dataclass(frozen=True)
class Identity:
    """One process: ``pid`` and its start time ``created_at`` (seconds since 1970)."""

    pid: int
    created_at: float

    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created_at) > CLOCK_SLACK_S:
                return False
            return bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def send(self, signal_number: int) -> None:
        """Signal this very process; does nothing when it is gone."""
        if self.is_alive():
            try:
                os.kill(self.pid, signal_number)
            except ProcessLookupError:
                return


def identify(pid: int) -> Identity | None:
    """The process that has ``pid`` now; None where there is none."""
    import psutil

    try:
        return Identity(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def myself() -> Identity:
    """The calling process."""
    import psutil

    return Identity(os.getpid(), psutil.Process().create_time())


def descendants(pid: int) -> list[Identity]:
    """All living children of ``pid`` and their children."""
    import psutil

    try:
        found = [identify(child.pid) for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    return [identity for identity in found if identity]


def strays(home: Path, servers_folders: Sequence[Path]) -> list[Identity]:
    """Living processes that a stack of ``home`` started, oldest first: known by their environment,
    or by name and folder where they overwrite their environment, as servers do.
    """
    import psutil

    folders = {str(folder) for folder in servers_folders}
    found = []
    for process in psutil.process_iter(["environ", "cwd", "name", "create_time"], ad_value=None):
        seen = process.info
        is_server = (seen["name"] or "").startswith(("postgres", "valkey"))
        is_ours = (seen["environ"] or {}).get(STACK_VARIABLE) == str(home)
        if (is_ours or (is_server and seen["cwd"] in folders)) and process.pid != os.getpid():
            found.append(Identity(process.pid, seen["create_time"]))
    found.sort(key=lambda identity: identity.created_at)
    return [identity for identity in found if identity.is_alive()]


def spawn(
    argv: Sequence[str],
    *,
    log: Path | None,
    account: Account | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in its own session; both outputs are appended to ``log``, or are ours where
    it is None.
    """
    with _opened(log) as output:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


@contextmanager
def _opened(log: Path | None) -> Iterator[BinaryIO | None]:
    if log is None:
        yield None
        return
    with log.open("ab") as output:
        output.write(START_MARK.encode())
        output.flush()
        yield output


def spawn_tethered(
    argv: Sequence[str],
    *,
    log: Path | None,
    account: Account | None = None,
    death_signal: signal.Signals,
    env: Mapping[str, str],
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """As ``spawn``, but the process gets ``death_signal`` when the calling thread ends, even by
    SIGKILL. Linux only; elsewhere it outlives a killed caller.
    """
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    words = (death_signal.value, os.getpid(), uid, gid)
    shim = [sys.executable, "-I", "-S", tether.__file__, *(str(word) for word in words)]
    return spawn([*shim, *argv], log=log, env=env, cwd=cwd)


def wait_until(condition: Callable[[], bool], timeout_s: float, *, pause_s: float = 0.02) -> bool:
    """Poll ``condition`` until it holds; False when ``timeout_s`` has passed first."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
    return True


def stop_process(
    process: subprocess.Popen[bytes], signal_number: signal.Signals, timeout_s: float
) -> None:
    """Ask a child of ours to end, wait, then kill what is left of its session."""
    process.send_signal(signal_number)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        kill_process(process)


def kill_process(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a child of ours and wait until it and its children are gone."""
    children = descendants(process.pid)
    process.kill()
    process.wait()
    if not wait_gone(children, 10.0):
        for child in children:
            child.send(signal.SIGKILL)


def wait_gone(identities: Iterable[Identity], timeout_s: float) -> bool:
    """Whether all of ``identities`` end within ``timeout_s``."""
    waiting = list(identities)
    return wait_until(lambda: not any(identity.is_alive() for identity in waiting), timeout_s)


def last_lines(log: Path, count: int = 12) -> str:
    """The end of what the latest process wrote to a log, for an error message."""
    try:
        content = log.read_bytes()[-16_384:].decode(errors="replace")
    except FileNotFoundError:
        return "(no log was written)"
    latest = content.rpartition(START_MARK)[2]
    return "\n".join(latest.splitlines()[-count:]) or "(it wrote nothing)"


def start_failure(name: str, log: Path, reason: str) -> StackError:
    """The error for a part that did not start: what, why, where its log is, how it ends."""
    return StackError(f"{name} did not start: {reason}; its log {log} ends:\n{last_lines(log)}")
