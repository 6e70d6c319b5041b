"""``preceptor submit``, ``status`` and ``cancel`` as a person meets them."""

import json
from concurrent.futures import ThreadPoolExecutor

import click
import pytest
import yaml
from click.testing import CliRunner

from producer import Client
from producer.cli import commands
from schemas.database import open_database
from schemas.errors import ConfigError, ContractError
from schemas.tables import WorkerRow
from tests.integration.submitting import CONFIG, await_true, counted, write_prompts

group = click.Group("preceptor", commands=commands)


@pytest.fixture
def ledger(database_url):
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def run(database_url, monkeypatch, tmp_path):
    """Run a command in a folder with a configuration; deliberate errors are raised."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CONFIG))

    def invoke(*args, source=None):
        outcome = CliRunner().invoke(group, args, input=source)
        if outcome.exception and not isinstance(outcome.exception, SystemExit):
            outcome.exception.shown = outcome.output
            raise outcome.exception
        return outcome

    return invoke


SUBMIT = ("submit", "prompts.jsonl", "--config", "run.yaml")
MIXED = '{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": ""}\n{"prompt": "a"}\nnonsense\n'


def test_good_lines_are_submitted_bad_ones_named_and_the_exit_is_1(run, tmp_path, ledger):
    (tmp_path / "prompts.jsonl").write_text(MIXED)
    outcome = run(*SUBMIT, "--run", "r")
    assert outcome.exit_code == 1
    assert outcome.stdout == "run r: 5 lines = 2 accepted + 1 duplicate + 2 rejected\n"
    errors = outcome.stderr.splitlines()
    assert errors[0] == "prompts.jsonl:3: prompt: is empty"
    assert errors[1].startswith("prompts.jsonl:5: is not JSON")
    assert counted(ledger, "SELECT count(*) FROM job") == 2


def test_a_repeated_submission_makes_no_duplicates(run, tmp_path, ledger):
    write_prompts(tmp_path / "prompts.jsonl", 700)
    first = run(*SUBMIT, "--run", "r")
    again = run(*SUBMIT, "--run", "r")
    assert first.exit_code == again.exit_code == 0
    assert first.stdout == "run r: 700 lines = 700 accepted + 0 duplicate + 0 rejected\n"
    assert again.stdout == "run r: 700 lines = 0 accepted + 700 duplicate + 0 rejected\n"
    assert counted(ledger, "SELECT count(*) FROM job") == 700


def test_strict_submits_nothing_where_a_line_is_bad(run, tmp_path, ledger):
    (tmp_path / "prompts.jsonl").write_text(MIXED)
    with pytest.raises(ContractError, match="2 bad lines; nothing was submitted") as caught:
        run(*SUBMIT, "--strict")
    assert "prompts.jsonl:3: prompt: is empty" in caught.value.shown
    assert caught.value.exit_code == 2
    assert counted(ledger, "SELECT count(*) FROM run") == 0


def test_strict_knows_the_principles_of_the_run(run, tmp_path, ledger):
    label = {"kind": "label", "prompt": "p", "response_a": "a", "response_b": "b"}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(label | {"principle": "none_such"}))
    with pytest.raises(ContractError, match="1 bad lines"):
        run(*SUBMIT, "--strict")
    assert run(*SUBMIT, "--run", "r").exit_code == 1
    assert counted(ledger, "SELECT count(*) FROM job") == 0


def test_the_default_run_name_is_printed_and_works(run, tmp_path):
    write_prompts(tmp_path / "prompts.jsonl", 1)
    outcome = run(*SUBMIT)
    name = outcome.stderr.splitlines()[0].removeprefix("run ")
    assert name.startswith("prompts-2")
    assert "accounting: 1 submitted" in run("status", name).stdout


def test_standard_input_and_extra_columns(run, ledger):
    record = '{"prompt": "a", "topic": "t"}\n'
    refused = run(
        "submit", "-", "--config", "run.yaml", "--run", "r", "--extra", "refuse", source=record
    )
    assert refused.exit_code == 1
    assert "stdin:1: topic" in refused.stderr
    taken = run("submit", "-", "--config", "run.yaml", "--run", "r", source=record)
    assert taken.exit_code == 0
    assert counted(ledger, "SELECT payload #>> '{metadata,topic}' FROM job") == "t"


def test_the_configuration_names_the_source_and_multiplies_prompts(run, tmp_path, ledger):
    write_prompts(tmp_path / "prompts.jsonl", 5)
    data = {"prompt_source": "prompts.jsonl", "responses_per_prompt": 3, "comparisons": 2}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CONFIG | {"data": data}))
    outcome = run("submit", "--config", "run.yaml", "--run", "r")
    assert outcome.stdout == "run r: 6 jobs = 6 accepted + 0 duplicate + 0 rejected\n"
    assert counted(ledger, "SELECT count(DISTINCT external_id) FROM job") == 6


def test_without_a_source_it_says_what_to_do(run):
    with pytest.raises(ConfigError, match=r"data\.prompt_source"):
        run("submit", "--config", "run.yaml")


def test_a_queue_that_nobody_serves_is_warned_of(run, tmp_path, ledger):
    write_prompts(tmp_path / "prompts.jsonl", 1)
    warning = "no live worker serves queue gen.small"
    assert warning in run(*SUBMIT, "--run", "r").stderr
    with ledger.begin() as connection:
        row = {"id": "w", "queue": "gen.small", "slots": 4, "model": "small"}
        connection.execute(WorkerRow.__table__.insert().values(row))
    assert warning not in run("status", "r").stderr


def test_status_shows_the_equation_and_lists_runs(run, tmp_path):
    assert "no runs yet" in run("status").stdout
    write_prompts(tmp_path / "prompts.jsonl", 3)
    run(*SUBMIT, "--run", "r")
    shown = run("status", "r").stdout
    assert (
        shown.splitlines()[-1]
        == "accounting: 3 submitted = 0 done + 0 failed + 0 cancelled + 3 open"
    )
    assert "gen.small" in shown
    assert json.loads(run("status", "r", "--json").stdout)["by_stage"] == {"0/respond": 3}
    assert run("status").stdout.splitlines()[1].split()[:4] == ["r", "active", "3", "3"]
    assert json.loads(run("status", "--json").stdout)[0]["submitted"] == 3


def test_an_unknown_run_is_named_with_the_way_to_list(run):
    for command in ("status", "cancel"):
        with pytest.raises(ContractError, match="no run is called 'nope': 'preceptor status'"):
            run(command, "nope")


def test_cancel_ends_what_waits(run, tmp_path):
    write_prompts(tmp_path / "prompts.jsonl", 3)
    run(*SUBMIT, "--run", "r")
    assert run("cancel", "r").stdout == "run r: 3 jobs cancelled at once\n"
    with pytest.raises(ContractError, match="was cancelled"):
        run(*SUBMIT, "--run", "r")


def test_wait_ends_with_the_last_job(run, tmp_path, settings, ledger):
    write_prompts(tmp_path / "prompts.jsonl", 3)

    def cancel_once_submitted():
        with Client(settings=settings) as client:
            await_true(lambda: counted(ledger, "SELECT count(*) FROM job"), "jobs are there")
            client.cancel("r")

    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(cancel_once_submitted)
        outcome = run(*SUBMIT, "--run", "r", "--wait")
        cancelling.result()
    assert outcome.exit_code == 0
    assert outcome.stdout.splitlines()[-1] == (
        "accounting: 3 submitted = 0 done + 0 failed + 3 cancelled"
    )
