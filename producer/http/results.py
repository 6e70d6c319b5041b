"""A run's results: in pages, or all of them as JSON lines.

Both walk the run by (ordinal, id) with a small transaction for each page, so that a slow reader
holds no connection and no snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection, select, tuple_

from producer.http.answers import ResultsPage
from producer.http.bodies import NDJSON
from producer.http.context import Here, Known
from producer.http.documents import problems
from producer.http.ledger import Ledger
from producer.http.lookups import require_run
from producer.http.runs import RunPath
from schemas.errors import FieldError
from schemas.histories import fetch_results
from schemas.results import JobResult
from schemas.tables import ENDED, JobRow

DEFAULT_LIMIT = 50
MAX_PAGE_JOBS = 200
_STREAM_PAGE_JOBS = 100
_MAX_BIGINT = 2**63 - 1

router = APIRouter(tags=["results"])

Cursor = Annotated[str, Query(pattern=r"^[0-9]{1,19}\.[0-9a-f]{32}$")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: behind this job."""

    ordinal: int
    job_id: UUID

    @classmethod
    def read(cls, cursor: str) -> Place:
        ordinal, _, job_id = cursor.partition(".")
        if int(ordinal) > _MAX_BIGINT:
            raise FieldError("cursor: is none that this server gave", "cursor")
        return cls(int(ordinal), UUID(hex=job_id))

    def write(self) -> str:
        return f"{self.ordinal}.{self.job_id.hex}"


@dataclass(frozen=True, slots=True)
class Page:
    """Results and the place of the last; None where there are no more for now."""

    results: list[JobResult]
    last: Place | None


@router.get(
    "/v1/runs/{run}/results",
    response_model=ResultsPage,
    responses={
        200: {
            "description": "A page; or, where Accept asks for it, all results as JSON lines.",
            "content": {
                NDJSON: {"schema": {"type": "string", "description": "One JobResult a line."}}
            },
        },
        **problems(401, 403, 404, 422, 503),
    },
)
async def get_results(
    request: Request,
    here: Here,
    caller: Known,
    run: RunPath,
    cursor: Annotated[
        Cursor | None, Query(description="`next_cursor` of the page before; none to begin.")
    ] = None,
    limit: Annotated[
        int | None,
        Query(
            ge=1,
            le=MAX_PAGE_JOBS,
            description="Most jobs of a page, by default 50. Not for JSON lines.",
        ),
    ] = None,
    also_open: Annotated[
        bool, Query(alias="open", description="Also jobs that have not ended.")
    ] = False,
) -> Response:
    """A run's jobs with their histories, in the order of their source.

    While a run goes on, a job behind the cursor may still end: read again from the beginning
    when nothing is open. With `Accept: application/x-ndjson` all results come as JSON lines; a
    connection that breaks before its last chunk was not read to the end.
    """
    place = Place.read(cursor) if cursor else None
    as_lines = NDJSON in request.headers.get("accept", "")
    size = _STREAM_PAGE_JOBS if as_lines else limit or DEFAULT_LIMIT
    fetch = partial(_fetch_page, run=run, ended_only=not also_open, size=size)
    page = await here.ledger.run(partial(fetch, after=place))
    if as_lines:
        return StreamingResponse(_lines(here.ledger, page, fetch), media_type=NDJSON)
    next_cursor = page.last.write() if page.last else None
    answer = ResultsPage(results=tuple(page.results), next_cursor=next_cursor)
    return Response(answer.model_dump_json(), media_type="application/json")


async def _lines(ledger: Ledger, page: Page, fetch: partial[Page]) -> AsyncIterator[bytes]:
    while True:
        for result in page.results:
            yield result.model_dump_json().encode() + b"\n"
        if page.last is None:
            return
        page = await ledger.run(partial(fetch, after=page.last))


def _fetch_page(
    connection: Connection, *, run: str, after: Place | None, ended_only: bool, size: int
) -> Page:
    run_id = require_run(connection, run)
    wanted = select(JobRow.ordinal, JobRow.id).where(JobRow.run_id == run_id)
    if ended_only:
        wanted = wanted.where(JobRow.state.in_(ENDED))
    if after is not None:
        here = (after.ordinal, after.job_id)
        wanted = wanted.where(tuple_(JobRow.ordinal, JobRow.id) > here)
    wanted = wanted.order_by(JobRow.ordinal, JobRow.id).limit(size)
    rows = connection.execute(wanted).all()
    results = fetch_results(connection, run_id, [row.id for row in rows])
    last = Place(*rows[-1]) if len(rows) == size else None
    return Page(results, last)
