"""How fast a run goes, from successive snapshots of its progress. Pure arithmetic on counts.

A rate exists only once two snapshots have measured it; until then it is None.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from schemas.results import RunProgress

#: Jobs that must have ended while we watched before their rate is worth telling: the first ones
#: end long after the start and close together.
MIN_ENDED = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts of a run at one moment; ``at_s`` on any clock that only goes forward."""

    at_s: float
    output_tokens: int
    tokens: int
    ended: int
    open: int


class Pace:
    """Rates over a sliding window of snapshots.

    Args:
        token_window_s: Seconds that a token rate looks back.
        job_window_s: Seconds that the rate of ended jobs looks back; longer, since jobs end
            seldom.
    """

    def __init__(self, token_window_s: float = 20.0, job_window_s: float = 180.0) -> None:
        self._token_window_s = token_window_s
        self._job_window_s = job_window_s
        self._snapshots: deque[Snapshot] = deque()

    def add(self, at_s: float, progress: RunProgress) -> None:
        """Take a snapshot."""
        taken = Snapshot(
            at_s=at_s,
            output_tokens=progress.output_tokens,
            tokens=progress.input_tokens + progress.output_tokens,
            ended=progress.submitted - progress.open,
            open=progress.open,
        )
        self._snapshots.append(taken)
        # The one just outside the window stays, so that the window is always covered.
        while len(self._snapshots) > 2 and self._snapshots[1].at_s <= at_s - self._job_window_s:
            self._snapshots.popleft()

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second, prompts included; None until measured."""
        return self._rate("tokens", self._token_window_s)

    @property
    def output_tokens_per_s(self) -> float | None:
        """Completion tokens per second; None until measured."""
        return self._rate("output_tokens", self._token_window_s)

    @property
    def jobs_per_s(self) -> float | None:
        """Jobs that end per second; None until a few have ended while we watched."""
        if len(self._snapshots) < 2:
            return None
        ended = self._snapshots[-1].ended - self._snapshots[0].ended
        return self._rate("ended", self._job_window_s) if ended >= MIN_ENDED else None

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the open jobs have ended at the measured rate; None until measured."""
        if not self._snapshots:
            return None
        still_open = self._snapshots[-1].open
        if not still_open:
            return 0.0
        rate = self.jobs_per_s
        return None if rate is None else still_open / rate

    def _rate(self, counter: str, window_s: float) -> float | None:
        if len(self._snapshots) < 2:
            return None
        last = self._snapshots[-1]
        since = last.at_s - window_s
        inside = (s for s in self._snapshots if s.at_s >= since)
        first = next(inside)
        if first is last:
            first = self._snapshots[-2]
        passed_s = last.at_s - first.at_s
        if passed_s <= 0:
            return None
        return float(getattr(last, counter) - getattr(first, counter)) / passed_s


def duration(seconds: float) -> str:
    """Seconds for people: 8 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
