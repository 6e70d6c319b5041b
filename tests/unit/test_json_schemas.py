"""The published JSON Schemas are fresh, valid, and agree with the models."""

import json

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from schemas import json_schemas
from schemas.jobs import JOB_ADAPTER
from schemas.json_schemas import CONTRACTS, FOLDER, json_schema, stale, write


def test_the_committed_files_are_fresh():
    assert stale() == []


@pytest.mark.parametrize("name", CONTRACTS)
def test_each_is_a_valid_schema_that_forbids_unknown_keys(name):
    schema = json.loads((FOLDER / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    "job",
    [
        {"kind": "improve", "prompt": "p"},
        {"kind": "improve", "prompt": [{"role": "user", "content": "p"}], "metadata": {"a": 1}},
        {"kind": "critique", "prompt": "p", "response": "r"},
        {"kind": "label", "prompt": "p", "response_a": "a", "response_b": "b"},
        {
            "kind": "revise",
            "prompt": "p",
            "response": "r",
            "critiques": [{"principle": "n", "severity": 0.5, "text": "t"}],
        },
    ],
)
def test_a_job_fits_its_schema_and_the_message_schema(job):
    JOB_ADAPTER.validate_python(job)
    Draft202012Validator(json_schema(f"{job['kind']}_job")).validate(job)
    message = {"run": "r", "config": None, "jobs": [{"ordinal": 0, "job": job}]}
    validator = Draft202012Validator(json_schema("submit_message"))
    validator.validate(message)
    assert not validator.is_valid(message | {"jobs": [{"ordinal": 0, "job": {"kind": "x"}}]})
    assert not validator.is_valid(message | {"surprise": 1})


def test_a_stale_a_missing_and_a_stray_file_are_named_and_repaired(tmp_path):
    write(tmp_path)
    (tmp_path / "policy.json").write_text("{}")
    (tmp_path / "run_config.json").unlink()
    (tmp_path / "stray.json").write_text("{}")
    assert sorted(stale(tmp_path)) == ["policy.json", "run_config.json", "stray.json"]
    write(tmp_path)
    assert stale(tmp_path) == []


def test_the_check_exits_1_and_says_which_file(tmp_path, monkeypatch):
    monkeypatch.setattr(json_schemas, "stale", lambda: ["policy.json"])
    outcome = CliRunner().invoke(json_schemas.main, ["--check"])
    assert outcome.exit_code == 1
    assert "schemas/json/policy.json" in outcome.output
