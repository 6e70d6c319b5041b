"""How long to wait before a process that died is started again."""

from __future__ import annotations

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
#: A process that ran this long starts over with the first pause.
STEADY_S = 60.0


class Backoff:
    """Pauses that double from the first to the longest."""

    def __init__(self) -> None:
        self._pause_s = FIRST_PAUSE_S

    def next_s(self) -> float:
        """The pause that is due now."""
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return pause_s

    def forget(self) -> None:
        """Begin with the first pause again."""
        self._pause_s = FIRST_PAUSE_S
