"""sharing, retries and tallies"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COUNTS = ("steps_done", "steps_failed", "input_tokens", "output_tokens", "cached_tokens")
MEASURES = ("engine_s", "cost_usd")
#: Every step row is rewritten a few times in its life. Room in its page lets a heartbeat stay off
#: the indexes; vacuum comes long before a fifth of a large table is dead, which is the default.
STORAGE = {
    "step": "fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02,"
    " autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02",
    "job": "fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02,"
    " autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02",
    "tally": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0,"
    " autovacuum_vacuum_threshold = 1000",
    "worker": "autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500",
}


def upgrade() -> None:
    op.add_column("run", sa.Column("weight", sa.Float(), server_default="1", nullable=False))
    op.add_column("run", sa.Column("max_running", sa.BigInteger(), nullable=True))
    op.create_check_constraint(op.f("ck_run_weight"), "run", "weight > 0")
    op.create_check_constraint(op.f("ck_run_max_running"), "run", "max_running > 0")
    op.add_column(
        "job", sa.Column("retries", sa.SmallInteger(), server_default="0", nullable=False)
    )
    _create_tally()
    _index_jobs()
    _index_steps()
    for table, settings in STORAGE.items():
        op.execute(f"ALTER TABLE {table} SET ({settings})")


def _index_jobs() -> None:
    op.drop_index("ix_job_run_state", table_name="job")
    op.create_index("ix_job_run_state", "job", ["run_id", "state", "stop_reason", "error_code"])
    op.create_index("ix_job_run_accepted", "job", ["run_id", "accepted_at"])
    op.create_index(
        "ix_job_run_ended",
        "job",
        ["run_id", "ended_at"],
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )


def _index_steps() -> None:
    for name in ("ix_step_run_state", "ix_step_published", "ix_step_lease"):
        op.drop_index(name, table_name="step")
    op.create_index("ix_step_run_state", "step", ["run_id", "state", "queue", "kind", "round"])
    op.create_index(
        "ix_step_published",
        "step",
        ["queue", "run_id"],
        postgresql_where=sa.text("state = 'queued' AND published_at IS NOT NULL"),
    )
    op.create_index(
        "ix_step_running",
        "step",
        ["queue", "run_id"],
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "ix_step_suspect",
        "step",
        ["queue", "started_at"],
        postgresql_where=sa.text("error_code = 'lease_expired' AND state IN ('queued', 'running')"),
    )


def _create_tally() -> None:
    counts = [sa.Column(c, sa.BigInteger(), server_default="0", nullable=False) for c in COUNTS]
    measures = [sa.Column(c, sa.Float(), server_default="0", nullable=False) for c in MEASURES]
    op.create_table(
        "tally",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        *counts,
        *measures,
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_tally_run_id")),
        sa.PrimaryKeyConstraint("run_id", "shard", "kind", name=op.f("pk_tally")),
    )
    # Runs that began before there was a tally keep what they have used.
    op.execute(
        "INSERT INTO tally (run_id, shard, kind, steps_done, steps_failed, input_tokens,"
        " output_tokens, cached_tokens, engine_s, cost_usd)"
        " SELECT run_id, 0, kind, count(*) FILTER (WHERE state = 'done'),"
        " count(*) FILTER (WHERE state = 'failed'), sum(input_tokens), sum(output_tokens),"
        " sum(cached_tokens), sum(engine_s), sum(cost_usd)"
        " FROM step WHERE state IN ('done', 'failed') GROUP BY run_id, kind"
    )
