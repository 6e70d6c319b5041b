"""API keys: made, listed, revoked and recognised.

A secret is 256 random bits, so nobody can try all of them against a stolen digest, and one round
of SHA-256 is enough; a slow hash protects what people choose, and would slow every request.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, cast, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from schemas.door_tables import ApiKey, KeyUse
from schemas.errors import ContractError, NotFound

_PREFIX = "pk_"
_SECRET_BYTES = 32
MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Key:
    """A key that opens the door, with its limits; None for no limit."""

    id: UUID
    name: str
    max_open_jobs: int | None
    jobs_per_day: int | None


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One key of the list; ``jobs_today`` are the new jobs it brought in since midnight, UTC."""

    name: str
    max_open_jobs: int | None
    jobs_per_day: int | None
    jobs_today: int
    created_at: datetime
    revoked_at: datetime | None


def create_key(
    connection: Connection, name: str, *, max_open_jobs: int | None, jobs_per_day: int | None
) -> str:
    """Make a key.

    Returns:
        Its secret, which is kept nowhere.

    Raises:
        ContractError: The name is none, or taken, by a revoked key too.
    """
    if not (name.strip() and name.isprintable() and len(name) <= MAX_NAME):
        raise ContractError(f"a key's name has 1 to {MAX_NAME} printable characters")
    secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    row = {
        "id": uuid4(),
        "name": name,
        "digest": _digest(secret),
        "max_open_jobs": max_open_jobs,
        "jobs_per_day": jobs_per_day,
    }
    made = upsert(ApiKey).values(row).on_conflict_do_nothing().returning(ApiKey.id)
    if connection.execute(made).first() is None:
        raise ContractError(
            f"a key is called '{name}' already, or was before it was revoked: choose another name"
        )
    return secret


def list_keys(connection: Connection) -> list[KeyLine]:
    """All keys, also those revoked, by name."""
    today = select(KeyUse.jobs).where(KeyUse.key_id == ApiKey.id, KeyUse.day == utc_day())
    statement = select(
        ApiKey.name,
        ApiKey.max_open_jobs,
        ApiKey.jobs_per_day,
        func.coalesce(today.scalar_subquery(), 0).label("jobs_today"),
        ApiKey.created_at,
        ApiKey.revoked_at,
    ).order_by(ApiKey.name)
    return [KeyLine(**row) for row in connection.execute(statement).mappings()]


def revoke_key(connection: Connection, name: str) -> None:
    """Let a key open nothing any more; revoking twice changes nothing.

    Raises:
        NotFound: No such key.
    """
    revoked_at = func.coalesce(ApiKey.revoked_at, func.now())
    statement = update(ApiKey).where(ApiKey.name == name).values(revoked_at=revoked_at)
    if connection.execute(statement).rowcount == 0:
        raise NotFound(f"no key is called '{name}': 'preceptor keys list' shows all")


def find_key(connection: Connection, secret: str) -> Key | None:
    """The key of a secret; None where there is none or it was revoked."""
    columns = (ApiKey.id, ApiKey.name, ApiKey.max_open_jobs, ApiKey.jobs_per_day)
    statement = select(*columns).where(
        ApiKey.digest == _digest(secret), ApiKey.revoked_at.is_(None)
    )
    row = connection.execute(statement).first()
    return None if row is None else Key(*row)


def any_key(connection: Connection) -> bool:
    """Whether a key opens the door."""
    statement = select(exists().where(ApiKey.revoked_at.is_(None)))
    return connection.execute(statement).scalar_one()


def utc_day() -> Any:
    """Today in UTC, by the database's clock."""
    return cast(func.timezone("UTC", func.now()), KeyUse.day.type)


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
