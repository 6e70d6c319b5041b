"""Alembic's entry: runs the migrations on the connection that ``upgrade`` opened and locked."""

from alembic import context

from schemas.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
