"""Which revision the ledger's tables have, and which one this code expects.

Without Alembic, which only ``preceptor migrate`` needs: every process asks this when it starts.
"""

from __future__ import annotations

from importlib.resources import files

from sqlalchemy import Connection, text


def current_revision(connection: Connection) -> str | None:
    """Revision of the tables behind ``connection``; None where there are none."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return None
    revision: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar_one_or_none()
    return revision


def newest_revision() -> str:
    """Revision this code expects: the number that the newest migration's file begins with."""
    names = (entry.name for entry in files("schemas").joinpath("migrations/versions").iterdir())
    return max(name.partition("_")[0] for name in names if name[0].isdigit())
