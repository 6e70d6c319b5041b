"""Tables of the HTTP door: who may use it, how much of it, and which requests it has answered.

They belong to the same metadata as the ledger's tables, and no worker reads them.
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from schemas.tables import Base


class ApiKey(Base):
    """A key of the HTTP door; its secret is not here, only the secret's SHA-256.

    ``max_open_jobs`` and ``jobs_per_day`` are null for no limit. A key with ``revoked_at`` opens
    nothing any more; its row stays for the record.
    """

    __tablename__ = "api_key"
    __table_args__ = (
        CheckConstraint("max_open_jobs > 0", name="max_open_jobs"),
        CheckConstraint("jobs_per_day > 0", name="jobs_per_day"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[str] = mapped_column(unique=True)
    max_open_jobs: Mapped[int | None]
    jobs_per_day: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]


class KeyUse(Base):
    """New jobs that a key brought in on one day (UTC)."""

    __tablename__ = "api_key_use"

    key_id: Mapped[UUID] = mapped_column(ForeignKey("api_key.id"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    jobs: Mapped[int]


class KeyJob(Base):
    """A job that counts as open for the key that brought it; removed after it has ended."""

    __tablename__ = "api_key_job"
    __table_args__ = (Index("ix_api_key_job_key_id", "key_id"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.id"), primary_key=True)
    key_id: Mapped[UUID] = mapped_column(ForeignKey("api_key.id"))


class IdempotentRequest(Base):
    """A request that came with an Idempotency-Key, and its answer once there is one.

    ``owner`` is the API key's id, or ``open`` where none is asked for. ``digest`` and ``answer``
    are null while the request is being served; ``touched_at`` shows that it still is.
    """

    __tablename__ = "idempotent_request"
    __table_args__ = (Index("ix_idempotent_request_created_at", "created_at"),)

    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[UUID]
    digest: Mapped[str | None]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    answer: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    touched_at: Mapped[datetime] = mapped_column(server_default=func.now())
