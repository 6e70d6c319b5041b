"""Stopping a stack: later stages first, each asked, waited for, and only then killed.

Works from what is written down, so it also stops a stack whose supervisor is gone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from workers.stack.processes import Identity, strays, wait_gone
from workers.stack.state import PartState, StackState

Say = Callable[[str], None]


def stop_in_order(parts: Sequence[PartState], say: Say) -> None:
    """Stop all parts, the highest stage first, so that servers outlive those who use them."""
    for stage in sorted({part.stage for part in parts}, reverse=True):
        _stop_stage([part for part in parts if part.stage == stage], say)


def stop_supervisor(state: StackState, say: Say) -> None:
    """Have a living supervisor stop its stack; whatever it leaves is stopped from here."""
    patience_s = sum(part.stop_s for part in state.parts) + 10.0
    state.supervisor.send(signal.SIGTERM)
    if not wait_gone([state.supervisor], patience_s):
        say(f"the supervisor did not end within {patience_s:g} s and is killed")
        _kill(state.supervisor)
        wait_gone([state.supervisor], 10.0)


def stop_strays(home: Path, servers_folders: Sequence[Path], say: Say) -> bool:
    """Stop processes of this stack that nobody wrote down, as after a crash at a start.

    Returns:
        Whether there were any.
    """
    found = strays(home, servers_folders)
    for identity in found:
        say(f"stopping a process left over from an earlier start, pid {identity.pid}")
        identity.send(signal.SIGTERM)
        if not wait_gone([identity], 30.0):
            _kill(identity)
            wait_gone([identity], 10.0)
    return bool(found)


def _stop_stage(parts: Sequence[PartState], say: Say) -> None:
    running = [part for part in parts if part.process and part.process.is_alive()]
    for part in running:
        say(f"stopping {part.name}")
        _send(part, part.stop_signal)
    patience_s = max((part.stop_s for part in running), default=0.0)
    if wait_gone([part.process for part in running if part.process], patience_s):
        return
    for part in running:
        if part.process and part.process.is_alive():
            say(f"{part.name} did not end within {patience_s:g} s and is killed")
            _kill(part.process)
    wait_gone([part.process for part in running if part.process], 10.0)


def _send(part: PartState, signal_number: int) -> None:
    if part.process:
        part.process.send(signal_number)


def _kill(identity: Identity) -> None:
    """SIGKILL a process and its group; each of ours leads a group of its own."""
    if identity.is_alive():
        with suppress(ProcessLookupError):
            os.killpg(identity.pid, signal.SIGKILL)
