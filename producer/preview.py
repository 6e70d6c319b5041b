"""A few jobs of a source, drawn by chance: run first, they tell what all will cost.

Which jobs are drawn depends on their content and the seed, never on their place: the first lines
of a file are seldom like the rest. Holds the drawn jobs only, however long the source is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappush, heappushpop

from producer.sources import Line, Rejection
from schemas.jobs import AnyJob, job_key

#: A sample that is held in memory.
MAX_PREVIEW_JOBS = 10_000


class Preview:
    """Draws jobs from a stream, each with the same chance.

    The jobs with the smallest digests of seed and content are taken. The same source in another
    order, or under another configuration of the same seed, gives the same jobs, so that the
    previews of two configurations can be compared.

    Args:
        count: Jobs to draw; all where there are fewer.
        seed: Of the run's configuration.

    Attributes:
        jobs: Jobs that the stream held, repeated ones counted once for each time.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.jobs = 0
        self._count = count
        self._salt = f"preview {seed}"
        # The largest digest first, since it is the one to give way.
        self._drawn: list[tuple[int, int, Line]] = []
        self._keys: set[int] = set()

    def draw(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The rejections as they are met, then the drawn jobs in the order of the source."""
        for line in lines:
            if isinstance(line, Rejection):
                yield line
            else:
                self.jobs += 1
                self._offer(line)
        for _, _, line in sorted(self._drawn, key=lambda held: held[1]):
            yield line

    def told(self, run: str) -> str:
        """What was drawn, and the command that makes an estimate of it."""
        return (
            f"run {run}: {len(self._drawn):,} of {self.jobs:,} jobs drawn; once they have ended, "
            f"'preceptor cost --preview {run} --jobs {self.jobs}' estimates the whole"
        )

    def _offer(self, line: tuple[int, AnyJob]) -> None:
        key = int(job_key(line[1], self._salt), 16)
        if key in self._keys:
            return
        held = (-key, self.jobs, line)
        self._keys.add(key)
        if len(self._drawn) < self._count:
            heappush(self._drawn, held)
        else:
            self._keys.discard(-heappushpop(self._drawn, held)[0])
