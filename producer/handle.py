"""A handle of one submitted job: its state, and waiting for its result."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from uuid import UUID

from producer.doors import Door
from schemas.errors import BrokerError, ContractError, LedgerError, ResultTimeout
from schemas.results import JobResult, JobState

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class JobHandle:
    """One submitted job.

    Attributes:
        run: Name of its run.
        job_id: Its id in the ledger, the same for the same job in the same run.
        confirmed: Whether its acceptance is certain; False after an unconfirmed submission
            over Redis.
        duplicate: Whether the run had it before; None where ``confirmed`` is False.
    """

    run: str
    job_id: UUID
    confirmed: bool
    duplicate: bool | None
    _door: Door = field(repr=False, compare=False)

    def status(self) -> JobState:
        """Where the job is now.

        Raises:
            ContractError: The run does not have it, or not yet (unconfirmed).
        """
        state = self._door.fetch_state(self.run, self.job_id)
        if state is None:
            raise ContractError(
                f"run '{self.run}' has no job {self.job_id}: an unconfirmed submission may "
                "still be on its way, or was refused or lost; submit it again with confirm=True"
            )
        return state

    def result(self, timeout_s: float = 600.0) -> JobResult:
        """Wait until the job has ended.

        A failed or cancelled job raises nothing: its result says so in ``state``,
        ``stop_reason``, ``error_code`` and ``error``. An outage of the ledger or the broker is
        waited out within the time given.

        Raises:
            ResultTimeout: The job has not ended in time; it goes on.
            LedgerError: The ledger was still out of reach at the end of the time.
            BrokerError: The broker was.
        """
        deadline = time.monotonic() + timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if (result := self._ended_result()) is not None:
                    return result
                problem: Exception = ResultTimeout(
                    f"job {self.job_id} of run '{self.run}' has not ended within {timeout_s:g} s;"
                    f" it goes on: 'preceptor status {self.run}'"
                )
            except (LedgerError, BrokerError, ResultTimeout) as error:
                problem = error
            if time.monotonic() + pause_s > deadline:
                raise problem
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _ended_result(self) -> JobResult | None:
        if self._door.fetch_state(self.run, self.job_id) not in _ENDED:
            return None
        return self._door.fetch_job(self.run, self.job_id)
