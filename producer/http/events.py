"""A run's progress as server-sent events, until nothing of it is open.

A listener holds no connection to the ledger and may stay as long as it likes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Annotated

from anyio import Event
from fastapi import APIRouter, Header
from sse_starlette import EventSourceResponse, ServerSentEvent

from producer.http.context import Here, Known
from producer.http.documents import problems
from producer.http.lookups import progress_of_run
from producer.http.runs import RunPath
from schemas.results import RunProgress

HEARTBEAT_S = 15
EVENT_STREAM = "text/event-stream"
#: A client that takes nothing for so long is gone.
_SEND_TIMEOUT_S = 30
#: Seconds a stream has to end by itself when the server stops; its client connects again.
_LEAVE_WITHIN_S = 3

router = APIRouter(tags=["runs"])


@router.get(
    "/v1/runs/{run}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events `progress`, each with a RunProgress as JSON; after the last "
            "one, in which nothing is open, one event `end`.",
            "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
        },
        **problems(401, 403, 404, 422, 503),
    },
)
async def follow_run(
    here: Here,
    caller: Known,
    run: RunPath,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="Sent by clients that connect again. Every stream begins with the whole "
            "progress, so nothing is missed.",
        ),
    ] = None,
) -> EventSourceResponse:
    """Follow a run: its progress at once, then at most once a second where it changed.

    Ends when no job of the run is open. A comment every 15 seconds keeps the connection alive.
    """
    first = await here.ledger.run(partial(progress_of_run, run=run))
    leaving = Event()
    return EventSourceResponse(
        _events(here.feed.follow(run, first, leaving), leaving),
        ping=HEARTBEAT_S,
        send_timeout=_SEND_TIMEOUT_S,
        shutdown_event=leaving,
        shutdown_grace_period=_LEAVE_WITHIN_S,
    )


async def _events(
    progress: AsyncGenerator[RunProgress, None], leaving: Event
) -> AsyncIterator[ServerSentEvent]:
    number = 0
    async with aclosing(progress):
        async for one in progress:
            number += 1
            yield ServerSentEvent(one.model_dump_json(), event="progress", id=str(number))
    if not leaving.is_set():
        yield ServerSentEvent("{}", event="end", id=str(number + 1))
