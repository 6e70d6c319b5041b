"""the HTTP door"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Pages of results follow a run in the order of its source; without this index each page
    # would sort the whole run.
    op.create_index("ix_job_run_ordinal", "job", ["run_id", "ordinal", "id"])
    _create_keys()
    op.create_table(
        "idempotent_request",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        _now("created_at"),
        _now("touched_at"),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotent_request")),
    )
    op.create_index("ix_idempotent_request_created_at", "idempotent_request", ["created_at"])


def _create_keys() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("max_open_jobs", sa.BigInteger(), nullable=True),
        sa.Column("jobs_per_day", sa.BigInteger(), nullable=True),
        _now("created_at"),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("max_open_jobs > 0", name=op.f("ck_api_key_max_open_jobs")),
        sa.CheckConstraint("jobs_per_day > 0", name=op.f("ck_api_key_jobs_per_day")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("name", name=op.f("uq_api_key_name")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_key_digest")),
    )
    op.create_table(
        "api_key_use",
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], name=op.f("fk_api_key_use_key_id")),
        sa.PrimaryKeyConstraint("key_id", "day", name=op.f("pk_api_key_use")),
    )
    op.create_table(
        "api_key_job",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_api_key_job_job_id")),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], name=op.f("fk_api_key_job_key_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_api_key_job")),
    )
    op.create_index("ix_api_key_job_key_id", "api_key_job", ["key_id"])


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )
