"""Every door, as docs/enqueue.md shows it, without our packages: the same jobs, the same rows."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.json_schemas import stale
from tests.acceptance.system import SCRIPTED, System
from tests.contract.examples import PAGE, ROOT, blocks

ISOLATED = [sys.executable, "-I", str(Path(__file__).with_name("isolated.py"))]
RUNNERS = {
    ".py": ISOLATED,
    ".sh": ["sh", "-eu"],
    ".mjs": ["node"],
}
#: Clients of this package itself: they run in a plain interpreter and know the ledger.
OURS = {"client.py": [sys.executable], "command.sh": ["sh", "-eu"]}
#: Beside those of the page: one that is revised and labelled, which makes every kind of row.
REVISED = {
    "id": "c",
    "kind": "improve",
    "prompt": "p",
    "response": "[[severity:0.9]] a harmful answer",
}
#: What a result says of the job and not of the process that made it.
SAID = (
    *("id", "kind", "state", "stop_reason", "rounds", "prompt", "response", "final_response"),
    *("severity_first", "severity_last", "critiques", "revisions", "preferences"),
    *("config_digest", "constitution_digest", "output_tokens"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a foreign system keeps its files; nothing of ours is near."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name, text in (blocks("file") | blocks("example")).items():
        (folder / name).write_text(text)
    with (folder / "jobs.jsonl").open("a") as jobs:
        jobs.write(json.dumps(REVISED) + "\n")
    return folder


@pytest.fixture
def system(settings, tmp_path):
    system = System(settings, tmp_path, dict(SCRIPTED))
    yield system
    system.close()


def run(command: list[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess:
    plain = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
    return subprocess.run(
        command,
        cwd=folder,
        env=plain | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def results_of(name: str, folder: Path, env: dict[str, str]) -> list[dict]:
    """Run one example to its end; the results it printed, in the order of their ids."""
    command = [*(OURS.get(name) or RUNNERS[Path(name).suffix]), name]
    done = run(command, folder, env | {"RUN": name.replace(".", "-")})
    assert done.returncode == 0, f"{name}: {done.stderr[-3_000:]}"
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["run"] for one in results} == {name.replace(".", "-")}
    return sorted(results, key=lambda one: one["id"])


def runnable() -> list[str]:
    names = list(blocks("example"))
    return [name for name in names if not name.endswith(".mjs") or shutil.which("node")]


@pytest.mark.timeout(400)
def test_every_door_gives_the_same_rows(system, folder):
    key = system.command("keys", "create", "foreign").stdout.strip()
    server = system.start("serve", "--port", "0")
    log = (system.folder / f"process-{system.processes.index(server)}.log").read_text()
    system.start("worker", "--intake")
    system.start_all()
    foreign = {
        "PRECEPTOR_URL": log.partition("serving ")[2].partition("/v1/docs")[0],
        "PRECEPTOR_API_KEY": key,
        "REDIS_URL": system.settings.redis_url,
    }
    ledger = {"DATABASE_URL": system.settings.database_url, "PRECEPTOR_HOME": str(folder)}
    found = {
        name: results_of(name, folder, foreign | (ledger if name in OURS else {}))
        for name in runnable()
    }
    assert {"http.sh", "http.py", "redis_celery.py", "redis_raw.py", "command.sh"} <= found.keys()
    expected = [{field: one[field] for field in SAID} for one in found["command.sh"]]
    assert [one["id"] for one in expected] == ["a", "b", "c"]
    assert expected[2]["revisions"]
    assert expected[2]["preferences"]
    assert all(one["state"] == "done" for one in expected)
    for name, results in found.items():
        said = [{field: one[field] for field in SAID} for one in results]
        assert said == expected, name


@pytest.mark.parametrize("package", ["schemas", "producer.client", "workers", "analysis"])
def test_isolation_refuses_our_packages(tmp_path, package):
    (tmp_path / "client.py").write_text(f"import {package}\n")
    done = run([*ISOLATED, "client.py"], tmp_path, {})
    assert done.returncode != 0
    assert f"a foreign system has no {package.partition('.')[0]}" in done.stderr


def test_the_published_schemas_are_fresh_and_fit_the_examples():
    from jsonschema import Draft202012Validator

    assert stale() == []
    files = blocks("file")
    jobs = [json.loads(line) for line in files["jobs.jsonl"].splitlines()]
    message = {
        "run": "r",
        "config": json.loads(files["config.json"]),
        "jobs": [{"ordinal": n, "job": job} for n, job in enumerate(jobs)],
    }
    schema = json.loads((ROOT / "schemas" / "json" / "submit_message.json").read_text())
    Draft202012Validator(schema).validate(message)


def test_the_page_names_files_that_exist():
    import re

    for target in re.findall(r"\]\((\.\./[^)#]+)\)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target
