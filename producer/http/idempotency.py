"""Idempotency-Key: a request that is sent again gets the answer it got the first time.

Only answers of success are kept, for a day. Jobs are idempotent by their content as it is; this
is for callers who must get the very same answer, and learn of a key used for two requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from schemas.door_tables import IdempotentRequest
from schemas.errors import Conflict

#: A request that has shown no sign of life for so long was lost with its server.
ABANDONED_S = 60
KEPT_S = 86_400
_PURGED_ROWS = 100

_EXPIRED = text(
    "DELETE FROM idempotent_request WHERE (owner, key) IN (SELECT owner, key"
    " FROM idempotent_request WHERE created_at < now() - make_interval(secs => :kept_s)"
    " LIMIT :rows FOR UPDATE SKIP LOCKED)"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its status and its JSON text."""

    status: int
    body: str


class RequestDigest:
    """SHA-256 of what makes two requests the same: method, path, query, type and body."""

    def __init__(self, method: str, target: str, media_type: str) -> None:
        self._sum = sha256(f"{method}\n{target}\n{media_type}\n".encode())

    def update(self, chunk: bytes) -> None:
        self._sum.update(chunk)

    def hex(self) -> str:
        return self._sum.hexdigest()


@dataclass(frozen=True, slots=True)
class Claim:
    """One request's hold on an Idempotency-Key.

    Attributes:
        owner: The API key's id, or ``open``: callers never meet each other's requests.
        token: Told apart from a later holder of the same key.
    """

    owner: str
    key: str
    token: UUID

    @classmethod
    def new(cls, owner: str, key: str) -> Claim:
        return cls(owner, key, uuid4())


def claim(connection: Connection, mine: Claim) -> tuple[str, Answer] | None:
    """Take a key, or find what it was used for. Waits for a transaction that is taking it.

    Returns:
        None where it is taken for this request now; else the digest of the request it belongs
        to and its answer.

    Raises:
        Conflict: Another request under the key is being served.
    """
    connection.execute(_EXPIRED, {"rows": _PURGED_ROWS, "kept_s": KEPT_S})
    row = {"owner": mine.owner, "key": mine.key, "token": mine.token}
    taken = insert(IdempotentRequest).values(row).on_conflict_do_nothing()
    if connection.execute(taken.returning(IdempotentRequest.token)).first():
        return None
    found = connection.execute(_select(mine).with_for_update()).first()
    if found is None:
        raise Conflict(_being_served(mine))
    if found.answer is not None and found.age_s < KEPT_S:
        return found.digest, Answer(found.status, found.answer)
    if found.answer is None and found.idle_s < ABANDONED_S:
        raise Conflict(_being_served(mine))
    connection.execute(_row(mine).values(_taken_over(mine)))
    return None


def touch(connection: Connection, mine: Claim) -> None:
    """Show that the request is still being served.

    Raises:
        Conflict: It took so long that another one has taken the key.
    """
    if connection.execute(_held(mine).values(touched_at=func.now())).rowcount == 0:
        raise Conflict(f"Idempotency-Key '{mine.key}' was taken over by a later request")


def finish(connection: Connection, mine: Claim, digest: str, answer: Answer) -> None:
    """Keep the answer."""
    kept = {"digest": digest, "status": answer.status, "answer": answer.body}
    connection.execute(_held(mine).values(kept))


def release(connection: Connection, mine: Claim) -> None:
    """Give the key back after a failure, so that the request can be sent again."""
    table = IdempotentRequest
    connection.execute(
        delete(table).where(
            table.owner == mine.owner,
            table.key == mine.key,
            table.token == mine.token,
            table.answer.is_(None),
        )
    )


def answer_again(mine: Claim, digest: str, kept: tuple[str, Answer]) -> Answer:
    """The kept answer, where the request is the same.

    Raises:
        Conflict: The key was used for another request.
    """
    if kept[0] != digest:
        raise Conflict(
            f"Idempotency-Key '{mine.key}' was used for another request within the last day: "
            "use a new key for a new request"
        )
    return kept[1]


def _being_served(mine: Claim) -> str:
    return f"a request under Idempotency-Key '{mine.key}' is being served: ask again later"


def _taken_over(mine: Claim) -> dict[str, Any]:
    unanswered = {"digest": None, "status": None, "answer": None}
    return {**unanswered, "token": mine.token, "created_at": func.now(), "touched_at": func.now()}


def _select(mine: Claim) -> Any:
    table = IdempotentRequest
    age_s = func.extract("epoch", func.now() - table.created_at).label("age_s")
    idle_s = func.extract("epoch", func.now() - table.touched_at).label("idle_s")
    return select(table.digest, table.status, table.answer, age_s, idle_s).where(
        table.owner == mine.owner, table.key == mine.key
    )


def _row(mine: Claim) -> Any:
    table = IdempotentRequest
    return update(table).where(table.owner == mine.owner, table.key == mine.key)


def _held(mine: Claim) -> Any:
    return _row(mine).where(IdempotentRequest.token == mine.token)
