"""The fixtures every integration test builds on."""

from __future__ import annotations

import psycopg
import pytest
from redis import Redis

from schemas.settings import Settings


@pytest.mark.parametrize("repetition", [1, 2])
def test_each_test_gets_an_empty_migrated_ledger(database_url: str, repetition: int) -> None:
    with psycopg.connect(database_url.replace("+psycopg", "", 1)) as connection:
        assert connection.execute("SELECT count(*) FROM run").fetchone() == (0,)
        connection.execute("CREATE TABLE left_behind (id int)")


@pytest.mark.parametrize("repetition", [1, 2])
def test_each_test_gets_an_empty_broker(redis_url: str, repetition: int) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left_behind", "1")


def test_settings_name_this_tests_servers(
    settings: Settings, database_url: str, redis_url: str
) -> None:
    assert settings.require_database_url() == database_url
    assert settings.require_redis_url() == redis_url
