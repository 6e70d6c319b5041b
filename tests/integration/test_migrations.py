"""The migrations make exactly the tables that the code maps, once, whoever asks."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from schemas.database import open_database, transaction
from schemas.door_tables import ApiKey
from schemas.migrations import upgrade
from schemas.revision import current_revision, newest_revision


def test_migrated_tables_are_the_mapped_tables(database_url):
    database = open_database(database_url)
    with database.connect() as connection:
        assert current_revision(connection) == newest_revision()
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, ApiKey.metadata) == []
    database.dispose()


@pytest.fixture
def empty_database_url(database_url):
    """This test's database without any table."""
    database = open_database(database_url)
    with transaction(database) as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    database.dispose()
    return database_url


def test_many_migrators_at_once(empty_database_url):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [empty_database_url] * 4))
    database = open_database(empty_database_url)
    with database.connect() as connection:
        assert current_revision(connection) == newest_revision()
    database.dispose()
