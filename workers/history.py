"""Reading a job's history out of the ledger, in the form the policy decides on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from schemas.constitution import Constitution
from schemas.jobs import AnyJob, LabelJob
from schemas.tables import Judgement, Preference, Revision
from workers.parsing import response_digest
from workers.policy import (
    CritiqueRecord,
    Finding,
    History,
    LabelRecord,
    RevisionRecord,
    weight_of,
)


def read_history(
    connection: Connection, job_id: UUID, job: AnyJob, constitution: Constitution
) -> History:
    """Everything the ledger knows of a job."""
    initial = None if isinstance(job, LabelJob) else job.response
    return History(
        kind=job.kind,
        initial=initial,
        initial_digest=None if initial is None else response_digest(initial),
        critiques=_critiques(_severities(connection, job_id), constitution),
        revisions=tuple(_revisions(connection, job_id)),
        labels=tuple(_labels(connection, job_id)),
    )


def _severities(connection: Connection, job_id: UUID) -> Sequence[Any]:
    columns = (
        Judgement.round,
        Judgement.principle,
        Judgement.outcome,
        Judgement.severity,
        Judgement.critique,
        Judgement.suggestions,
    )
    return connection.execute(
        select(*columns)
        .where(Judgement.job_id == job_id, Judgement.kind == "severity")
        .order_by(Judgement.round)
    ).all()


def _critiques(rows: Iterable[Any], constitution: Constitution) -> tuple[CritiqueRecord, ...]:
    position = {p.name: i for i, p in enumerate(constitution.principles)}
    records = []
    for round_number, of_round in groupby(rows, key=lambda row: row.round):
        ordered = sorted(of_round, key=lambda row: position[row.principle])
        findings = tuple(_finding(row, constitution) for row in ordered)
        records.append(CritiqueRecord(round_number, findings))
    return tuple(records)


def _finding(row: Any, constitution: Constitution) -> Finding:
    return Finding(
        principle=row.principle,
        severity=row.severity if row.outcome == "ok" else None,
        weight=weight_of(constitution.principle(row.principle)),
        text=row.critique,
        suggestions=tuple(row.suggestions or ()),
    )


def _revisions(connection: Connection, job_id: UUID) -> Iterable[RevisionRecord]:
    rows = connection.execute(
        select(
            Revision.round, Revision.revision_try, Revision.outcome, Revision.text, Revision.digest
        )
        .where(Revision.job_id == job_id)
        .order_by(Revision.round, Revision.revision_try)
    )
    return (RevisionRecord(*row) for row in rows)


def _labels(connection: Connection, job_id: UUID) -> Iterable[LabelRecord]:
    rows = connection.execute(
        select(Preference.round, Preference.revision_try, Preference.verdict, Preference.p_a)
        .where(Preference.job_id == job_id)
        .order_by(Preference.round, Preference.revision_try)
    )
    return (LabelRecord(r, t, verdict, None if p is None else 1.0 - p) for r, t, verdict, p in rows)
