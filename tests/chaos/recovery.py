"""How soon work goes on after a fault, read from the times at which steps were committed."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

from sqlalchemy import Connection, text

from tests.chaos.scene import Fault

#: Throughput counts as normal at this share of what it was before the first fault.
NORMAL_SHARE = 0.8
WINDOW_S = 2.0

_COMMITTED = text(
    "SELECT extract(epoch FROM ended_at)::float8 FROM step"
    " WHERE run_id = :run AND ended_at IS NOT NULL ORDER BY ended_at"
)


@dataclass(frozen=True)
class Recovery:
    """Seconds, worst case over a drill's faults; None where the run ended before.

    Attributes:
        pause_s: Longest time without a committed step, from a fault's begin.
        first_s: From the end of a fault's cause to the next committed step.
        normal_s: From there to the first two seconds of normal throughput.
        rate: Steps a second before the first fault.
    """

    pause_s: float | None
    first_s: float | None
    normal_s: float | None
    rate: float


def measure(connection: Connection, run_id: UUID, faults: Sequence[Fault]) -> Recovery | None:
    """Recovery from a drill's faults; None where it made none."""
    times = [float(at) for at in connection.execute(_COMMITTED, {"run": run_id}).scalars()]
    if not faults or not times:
        return None
    rate = _rate(times, faults[0].at)
    ends = [fault.at for fault in faults[1:]] + [times[-1]]
    pairs = list(zip(faults, ends, strict=True))
    return Recovery(
        pause_s=_worst([_pause_s(times, fault.at, end) for fault, end in pairs]),
        first_s=_worst([_first_s(times, fault.healed_at) for fault, _ in pairs]),
        normal_s=_worst([_normal_s(times, fault.healed_at, rate) for fault, _ in pairs]),
        rate=rate,
    )


def _rate(times: Sequence[float], until: float) -> float:
    before = bisect.bisect(times, until)
    return before / max(until - times[0], 0.1)


def _pause_s(times: Sequence[float], start: float, end: float) -> float | None:
    marks = [start, *times[bisect.bisect(times, start) : bisect.bisect(times, end)]]
    gaps = [later - earlier for earlier, later in pairwise(marks)]
    return max(gaps, default=None)


def _first_s(times: Sequence[float], start: float) -> float | None:
    place = bisect.bisect(times, start)
    return times[place] - start if place < len(times) else None


def _normal_s(times: Sequence[float], start: float, rate: float) -> float | None:
    wanted = int(NORMAL_SHARE * rate * WINDOW_S)
    begin = bisect.bisect(times, start)
    for place in range(begin, len(times) - wanted):
        if times[place + wanted] - times[place] <= WINDOW_S:
            return times[place] - start
    return None


def _worst(seconds: Sequence[float | None]) -> float | None:
    return max((value for value in seconds if value is not None), default=None)
