"""The ledger dies under the intake worker: submissions wait, questions are answered at once."""

import pytest

from producer import Client
from schemas.database import open_database
from schemas.errors import LedgerError
from schemas.jobs import ImproveJob
from schemas.migrations import upgrade
from schemas.settings import Settings
from tests.integration.submitting import CONFIG, await_true, counted, intake_worker
from workers.stack import postgres_server

JOBS = [ImproveJob(prompt=f"prompt {n}") for n in range(20)]


@pytest.mark.usefixtures("postgres")
def test_submissions_outlive_a_ledger_outage(server_folder, redis_url, tmp_path):
    with postgres_server(server_folder) as server:
        upgrade(server.url)
        known = Settings(home=tmp_path / "home", database_url=server.url, redis_url=redis_url)
        blind = known.model_copy(update={"database_url": None})
        with intake_worker(known, tmp_path / "intake.log"), Client(settings=blind) as client:
            client.submit(JOBS[0], run="r", config=CONFIG, confirm=True, timeout_s=60)
            server.kill()
            client.submit_many(JOBS, run="r", config=CONFIG, confirm=False)
            with pytest.raises(LedgerError, match="out of reach"):
                client.progress("r")
            server.restart()
            engine = open_database(server.url)
            await_true(
                lambda: counted(engine, "SELECT count(*) FROM job") == len(JOBS),
                "the submission is accepted once the ledger is back",
            )
            engine.dispose()
            again = client.submit_many(JOBS, run="r", config=CONFIG, timeout_s=60)
            assert (again.accepted, again.duplicates) == (0, len(JOBS))
