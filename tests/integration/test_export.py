"""The export command on a real ledger: people's verdicts, splits, Parquet, and what it refuses."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, insert, select

from schemas.cli import main
from schemas.database import transaction
from schemas.tables import HumanVerdict, Preference
from tests.integration.finished_run import RUN, write_finished_run


@pytest.fixture
def ledger(read_ledger: Engine) -> Engine:
    write_finished_run(read_ledger)
    return read_ledger


def preceptor(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def export(out: Path, *options: object, fmt: str = "trl-preference") -> Result:
    return preceptor("export", RUN, "--format", fmt, "--out", out, *options)


def told(out: Path) -> Any:
    return json.loads(out.with_name(f"{out.name}.manifest.json").read_text())


def lines(out: Path) -> list[Any]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_peoples_verdicts_in_the_ledger_decide(ledger: Engine, tmp_path: Path) -> None:
    none_yet = export(tmp_path / "none", "--verified-in-ledger")
    assert none_yet.exit_code == 2
    assert "holds no human verdict" in none_yet.stderr
    with transaction(ledger) as connection:
        query = select(Preference.id, Preference.verdict).order_by(Preference.id)
        labels = connection.execute(query.where(Preference.verdict.in_(("A", "B")))).all()
        said = [*((labels[0], name, "B") for name in "xyz"), (labels[1], "x", "tie"),
                (labels[2], "x", "A"), (labels[2], "y", "B")]  # fmt: skip
        verdicts = [
            {"id": uuid4(), "preference_id": each.id, "annotator": name, "verdict": word}
            for each, name, word in said
        ]
        connection.execute(insert(HumanVerdict), verdicts)
    out = tmp_path / "checked.jsonl"
    done = export(out, "--verified-in-ledger", "--with-closing")
    assert done.exit_code == 0, done.output
    (row,) = lines(out)
    assert (row["decided_by"], row["judge_agrees"]) == ("people", labels[0].verdict == "B")
    dropped = told(out)["counts"]["dropped"]
    assert {k: v for k, v in dropped.items() if v} == {
        "not_verified": 10, "people_tie": 1, "people_disagree": 1
    }  # fmt: skip
    assert told(out)["verified"]["in_run"] == 3


def test_a_sample_that_people_filled_in_decides(ledger: Engine, tmp_path: Path) -> None:
    sample, out = tmp_path / "sample.jsonl", tmp_path / "checked.jsonl"
    assert preceptor("verify", "plan", RUN, "--budget", 1, "--out", sample).exit_code == 0
    (drawn,) = lines(sample)
    sample.write_text(json.dumps(drawn | {"human_preference": "B"}) + "\n")
    done = export(out, "--verified", sample)
    assert "1 labels of this run are checked by people: 0 as the judge said, 1 against it" in (
        done.stderr
    )
    (row,) = lines(out)
    assert (row["id"], row["chosen"][0]["content"]) == ("pair", "second answer")
    assert (row["judge_agrees"], row["p"]) == (False, pytest.approx(0.25))
    assert told(out)["verified"]["judge_overruled"] == 1


def test_splits_in_parquet_hold_all_rows_once(ledger: Engine, tmp_path: Path) -> None:
    whole, out = tmp_path / "all.jsonl", tmp_path / "pairs.parquet"
    assert export(whole).exit_code == 0
    done = export(out, "--split", "train=0.5,test=0.5")
    assert done.exit_code == 0, done.output
    assert "accounting: 13 read = 9 exported" in done.stderr
    parts = [pl.read_parquet(tmp_path / f"pairs.{name}.parquet") for name in ("train", "test")]
    assert sorted(pl.concat(parts)["id"]) == sorted(row["id"] for row in lines(whole))
    assert [each["rows"] for each in told(out)["files"]] == [len(part) for part in parts]
    assert (told(out)["file"], told(out)["form"]) == (None, "parquet")
    assert [set(part["prompt"].list.last().struct.field("content")) for part in parts]


def test_single_responses_and_evaluation_sets(ledger: Engine, tmp_path: Path) -> None:
    held, out = tmp_path / "held.jsonl", tmp_path / "single.jsonl"
    held.write_text('{"prompt": "how do I copy a DISK"}\n{"text": "Which one?"}\n')
    assert export(out, "--decontaminate", held, fmt="trl-unpaired").exit_code == 0
    counts = told(out)["counts"]
    assert counts["read"] == 26 == counts["exported"] + sum(counts["dropped"].values())
    assert counts["dropped"]["in_evaluation_set"] == 10
    assert {row["prompt"][0]["content"] for row in lines(out)}.isdisjoint({"How do I copy a disk?"})
    assert {type(row["label"]) for row in lines(out)} == {bool}


def test_contradictory_wishes_are_refused(ledger: Engine, tmp_path: Path) -> None:
    for fmt, options, said in (
        ("sft", ("--drop-ties", "--min-p", "0.7"), "leave out --keep-ties/--drop-ties, --min-p"),
        ("trl-preference", ("--verified", "x", "--verified-in-ledger"), "name one source"),
        ("trl-preference", ("--verified", "nothing"), "nothing: cannot be read"),
        ("trl-preference", ("--split", "train=0.9"), "--split train=0.9"),
        ("trl-preference", ("--as", "parquet", "--out", "-"), "do not fit a pipe"),
    ):
        failed = export(tmp_path / "x", *options, fmt=fmt)
        assert failed.exit_code == 2
        assert said in failed.stderr
        assert list(tmp_path.iterdir()) == []
