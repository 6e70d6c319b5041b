"""Behind Sentinel: messages and answers find the server that Sentinel names."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import RedisError

from producer import Client
from schemas.jobs import ImproveJob
from schemas.routing import INTAKE_QUEUE
from schemas.settings import Settings
from tests.integration.submitting import CONFIG, await_true, intake_worker
from workers.broker_depths import open_depths
from workers.stack import valkey_server
from workers.stack.accounts import server_account
from workers.stack.binaries import valkey_program
from workers.stack.places import free_port


@pytest.fixture
def sentinel_url(server_folder: Path) -> Iterator[str]:
    """A broker of this test's own and a Sentinel that watches it; the address of the latter."""
    with valkey_server(server_folder) as server:
        place, port = urlsplit(server.url), free_port()
        program = valkey_program(server_account(), server_folder)
        config = server_folder / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {server_folder}\n"
            f"sentinel monitor preceptor 127.0.0.1 {place.port} 1\n"
            f"sentinel auth-pass preceptor {place.password}\n"
        )
        with (server_folder / "sentinel.log").open("wb") as log:
            process = subprocess.Popen([program, config, "--sentinel"], stdout=log, stderr=log)
        try:
            await_true(lambda: _answers(port), "Sentinel answers")
            # A Sentinel that is away must not matter while another answers.
            yield (
                f"sentinel://:{place.password}@127.0.0.1:{port}/2;"
                f"sentinel://127.0.0.1:{free_port()}"
            )
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    try:
        with Redis(port=port, socket_timeout=1) as client:
            return bool(client.ping())
    except RedisError:
        return False


def test_a_confirmed_job_and_its_controls_travel(
    sentinel_url: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PRECEPTOR_REDIS_MASTER", "preceptor")
    settings = Settings(home=tmp_path / "home", database_url=database_url, redis_url=sentinel_url)
    known = settings.model_copy(update={"database_url": None})
    with intake_worker(settings, tmp_path / "intake.log"), Client(settings=known) as client:
        assert client.transport == "redis"
        job = ImproveJob(prompt="p")
        assert client.submit(job, run="r", config=CONFIG, confirm=True, timeout_s=60).confirmed
        assert client.pause("r").state == "paused"
        assert client.cancel("r") == 1


def test_the_dispatcher_reads_the_lengths_of_the_queues(
    sentinel_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PRECEPTOR_REDIS_MASTER", "preceptor")
    settings = Settings(home=tmp_path / "home", redis_url=sentinel_url)
    with Client(settings=settings) as client:
        client.submit(ImproveJob(prompt="p"), run="r", config=CONFIG)
    depths = open_depths(settings)
    try:
        assert depths.read([INTAKE_QUEUE]).waiting_in(INTAKE_QUEUE) == 1
    finally:
        depths.close()
