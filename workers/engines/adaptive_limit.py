"""How many requests a server is sent at once: more while it keeps up, half when it does not.

Additive increase and multiplicative decrease, with a doubling start (the congestion control of
TCP, RFC 5681, sections 3.1 and 3.2, over requests instead of bytes). It sends nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class AdaptiveLimit:
    """A limit in [1, most]. Pure: nothing here waits.

    Attributes:
        epoch: Number of decreases so far. Requests sent before a decrease belong to an older
            epoch, and their troubles are the ones that it answered already.
    """

    def __init__(self, most: int, start: int = 8) -> None:
        """Begin at ``start`` requests, or at ``most`` where that is less."""
        self._most = most
        self._limit = float(min(start, most))
        self._doubling = True
        self.epoch = 0

    @property
    def value(self) -> int:
        """Requests that may be in flight now, >= 1."""
        return int(self._limit)

    def succeeded(self) -> None:
        """A request was answered: one more for each before the first decrease, later one more
        for as many as are in flight.
        """
        step = 1.0 if self._doubling else 1.0 / self._limit
        self._limit = min(float(self._most), self._limit + step)

    def overloaded(self, epoch: int) -> None:
        """A request of that epoch was refused or came too late: half, once an epoch."""
        if epoch == self.epoch:
            self._limit = max(1.0, self._limit / 2)
            self._doubling = False
            self.epoch += 1


class Gate:
    """Lets as many in as the limit allows, in order. For one event loop."""

    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting = 0
        self._changed = asyncio.Condition()

    @property
    def waiting(self) -> int:
        """Requests that wait to be sent."""
        return self._waiting

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[int]:
        """Hold a place while the block runs; yields the epoch in which it was taken."""
        self._waiting += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._inside < self._limit.value)
                self._inside += 1
        finally:
            self._waiting -= 1
        try:
            yield self._limit.epoch
        finally:
            self._inside -= 1
            async with self._changed:
                self._changed.notify(max(0, self._limit.value - self._inside))
