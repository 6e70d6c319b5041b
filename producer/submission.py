"""A stream of jobs on its way into a run, in batches, with the counts of what became of them.

Holds one batch and 16 bytes a job, however long the stream is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from producer.doors import Door
from producer.lines import printable
from producer.sources import Rejection
from schemas.config import RunConfig
from schemas.errors import ContractError
from schemas.jobs import AnyJob, job_key
from schemas.messages import MAX_MESSAGE_JOBS, RejectedJob, read_job
from schemas.routing import job_id_of, run_id_of

#: What can be submitted: a job, its mapping, or what ``producer.sources.read_jobs`` yields.
Submittable = AnyJob | Mapping[str, Any] | tuple[int, AnyJob] | Rejection
#: A batch is sent when its texts reach this, so that no message or transaction grows huge.
MAX_BATCH_BYTES = 4 * 2**20
KEPT_REJECTIONS = 1_000


class Submission:
    """Counts and job ids of what was submitted so far.

    Attributes:
        run: Name of the run.
        read: Lines or jobs taken from the stream; jobs + rejections.
        jobs: Jobs handed to the door.
        accepted: Jobs that were new to the run; None where nobody has answered (Redis, not
            confirmed).
        duplicates: Jobs the run already had; None likewise.
        rejected: Jobs and lines that were refused.
        rejections: The first 1,000 of them, with their reasons.
    """

    def __init__(
        self,
        door: Door,
        run: str,
        config: RunConfig | None,
        *,
        confirm: bool = True,
        batch_size: int = MAX_MESSAGE_JOBS,
        timeout_s: float = 30.0,
        on_rejection: Callable[[Rejection], None] | None = None,
    ) -> None:
        if not 1 <= batch_size <= MAX_MESSAGE_JOBS:
            raise ContractError(f"batch_size: {batch_size}; between 1 and {MAX_MESSAGE_JOBS}")
        self.run = run
        self.read = 0
        self.jobs = 0
        self.accepted: int | None = 0
        self.duplicates: int | None = 0
        self.rejected = 0
        self.rejections: list[Rejection] = []
        self._door = door
        self._config = config
        self._digest = config.digest if config else None
        self._confirm = confirm
        self._batch_size = batch_size
        self._timeout_s = timeout_s
        self._on_rejection = on_rejection
        self._batch: list[tuple[int, int, AnyJob]] = []
        self._batch_bytes = 0
        self._ids = bytearray()

    def feed(self, items: Iterable[Submittable]) -> None:
        """Submit a stream to its end. What was sent before an error stays submitted.

        Raises:
            ContractError: The run does not fit; see ``Door.submit`` for the others.
        """
        for item in items:
            self._take(item)
        self._send()

    def job_ids(self) -> Iterator[UUID]:
        """Ids of the jobs in the run, in the stream's order, duplicates included."""
        for start in range(0, len(self._ids), 16):
            yield UUID(bytes=bytes(self._ids[start : start + 16]))

    def accounting(self, unit: str = "lines") -> str:
        """What went in and what became of it, as one equation."""
        if self.accepted is None:
            return f"{self.read} {unit} = {self.jobs} sent, unconfirmed + {self.rejected} rejected"
        unsent = f" + {len(self._batch)} not submitted" if self._batch else ""
        return (
            f"{self.read} {unit} = {self.accepted} accepted + {self.duplicates} duplicate"
            f" + {self.rejected} rejected{unsent}"
        )

    def _take(self, item: Submittable) -> None:
        number = self.read = self.read + 1
        if isinstance(item, Rejection):
            self._reject(item)
            return
        if isinstance(item, tuple):
            number, job = item
        elif isinstance(item, Mapping):
            try:
                job = read_job(dict(item), where="job")
            except ContractError as error:
                self._reject(Rejection(number, str(error).removeprefix("job: ")))
                return
        else:
            job = item
        self._add(number, job)

    def _add(self, number: int, job: AnyJob) -> None:
        # The place in the stream, not the line, orders jobs: several may come from one line.
        self._batch.append((self.read - 1, number, job))
        self._batch_bytes += len(job.model_dump_json())
        if len(self._batch) >= self._batch_size or self._batch_bytes >= MAX_BATCH_BYTES:
            self._send()

    def _send(self) -> None:
        if not self._batch:
            return
        batch = self._batch
        reply = self._door.submit(
            self.run,
            self._config,
            [(ordinal, job) for ordinal, _, job in batch],
            confirm=self._confirm,
            timeout_s=self._timeout_s,
        )
        self._batch, self._batch_bytes = [], 0
        if reply is None:
            self._count_sent([job for _, _, job in batch])
            return
        self.jobs += len(batch)
        self.accepted = (self.accepted or 0) + reply.accepted
        self.duplicates = (self.duplicates or 0) + reply.duplicates
        self._ids += b"".join(job_id.bytes for job_id in reply.job_ids if job_id)
        self._reject_all(reply.rejected, batch)

    def _count_sent(self, jobs: list[AnyJob]) -> None:
        self.accepted = self.duplicates = None
        self.jobs += len(jobs)
        if self._digest is not None:
            run_id = run_id_of(self.run)
            keys = (job_key(job, self._digest) for job in jobs)
            self._ids += b"".join(job_id_of(run_id, key).bytes for key in keys)

    def _reject_all(
        self, refused: Iterable[RejectedJob], batch: list[tuple[int, int, AnyJob]]
    ) -> None:
        for one in refused:
            self._reject(Rejection(batch[one.index][1], printable(one.message)))

    def _reject(self, rejection: Rejection) -> None:
        self.rejected += 1
        if len(self.rejections) < KEPT_REJECTIONS:
            self.rejections.append(rejection)
        if self._on_rejection is not None:
            self._on_rejection(rejection)
