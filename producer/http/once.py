"""Answering a request once: where it carries an Idempotency-Key, its answer is kept.

A request of one transaction keeps its answer in that transaction. One of many takes the key
first and gives it back if it fails.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from anyio import CancelScope
from fastapi import Request, Response
from sqlalchemy import Connection

from producer.http.idempotency import (
    Answer,
    Claim,
    RequestDigest,
    answer_again,
    claim,
    finish,
    release,
)
from producer.http.ledger import Ledger
from schemas.errors import LedgerError

logger = logging.getLogger(__name__)

REPLAYED = "Idempotency-Replayed"


def digest_of(request: Request, media_type: str = "") -> RequestDigest:
    """A digest that knows everything of a request but its body."""
    query = request.url.query
    target = f"{request.url.path}?{query}" if query else request.url.path
    return RequestDigest(request.method, target, media_type)


async def answer_once(
    ledger: Ledger,
    mine: Claim | None,
    digest: RequestDigest,
    work: Callable[[Connection], Answer],
) -> Response:
    """Do work of one transaction, or answer what it was answered before.

    Raises:
        Conflict: The key was used for another request.
    """
    if mine is None:
        return respond(await ledger.run(work))
    return await ledger.run(partial(_claimed, mine=mine, digest=digest.hex(), work=work))


async def answer_stream_once(
    ledger: Ledger,
    mine: Claim | None,
    digest: RequestDigest,
    chunks: AsyncIterator[bytes],
    work: Callable[[AsyncIterator[bytes]], Awaitable[Answer]],
) -> Response:
    """As ``answer_once``, for work of many transactions that reads a stream as it comes."""
    digested = _digested(chunks, digest)
    if mine is None:
        return respond(await work(digested))
    if (kept := await ledger.run(partial(claim, mine=mine))) is not None:
        async for _ in digested:
            pass
        return respond(answer_again(mine, digest.hex(), kept), replayed=True)
    try:
        answer = await work(digested)
    except BaseException:
        await _give_back(ledger, mine)
        raise
    await ledger.run(partial(finish, mine=mine, digest=digest.hex(), answer=answer))
    return respond(answer)


async def _give_back(ledger: Ledger, mine: Claim) -> None:
    with CancelScope(shield=True):
        try:
            await ledger.run(partial(release, mine=mine))
        except LedgerError as error:
            # Nobody else can take the key until it counts as abandoned.
            logger.warning("Idempotency-Key '%s' is not given back: %s", mine.key, error)


def respond(answer: Answer, *, replayed: bool = False) -> Response:
    """An answer as a response."""
    headers = {REPLAYED: "true"} if replayed else {}
    return Response(answer.body, answer.status, headers, "application/json")


def _claimed(
    connection: Connection, *, mine: Claim, digest: str, work: Callable[[Connection], Answer]
) -> Response:
    if (kept := claim(connection, mine)) is not None:
        return respond(answer_again(mine, digest, kept), replayed=True)
    answer = work(connection)
    finish(connection, mine, digest, answer)
    return respond(answer)


async def _digested(chunks: AsyncIterator[bytes], digest: RequestDigest) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk
