"""What an engine counts about itself for the metrics endpoint; it decides nothing."""

from __future__ import annotations

from workers.engines import Distribution, Generation, Snapshot, Usage


class Counters:
    """Running sums of one engine. The owner guards it with its own lock."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._requests = 0
        self._failures = 0
        self._usage = Usage()
        self._steps = 0
        self._step_rows = 0
        self._busy_s = 0.0

    def finished(self, answer: Generation | Distribution | Exception) -> None:
        """Count one answer or failure."""
        if isinstance(answer, Exception):
            self._failures += 1
            return
        self._requests += 1
        self._usage += answer.usage

    def step(self, rows: int) -> None:
        """Count one decode step over ``rows`` rows."""
        self._steps += 1
        self._step_rows += rows

    def busy(self, seconds_s: float) -> None:
        """Add time spent computing."""
        self._busy_s += seconds_s

    def snapshot(self, queued: int, running: int) -> Snapshot:
        """The sums so far."""
        return Snapshot(
            requests=self._requests,
            failures=self._failures,
            input_tokens=self._usage.input_tokens,
            output_tokens=self._usage.output_tokens,
            cached_tokens=self._usage.cached_tokens,
            steps=self._steps,
            step_rows=self._step_rows,
            max_rows=self._max_rows,
            busy_s=self._busy_s,
            queued=queued,
            running=running,
        )
