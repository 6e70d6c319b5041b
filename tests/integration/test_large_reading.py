"""Reading a ledger of many labels: what is fetched, how long a reader may rest, what it finds."""

import json
from pathlib import Path

from click.testing import CliRunner
from polars.testing import assert_frame_equal
from sqlalchemy import Engine, text

from analysis.frames import OF_TEXTS
from analysis.ledger import reading
from analysis.records import load_run
from schemas.cli import main
from schemas.database import IDLE_TRANSACTION_S, transaction
from tests.bench.labelled_ledger import RUN, fill


def test_a_filled_ledger_is_read_whole_and_words_are_counted_on_demand(
    read_ledger: Engine, tmp_path: Path
) -> None:
    fill(read_ledger, 200, [f"Piece {n} of a text." for n in range(50)])
    with transaction(read_ledger) as connection:
        plain, counted = (
            load_run(connection, RUN, texts=asked, steps=asked).frames for asked in (False, True)
        )
    for name in ("jobs", "critiques", "revisions", "preferences"):
        without, held = getattr(plain, name), getattr(counted, name)
        assert_frame_equal(without, held.drop(OF_TEXTS & set(held.columns)))
    assert (plain.steps.width, counted.steps.height) == (0, 350)
    assert not OF_TEXTS & {*plain.jobs.columns, *plain.revisions.columns}
    assert plain.preferences.height == plain.jobs.height == 200
    assert counted.jobs["words_final"].drop_nulls().to_list() == [15] * 50
    out = tmp_path / "pairs.jsonl"
    done = CliRunner().invoke(
        main, ["export", RUN, "--format", "trl-preference", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    made = json.loads((tmp_path / "pairs.jsonl.manifest.json").read_text())["counts"]
    assert (made["read"], made["dropped"]["unreadable"]) == (200, 2)


def test_a_reader_may_rest_longer_than_one_who_writes(read_ledger: Engine) -> None:
    fill(read_ledger, 4, ["One text."])
    limit = text("SELECT setting::int FROM pg_settings WHERE name = :name")
    name = {"name": "idle_in_transaction_session_timeout"}
    with reading(RUN) as (connection, _):
        assert connection.execute(limit, name).scalar_one() == 3_600_000
    with transaction(read_ledger) as connection:
        assert connection.execute(limit, name).scalar_one() == 1000 * IDLE_TRANSACTION_S
