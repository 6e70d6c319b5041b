"""A batch for the direct way: rows are made ready while the batch before is being recorded.

Needs the Postgres driver, as its door does.
"""

from __future__ import annotations

from sqlalchemy import Engine

from schemas.acceptance import OpenRun
from schemas.admission import Admission
from schemas.database import transaction
from schemas.jobs import AnyJob
from schemas.messages import SubmitReply


class LedgerBatch:
    """See ``producer.batches.Batch``; the commit is the answer, so every answer is final."""

    def __init__(self, engine: Engine, run: OpenRun) -> None:
        self.size_bytes = 0
        self._engine = engine
        self._admission = Admission(run)

    def add(self, ordinal: int, job: AnyJob) -> None:
        self.size_bytes += self._admission.add((ordinal, job))

    def send(self, *, confirm: bool, timeout_s: float) -> SubmitReply:
        with transaction(self._engine) as connection:
            return self._admission.record(connection)
