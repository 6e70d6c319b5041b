"""An embedded server's process, whichever server it is: started, asked, stopped, killed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from schemas.errors import StackError
from workers.stack.accounts import Account
from workers.stack.processes import kill_process, spawn_tethered, start_failure, stop_process

#: Nothing of ours: a server reads its own configuration only.
SERVER_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Served(Protocol):
    """What lies on disk and how it is served."""

    @property
    def folder(self) -> Path: ...
    @property
    def account(self) -> Account | None: ...
    @property
    def url(self) -> str: ...
    @property
    def argv(self) -> list[str]: ...
    def prepare(self) -> None:
        """Make what the server needs to start."""


class EmbeddedServer:
    """A server that runs for as long as its owner wants it.

    Attributes:
        name: For messages.
        start_s: Longest time until it answers.
        stop_s: Longest time from ``stop_signal`` to its end.
        url: Its address, password included.
    """

    name: str
    start_s: float
    stop_s: float
    stop_signal: signal.Signals

    def __init__(self, served: Served, log: Path, problem: Callable[[str], str | None]) -> None:
        self._served = served
        self._log = log
        self._problem = problem
        self._process: subprocess.Popen[bytes] | None = None
        self.url = served.url

    @property
    def pid(self) -> int:
        """Process id of the server.

        Raises:
            StackError: The server is stopped.
        """
        if self._process is None:
            raise StackError(f"this {self.name} is stopped: restart() starts it again")
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            StackError: It ended or did not answer in time; carries the log's last lines.
        """
        self._served.prepare()
        process = spawn_tethered(
            self._served.argv,
            log=self._log,
            account=self._served.account,
            death_signal=self.stop_signal,
            env=SERVER_ENV,
            cwd=self._served.folder,
        )
        self._process = process
        deadline = time.monotonic() + self.start_s
        while (problem := self._problem(self.url)) is not None:
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise start_failure(self.name, self._log, problem)
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order; does nothing when stopped."""
        process, self._process = self._process, None
        if process:
            stop_process(process, self.stop_signal, self.stop_s)

    def kill(self) -> None:
        """SIGKILL, as a crash would, and wait until all of it is gone."""
        process, self._process = self._process, None
        if process:
            kill_process(process)

    def restart(self) -> None:
        """Stop where it runs, start again on the same port with what was kept."""
        self.stop()
        self.start()
