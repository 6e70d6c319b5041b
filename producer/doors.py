"""The two ways from a producer to the ledger: directly, or by messages over Redis.

A door carries batches in and answers out, and knows no files. Each is loaded on demand, so that
a process with only a Redis address never needs a Postgres driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.jobs import AnyJob
from schemas.messages import ControlMessage, ControlReply, SubmitReply
from schemas.results import FailureGroup, JobResult, JobState, RunProgress
from schemas.settings import Settings

if TYPE_CHECKING:
    from schemas.progress import RunSummary

Transport = Literal["auto", "ledger", "redis"]


class Door(Protocol):
    """What the client needs of either way."""

    transport: Literal["ledger", "redis"]

    def submit(
        self,
        run: str,
        config: RunConfig | None,
        batch: Sequence[tuple[int, AnyJob]],
        *,
        confirm: bool,
        timeout_s: float,
    ) -> SubmitReply | None:
        """Hand in (ordinal, job) pairs.

        Returns:
            What became of each; None where the broker took the message and nobody has
            answered yet.

        Raises:
            ContractError: The run does not fit; nothing of the batch was accepted.
            LedgerError: The ledger is out of reach.
            BrokerError: The broker is out of reach.
            ResultTimeout: ``confirm`` was asked for and no answer came in time.
        """
        ...

    def fetch_state(self, run: str, job_id: UUID) -> JobState | None:
        """A job's state; None where the run does not have it (yet)."""
        ...

    def fetch_job(self, run: str, job_id: UUID) -> JobResult | None:
        """A job and its history; None where the run does not have it (yet)."""
        ...

    def fetch_progress(self, run: str) -> RunProgress:
        """How a run stands."""
        ...

    def fetch_failures(self, run: str) -> list[FailureGroup]:
        """A run's failed jobs in groups."""
        ...

    def control(self, message: ControlMessage) -> ControlReply:
        """Steer a run: every verb, in the form that also travels over Redis."""
        ...

    def list_runs(self) -> list[RunSummary]:
        """The newest runs."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


def open_door(settings: Settings, transport: Transport = "auto") -> Door:
    """The way this process can go. It connects on first use.

    Raises:
        ConfigError: Neither a ledger nor a broker is known, or a driver is missing.
    """
    if transport == "redis" or (transport == "auto" and not _ledger_reachable(settings)):
        from producer.redis_door import RedisDoor

        return RedisDoor(settings)
    if not _drivers_installed():
        raise ConfigError("the ledger's driver is missing: pip install 'preceptor[ledger]'")
    from producer.ledger_door import LedgerDoor

    return LedgerDoor(settings)


def _ledger_reachable(settings: Settings) -> bool:
    if settings.database_url is None:
        return False
    # Without a broker the missing driver is the answer the caller needs.
    return _drivers_installed() or settings.redis_url is None


def _drivers_installed() -> bool:
    return all(find_spec(name) is not None for name in ("sqlalchemy", "psycopg"))
