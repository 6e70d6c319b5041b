"""Alembic's entry: runs the migrations on the connection that ``upgrade`` opened and locked."""

from alembic import context

from schemas.door_tables import ApiKey

# Every table shares one metadata; the module imported last is the one that completes it.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=ApiKey.metadata
)
with context.begin_transaction():
    context.run_migrations()
