"""The worker's side of the ledger: claim, renew, commit, give back, fail. All its SQL is here.

Every state change is conditional on the fence that the claim set, so a worker that was paused
past its lease can never overwrite what another worker did since. Nothing here knows engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from schemas.acceptance import step_values
from schemas.config import RunConfig
from schemas.constitution import Constitution
from schemas.database import transaction
from schemas.errors import LeaseLost, PreceptorError
from schemas.jobs import JOB_ADAPTER, content_key
from schemas.policy import FAILED, PolicyConfig, StopReason
from schemas.tables import JobRow, Judgement, Preference, Revision, Run, StepRow, WorkerRow
from workers.history import read_history
from workers.policy import (
    History,
    NextStep,
    Stop,
    final_critique,
    final_response,
)
from workers.step_records import ClaimedStep, NextMessage, StepOutcome


class Ledger:
    """One worker's connection to the ledger.

    Args:
        engine: Pooled connections; none is held while a model works.
        worker: This process's name, as in Flower.
        lease_s: How long a claim lasts without a heartbeat.
    """

    def __init__(self, engine: Engine, worker: str, lease_s: float) -> None:
        self.engine = engine
        self.worker = worker
        self.lease_s = lease_s
        # Runs never change once created; reading them per step would be the largest row by far.
        self._runs: dict[UUID, tuple[str, RunConfig, Constitution]] = {}

    def claim(self, step_id: UUID) -> ClaimedStep | None:
        """Take a step that is queued, or whose owner's lease ran out.

        Returns:
            None where there is nothing to do: another worker has it, it has ended, its run is
            paused or cancelled. The message that woke us is then dropped.

        Raises:
            LedgerError: The ledger is out of reach; the message must be kept.
        """
        with transaction(self.engine) as connection:
            row = connection.execute(self._claim_statement(step_id)).first()
            if row is None:
                return None
            connection.execute(
                update(JobRow)
                .where(JobRow.id == row.job_id, JobRow.state == "queued")
                .values(state="running")
            )
            return self._describe(connection, row)

    def _claim_statement(self, step_id: UUID) -> Any:
        now = func.now()
        claimable = or_(
            StepRow.state == "queued",
            and_(StepRow.state == "running", StepRow.lease_until < now),
        )
        # A row that somebody is changing right now is not to be had. Waiting for it would let one
        # worker that sleeps inside a transaction hold up every task thread of the others.
        free = select(StepRow.id).where(StepRow.id == step_id, claimable)
        return (
            update(StepRow)
            .where(StepRow.id.in_(free.with_for_update(skip_locked=True)), claimable)
            .where(StepRow.run_id == Run.id, Run.state == "active")
            .values(
                state="running",
                fence=StepRow.fence + 1,
                attempt=StepRow.attempt + 1,
                lease_until=now + timedelta(seconds=self.lease_s),
                worker=self.worker,
                started_at=now,
                queue_wait_s=func.extract(
                    "epoch", now - func.coalesce(StepRow.not_before, StepRow.created_at)
                ),
            )
            .returning(StepRow)
        )

    def _describe(self, connection: Connection, row: Any) -> ClaimedStep:
        name, config, constitution = self._run(connection, row.run_id)
        job_row = connection.execute(select(JobRow.payload).where(JobRow.id == row.job_id)).one()
        job = JOB_ADAPTER.validate_python(job_row.payload)
        return ClaimedStep(
            id=row.id,
            job_id=row.job_id,
            run_id=row.run_id,
            run_name=name,
            kind=row.kind,
            round=row.round,
            revision_try=row.revision_try,
            role=row.role,
            attempt=row.attempt,
            queue_wait_s=row.queue_wait_s,
            fence=row.fence,
            ordinal=row.ordinal,
            content_key=content_key(job),
            job=job,
            config=config,
            constitution=constitution,
            seed=config.seed,
            history=read_history(connection, row.job_id, job, constitution),
        )

    def _run(self, connection: Connection, run_id: UUID) -> tuple[str, RunConfig, Constitution]:
        if run_id not in self._runs:
            row = connection.execute(
                select(Run.name, Run.config, Run.constitution).where(Run.id == run_id)
            ).one()
            self._runs[run_id] = (
                row.name,
                RunConfig.model_validate(row.config),
                Constitution.model_validate(row.constitution),
            )
        return self._runs[run_id]

    def renew(self, owned: Mapping[UUID, int]) -> set[UUID]:
        """Heartbeat: extend the leases of the steps this worker runs.

        Args:
            owned: Step id to fence.

        Returns:
            Steps that are no longer ours, or whose run was cancelled: their work is to be
            aborted.
        """
        if not owned:
            return set()
        with transaction(self.engine) as connection:
            kept = connection.execute(
                text(
                    "UPDATE step SET lease_until = now() + make_interval(secs => :lease_s)"
                    " FROM run, unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[]))"
                    " AS mine(id, fence)"
                    " WHERE step.id = mine.id AND step.fence = mine.fence"
                    " AND step.state = 'running' AND run.id = step.run_id"
                    " AND run.state <> 'cancelled' RETURNING step.id"
                ),
                {
                    "lease_s": self.lease_s,
                    "ids": list(owned),
                    "fences": list(owned.values()),
                },
            ).scalars()
            return set(owned) - set(kept)

    def commit(
        self, step: ClaimedStep, outcome: StepOutcome, decision: NextStep | Stop
    ) -> NextMessage | None:
        """Record a step's outcome and what follows, in one transaction.

        Returns:
            The wake-up to publish; None where the job ended or its run is paused.

        Raises:
            LeaseLost: Another worker owns the step now; nothing was recorded.
            LedgerError: The ledger is out of reach; nothing was recorded.
        """
        with transaction(self.engine) as connection:
            self._end_step(connection, step, outcome)
            self._insert_outcome(connection, step, outcome)
            run_state = connection.execute(
                select(Run.state).where(Run.id == step.run_id)
            ).scalar_one()
            if run_state == "cancelled" and isinstance(decision, NextStep):
                decision = Stop(StopReason.CANCELLED)
            if isinstance(decision, Stop):
                self._end_job(connection, step, outcome, decision)
                return None
            return self._insert_next(connection, step, decision, publish=run_state == "active")

    def _end_step(self, connection: Connection, step: ClaimedStep, outcome: StepOutcome) -> None:
        failed = outcome.error is not None
        values: dict[str, Any] = {
            "state": "failed" if failed else "done",
            "lease_until": None,
            "ended_at": func.now(),
            **outcome.measures,
        }
        if outcome.error is not None:
            values |= describe_error(outcome.error)
        self._change(connection, step, values)

    def _change(self, connection: Connection, step: ClaimedStep, values: dict[str, Any]) -> None:
        changed = connection.execute(
            update(StepRow)
            .where(StepRow.id == step.id, StepRow.fence == step.fence, StepRow.state == "running")
            .values(**values)
        ).rowcount
        if changed != 1:
            raise LeaseLost(f"step {step.id} was taken over while it ran; its result is dropped")

    def _insert_outcome(
        self, connection: Connection, step: ClaimedStep, outcome: StepOutcome
    ) -> None:
        shared = {
            "step_id": step.id,
            "job_id": step.job_id,
            "run_id": step.run_id,
            "round": step.round,
        }
        if outcome.judgements:
            rows = [{**row, **shared} for row in outcome.judgements]
            connection.execute(insert(Judgement).on_conflict_do_nothing(), rows)
        self._insert_texts(connection, step, outcome, shared)

    def _insert_texts(
        self,
        connection: Connection,
        step: ClaimedStep,
        outcome: StepOutcome,
        shared: dict[str, Any],
    ) -> None:
        shared["revision_try"] = step.revision_try
        for table, row in ((Revision, outcome.revision), (Preference, outcome.preference)):
            if row is not None:
                values = {**row, **shared, "id": step.id}
                connection.execute(insert(table).values(values).on_conflict_do_nothing())
        if outcome.accepted is not None:
            connection.execute(
                update(Revision)
                .where(
                    Revision.job_id == step.job_id,
                    Revision.round == step.round,
                    Revision.revision_try == step.revision_try,
                )
                .values(accepted=outcome.accepted)
            )

    def _insert_next(
        self, connection: Connection, step: ClaimedStep, after: NextStep, *, publish: bool
    ) -> NextMessage | None:
        values = step_values(
            step.run_id,
            step.config,
            step.job_id,
            after.kind,
            after.round,
            after.revision_try,
            step.ordinal,
        )
        if publish:
            # Counted as published now, because we publish right after this commit. Should we
            # die in between, the dispatcher finds it unclaimed and publishes it again.
            values |= {"published_at": func.now(), "publish_count": 1}
        connection.execute(insert(StepRow).values(**values).on_conflict_do_nothing())
        return NextMessage(values["id"], values["queue"]) if publish else None

    def _end_job(
        self, connection: Connection, step: ClaimedStep, outcome: StepOutcome, stop: Stop
    ) -> None:
        values = job_ending(outcome.history or step.history, step.config.policy, stop)
        if outcome.error is not None and stop.reason in FAILED:
            code = describe_error(outcome.error)
            values |= {"error_code": code["error_code"], "error": code["error"]}
        connection.execute(
            update(JobRow)
            .where(JobRow.id == step.job_id, JobRow.stop_reason.is_(None))
            .values(**values)
        )
        if stop.rolled_back:
            connection.execute(
                update(Revision)
                .where(
                    Revision.job_id == step.job_id, Revision.accepted.is_(True), Revision.round > 0
                )
                .where(Revision.round == step.round - 1)
                .values(accepted=False)
            )

    def give_back(
        self, step: ClaimedStep, error: PreceptorError | None = None, *, after_s: float = 0.0
    ) -> None:
        """Return a claimed step to the queue.

        Args:
            error: What went wrong; None where nothing did (drain), and then the attempt does
                not count.
            after_s: Seconds before it may run again.

        Raises:
            LeaseLost: It is not ours any more.
        """
        values: dict[str, Any] = {
            "state": "queued",
            "lease_until": None,
            "worker": None,
            "published_at": None,
            "not_before": func.now() + timedelta(seconds=after_s),
        }
        if error is None:
            values["attempt"] = StepRow.attempt - 1
        else:
            values |= describe_error(error)
        with transaction(self.engine) as connection:
            self._change(connection, step, values)

    def announce(self, queue: str, slots: int, model: str | None) -> None:
        """Say that this worker lives."""
        row = {"id": self.worker, "queue": queue, "slots": slots, "model": model}
        with transaction(self.engine) as connection:
            connection.execute(
                insert(WorkerRow)
                .values(**row)
                .on_conflict_do_update(index_elements=["id"], set_={**row, "seen_at": func.now()})
            )

    def sign_off(self) -> None:
        """Say that this worker is gone."""
        with transaction(self.engine) as connection:
            connection.execute(
                text("DELETE FROM worker WHERE id = :worker"), {"worker": self.worker}
            )


def describe_error(error: PreceptorError) -> dict[str, Any]:
    """Columns of a row that tell of an error."""
    return {
        "error_code": error.code,
        "error": str(error)[:10_000].replace("\x00", ""),
        "raw_text": getattr(error, "raw", None) or None,
    }


def state_of(reason: StopReason) -> str:
    """The final state that goes with a stop reason."""
    if reason is StopReason.CANCELLED:
        return "cancelled"
    return "failed" if reason in FAILED else "done"


def job_ending(history: History, policy: PolicyConfig, stop: Stop) -> dict[str, Any]:
    """Columns of a job that ends: the response it keeps and what is known of it."""
    values: dict[str, Any] = {
        "state": state_of(stop.reason),
        "stop_reason": stop.reason.value,
        "rounds": len({r.round for r in history.revisions if r.round > 0}),
        "final_response": final_response(history, policy, stop),
        "ended_at": func.now(),
    }
    first = history.critiques[0] if history.critiques else None
    last = final_critique(history, stop)
    if first and not first.invalid:
        values |= {"severity_first": first.worst, "quality_first": first.quality}
    if last and not last.invalid:
        values |= {"severity_last": last.worst, "quality_last": last.quality}
    return values
