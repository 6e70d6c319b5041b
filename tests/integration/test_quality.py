"""The quality report on a real ledger, beside people's label of its one pair."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from schemas.cli import main
from tests.integration.finished_run import PAIR, RUN, write_finished_run


@pytest.fixture
def ledger(read_ledger: Engine) -> Engine:
    write_finished_run(read_ledger)
    return read_ledger


def test_a_finished_run_is_verified_section_by_section(ledger: Engine, tmp_path: Path) -> None:
    pairs, out = tmp_path / "human.jsonl", tmp_path / "q.json"
    texts = {"prompt": "Which?", "response_a": PAIR.response_a, "response_b": PAIR.response_b}
    pairs.write_text(json.dumps({"id": PAIR.id, "human_preference": "A"} | texts) + "\n")
    asked = ["quality", RUN, "--pairs", str(pairs), "--json", str(out)]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    told = json.loads(out.read_text())
    sections = {each["name"]: each for each in told["sections"]}
    assert sections["judge"]["status"] == "not measured"
    assert sections["verification"]["found"] == ["people checked 1 of 1 labels, 1 wanted"]
    # One annotator a pair: no ceiling.
    assert sections["agreement"]["status"] == "no threshold"
    assert sections["jobs"]["status"] == "failed"
    assert "20 %" in "".join(sections["convergence"]["found"])
    assert sections["calibration"]["command"].startswith("preceptor calibrate")
    told_of = [each["topic"] for each in told["recommendations"]]
    assert told_of[0] == "certificate"
    assert {"self-judged", "calibration", "unlabelled"} <= set(told_of)
    assert CliRunner().invoke(main, [*asked, "--strict"]).exit_code == 1
