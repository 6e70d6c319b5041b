"""Bringing a stack up and down, as often as asked: both are safe to repeat and mend what is broken.

``start_stack`` and ``stop_stack`` work on any plan; what the local stack consists of is decided in
``workers.stack.assembly``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from schemas.errors import ConfigError, StackError
from workers.stack.layout import Layout
from workers.stack.places import outside_folder
from workers.stack.plan import Part, Plan, read_plan, write_plan
from workers.stack.processes import STACK_VARIABLE, last_lines, start_failure
from workers.stack.shutdown import stop_in_order, stop_strays, stop_supervisor
from workers.stack.state import PartState, StackState, read_state

Say = Callable[[str], None]

#: Starts of one part that may fail before ``up`` gives up on it.
FAILED_STARTS = 3
SUPERVISOR_START_S = 20.0
POLL_S = 0.05


def running_state(layout: Layout) -> StackState | None:
    """The stack's state where its supervisor is alive, else None."""
    state = read_state(layout)
    return state if state and state.supervisor.is_alive() else None


def is_running_plan(layout: Layout, plan: Plan) -> bool:
    """Whether a supervisor runs and keeps exactly ``plan``."""
    return running_state(layout) is not None and plan.starts_the_same_as(read_plan(layout))


def start_stack(layout: Layout, plan: Plan, say: Say) -> StackState:
    """Start a stopped stack and wait until every part is ready.

    Raises:
        StackError: A part did not start. Everything is stopped again.
    """
    write_plan(layout, plan)
    try:
        _start_supervisor(layout)
        return wait_ready(layout, plan, say)
    except BaseException:
        # Half a stack helps nobody, also not when the wait was interrupted.
        stop_stack(layout, say)
        raise


def mend_stack(layout: Layout, plan: Plan, say: Say) -> StackState:
    """Have a running supervisor start what is dead without delay, and wait until all is ready.

    Raises:
        StackError: A part did not start. The rest is left running.
    """
    state = running_state(layout)
    if state:
        state.supervisor.send(signal.SIGHUP)
    return wait_ready(layout, plan, say)


def stop_stack(layout: Layout, say: Say) -> bool:
    """Stop everything of this stack, in order, with or without its supervisor.

    Returns:
        Whether anything ran.
    """
    state = read_state(layout)
    if state:
        stop_supervisor(state, say)
        # The supervisor may have been killed, or died while it stopped the others.
        stop_in_order(state.parts, say)
    has_strays = stop_strays(layout.home, _data_folders(layout), say)
    layout.stack_file.unlink(missing_ok=True)
    return state is not None or has_strays


def wipe(layout: Layout) -> None:
    """Delete the files of a stopped stack: data, ports, passwords and logs."""
    for folder in (layout.folder, outside_folder(layout.folder)):
        if folder.exists():
            shutil.rmtree(folder)


def wait_ready(layout: Layout, plan: Plan, say: Say) -> StackState:
    """Wait for every part, saying for which.

    Raises:
        StackError: A part failed to start several times or was not ready in its time; the
            message carries the last lines of its log.
    """
    return _Wait(layout, plan, say).run()


class _Wait:
    def __init__(self, layout: Layout, plan: Plan, say: Say) -> None:
        self._layout = layout
        self._parts = {part.name: part for part in plan.parts}
        self._say = say
        self._begun_at = time.monotonic()
        self._waited_since: dict[str, float] = {}
        self._restarts_before: dict[str, int] = {}
        self._announced: dict[str, str] = {}

    def run(self) -> StackState:
        while True:
            state = running_state(self._layout)
            if state is None:
                self._check_supervisor()
            elif self._look(state):
                return state
            time.sleep(POLL_S)

    def _look(self, state: StackState) -> bool:
        for part in state.parts:
            self._announce(part)
            if not part.is_up:
                self._check(part, self._parts[part.name])
        return all(part.is_up for part in state.parts)

    def _announce(self, part: PartState) -> None:
        word = "ready" if part.is_up else "starting" if part.phase == "starting" else ""
        if word and self._announced.get(part.name) != word:
            self._announced[part.name] = word
            waited_s = time.monotonic() - self._begun_at
            where = f", {part.address}" if part.address and word == "ready" else ""
            self._say(f"{waited_s:6.1f} s  {part.name}: {word}{where}")

    def _check(self, state: PartState, part: Part) -> None:
        if state.phase == "waiting":
            return
        now = time.monotonic()
        since = self._waited_since.setdefault(state.name, now)
        before = self._restarts_before.setdefault(state.name, state.restarts)
        ended = state.restarts - before + (state.phase == "restarting")
        # A wrong configuration stays wrong, however often it is read.
        if ended and state.last_status == ConfigError.exit_code:
            raise start_failure(state.name, state.log, "its configuration is wrong")
        if ended >= FAILED_STARTS:
            raise start_failure(state.name, state.log, f"it ended {FAILED_STARTS} times")
        if now - since > part.start_s:
            raise start_failure(state.name, state.log, f"it was not ready in {part.start_s:g} s")

    def _check_supervisor(self) -> None:
        if time.monotonic() - self._begun_at > SUPERVISOR_START_S:
            log = self._layout.log("supervisor")
            raise start_failure("the supervisor", log, "it is gone")


def _start_supervisor(layout: Layout) -> None:
    log = layout.log("supervisor")
    with log.open("ab") as output:
        # It detaches itself, so this returns at once.
        finished = subprocess.run(
            [sys.executable, "-P", "-m", "workers.stack.supervisor", str(layout.home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ) | {STACK_VARIABLE: str(layout.home)},
            check=False,
        )
    if finished.returncode != 0:
        raise StackError(f"the supervisor did not start; its log {log} ends:\n{last_lines(log)}")


def _data_folders(layout: Layout) -> list[Path]:
    roots = (layout.folder, outside_folder(layout.folder))
    return [root / name for root in roots for name in ("postgres/data", "valkey")]
