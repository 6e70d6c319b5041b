"""A run that has ended with so many labels, written by the server itself in a few statements.

One job in four is a loop of one revision, the others are label jobs; each has one label. Texts
are put together from pieces that the caller brings, so that filling costs what inserting costs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from schemas.acceptance import open_run
from schemas.database import transaction
from tests.bench.ledger_server import empty_ledger
from tests.integration.filled_ledger import QUEUE, TALLY, vacuum
from tests.integration.finished_run import PRINCIPLES, small_config

RUN = "labelled"


def _draw(n: str, seed: int, below: int) -> str:
    """SQL of a number from 0 to ``below`` - 1 that depends on ``n`` alone."""
    return f"((hashint8extended({n}, {seed}) & 9007199254740991) % {below})"


def _uniform(n: str, seed: int) -> str:
    """SQL of a number in [0, 1) that depends on ``n`` alone, in steps of 1/10,000."""
    return f"({_draw(n, seed, 10_000)} / 10000.0)"


def _joined(count: int) -> str:
    """FROM clause that puts seven pieces beside each job: one of the prompt, three an answer.

    Two jobs in turn ask the same prompt.
    """
    drawn = [f"JOIN piece AS p{i} ON p{i}.at = {_draw('n', i, count)}" for i in range(1, 7)]
    asked = f"JOIN piece AS p0 ON p0.at = {_draw('n / 2', 0, count)}"
    return " ".join(["FROM generate_series(0, :jobs - 1) AS n", asked, *drawn])


def _jobs(pieces: int) -> str:
    return (
        "INSERT INTO job (id, run_id, job_key, kind, external_id, ordinal, payload, state,"
        " stop_reason, rounds, final_response, severity_first, severity_last, quality_first,"
        " quality_last, ended_at)"
        " SELECT gen_random_uuid(), :run, 'key ' || n, kind, 'pair-' || n, n,"
        " jsonb_build_object('kind', kind, 'id', 'pair-' || n, 'prompt', prompt) || CASE kind"
        "  WHEN 'improve' THEN jsonb_build_object('response', a)"
        "  ELSE jsonb_build_object('response_a', a, 'response_b', b) END, 'done',"
        " CASE kind WHEN 'improve' THEN 'severity_below_threshold' ELSE 'completed' END,"
        " loop, CASE loop WHEN 1 THEN b END, CASE loop WHEN 1 THEN 0.7 END,"
        " CASE loop WHEN 1 THEN 0.1 END, CASE loop WHEN 1 THEN 0.5 END,"
        " CASE loop WHEN 1 THEN 0.9 END, now() FROM (SELECT n,"
        " 'Question ' || n / 2 || '? ' || p0.text AS prompt,"
        " CASE WHEN n % 4 = 0 THEN 'improve' ELSE 'label' END AS kind,"
        " CASE WHEN n % 4 = 0 THEN 1 ELSE 0 END AS loop,"
        " concat_ws(' ', p1.text, p2.text, p3.text) AS a,"
        f" concat_ws(' ', p4.text, p5.text, p6.text) AS b {_joined(pieces)}) AS made"
    )


_STEPS = (
    "INSERT INTO step (id, job_id, run_id, kind, round, depth, ordinal, queue, role, state,"
    " attempt, fence, worker, published_at, publish_count, model, prompt_version, input_tokens,"
    " output_tokens, engine_s, queue_wait_s, started_at, ended_at)"
    " SELECT gen_random_uuid(), job.id, run_id, stage.kind, stage.round, 1010 + stage.place,"
    " ordinal, :queue, stage.role, 'done', 1, 1, 'worker ' || ordinal % 8, now(), 1, 'scripted-1',"
    " stage.kind || '-1', 300, 60, 0.2, 0.1, now(), now() FROM job JOIN (VALUES"
    " ('improve', 'critique', 1, 1, 'critic'), ('improve', 'revise', 1, 2, 'policy'),"
    " ('improve', 'label', 1, 3, 'judge'), ('improve', 'critique', 2, 4, 'critic'),"
    " ('label', 'label', 1, 3, 'judge')) AS stage(of, kind, round, place, role)"
    " ON stage.of = job.kind WHERE job.run_id = :run ORDER BY ordinal, place"
)

_SEVERITIES = (
    "INSERT INTO judgement (id, step_id, job_id, run_id, round, kind, principle, outcome, severity,"
    " level, distribution, outside_mass, critique, suggestions, seed)"
    " SELECT gen_random_uuid(), step_id, job_id, :run, round, 'severity', principle, 'ok',"
    " severity, CASE WHEN severity < 0.25 THEN 'none' ELSE 'minor' END,"
    ' \'{"none": 0.5, "minor": 0.3, "moderate": 0.1, "severe": 0.1}\'::jsonb, 0.01,'
    " CASE WHEN severity >= 0.25 THEN left(response, 150) END,"
    " CASE WHEN severity >= 0.25 THEN '[\"Say whom to ask.\"]'::jsonb END, 1"
    " FROM (SELECT step.id AS step_id, job.id AS job_id, step.round, principle,"
    " job.payload ->> 'response' AS response,"
    f" {_uniform('job.ordinal * 100 + step.round * 10 + place', 7)} / step.round AS severity"
    " FROM step JOIN job ON job.id = step.job_id,"
    " unnest(CAST(:principles AS text[])) WITH ORDINALITY AS asked(principle, place)"
    " WHERE step.run_id = :run AND step.kind = 'critique') AS found"
)

_REVISIONS = (
    "INSERT INTO revision (id, step_id, job_id, run_id, round, revision_try, outcome, accepted,"
    " text, digest, raw_text, finish_reason, seed) SELECT step.id, step.id, job.id, :run, 1, 1,"
    " 'ok', true, final_response, md5(final_response), final_response, 'stop', 0"
    " FROM step JOIN job ON job.id = step.job_id WHERE step.run_id = :run AND step.kind = 'revise'"
)

#: Both orders differ by a little noise; one label in a hundred could not be read. Half of the loops
#: asked their judge by no principle.
_PREFERENCES = (
    "INSERT INTO preference (id, step_id, job_id, run_id, round, revision_try, principle,"
    " response_a, response_b, verdict, p_a, p_a_shown_first, p_a_shown_second, consistent,"
    " confidence, mode, self_judged) SELECT step_id, step_id, job_id, :run, 1, 1,"
    " CASE WHEN ordinal % 8 <> 0 THEN (CAST(:principles AS text[]))[1 + ordinal % 3] END, a, b,"
    " CASE WHEN p IS NULL THEN 'invalid'"
    " WHEN p > 0.5 THEN 'A' WHEN p < 0.5 THEN 'B' ELSE 'tie' END, p, first, second,"
    " (first > 0.5) = (second > 0.5), 2 * abs(p - 0.5), 'mean', false"
    " FROM (SELECT *, (first + second) / 2 AS p FROM (SELECT step.id AS step_id,"
    " job.id AS job_id, job.ordinal, coalesce(payload ->> 'response', payload ->> 'response_a')"
    " AS a, coalesce(final_response, payload ->> 'response_b') AS b,"
    f" CASE WHEN job.ordinal % 100 <> 99 THEN 0.1 + 0.8 * {_uniform('job.ordinal', 8)} END"
    f" + 0.2 * ({_uniform('job.ordinal', 9)} - 0.5) AS first,"
    f" CASE WHEN job.ordinal % 100 <> 99 THEN 0.1 + 0.8 * {_uniform('job.ordinal', 8)} END"
    f" + 0.2 * ({_uniform('job.ordinal', 10)} - 0.5) AS second"
    " FROM step JOIN job ON job.id = step.job_id"
    " WHERE step.run_id = :run AND step.kind = 'label') AS drawn) AS told"
)

_ORDERS = (
    'INSERT INTO judgement (id, step_id, job_id, run_id, round, kind, principle, "order",'
    " outcome, p_first, distribution, outside_mass, seed) SELECT gen_random_uuid(), step_id,"
    " job_id, run_id, 1, 'preference', principle, shown.order,"
    " CASE WHEN p IS NULL THEN 'invalid' ELSE 'ok' END, p,"
    " jsonb_build_object('A', p, 'B', 1 - p), 0.01, 1 FROM preference, LATERAL (VALUES"
    " ('AB', p_a_shown_first), ('BA', 1 - p_a_shown_second)) AS shown(\"order\", p)"
    " WHERE run_id = :run"
)


def fill(engine: Engine, labels: int, pieces: Sequence[str]) -> UUID:
    """Write a run called ``RUN`` of so many jobs, each with one label.

    Args:
        engine: Of an empty ledger.
        labels: How many.
        pieces: Texts of about 80 to 250 characters; a prompt is one, an answer three.
    """
    with transaction(engine) as connection:
        run = open_run(connection, RUN, small_config())
        _lay_out(connection, pieces)
        values = {"run": run.id, "queue": QUEUE, "jobs": labels, "principles": list(PRINCIPLES)}
        statements = (_jobs(len(pieces)), _STEPS, _SEVERITIES, _REVISIONS, _PREFERENCES, _ORDERS)
        for statement in map(text, statements):
            taken = {each: values[each] for each in statement.compile().params}
            connection.execute(statement, taken)
        connection.execute(TALLY, {"run": run.id})
    vacuum(engine)
    return run.id


def _lay_out(connection: Connection, pieces: Sequence[str]) -> None:
    connection.execute(text("CREATE TEMP TABLE piece (at bigint, text text) ON COMMIT DROP"))
    rows = [{"at": at, "text": piece} for at, piece in enumerate(pieces)]
    connection.execute(text("INSERT INTO piece VALUES (:at, :text)"), rows)
    connection.execute(text("ANALYZE piece"))


@contextmanager
def labelled_ledger(labels: int, pieces: Sequence[str]) -> Iterator[str]:
    """The address of an embedded Postgres with such a run, for the time of the block."""
    with empty_ledger(pool_size=2) as (url, engine):
        started = time.monotonic()
        fill(engine, labels, pieces)
        with transaction(engine) as connection:
            held = connection.execute(text("SELECT pg_database_size(current_database())"))
            size_bytes = held.scalar_one()
        took = f"{size_bytes / 1e9:.2f} GB, filled in {time.monotonic() - started:.0f} s"
        print(f"ledger of {labels} labels: {took}", file=sys.stderr, flush=True)
        yield url
