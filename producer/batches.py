"""Jobs on their way through a door, sent together.

A batch makes its jobs ready as they are added, so that sending one leaves the processor to the
reading of the next. It belongs to one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.jobs import AnyJob, ReviseJob
from schemas.messages import SubmitReply


class Batch(Protocol):
    """What a submission fills and sends.

    Attributes:
        size_bytes: About the bytes that sending it takes.
    """

    size_bytes: int

    def add(self, ordinal: int, job: AnyJob) -> None:
        """Take a job; the reply speaks of it by its place among those added."""
        ...

    def send(self, *, confirm: bool, timeout_s: float) -> SubmitReply | None:
        """Hand the batch in, once.

        Returns:
            What became of each job; None where the broker took the message and nobody has
            answered yet.

        Raises:
            ContractError: The run does not fit; nothing of the batch was accepted.
            LedgerError: The ledger is out of reach.
            BrokerError: The broker is out of reach.
            ResultTimeout: ``confirm`` was asked for and no answer came in time.
        """
        ...


class SendJobs(Protocol):
    """Sends (ordinal, job) pairs; otherwise as ``Batch.send``."""

    def __call__(
        self, jobs: Sequence[tuple[int, AnyJob]], *, confirm: bool, timeout_s: float
    ) -> SubmitReply | None: ...


class JobBatch:
    """A ``Batch`` that keeps the jobs as they are."""

    def __init__(self, send: SendJobs) -> None:
        self.size_bytes = 0
        self._send = send
        self._jobs: list[tuple[int, AnyJob]] = []

    def add(self, ordinal: int, job: AnyJob) -> None:
        self._jobs.append((ordinal, job))
        self.size_bytes += _size(job)

    def send(self, *, confirm: bool, timeout_s: float) -> SubmitReply | None:
        return self._send(self._jobs, confirm=confirm, timeout_s=timeout_s)


def _size(job: AnyJob) -> int:
    if job.metadata or not isinstance(job.prompt, str) or isinstance(job, ReviseJob):
        return len(job.model_dump_json())
    return sum(len(value) for value in vars(job).values() if isinstance(value, str))
