"""Schemathesis tries what the OpenAPI description allows and forbids on a real server."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.http_door import http_server, new_key
from tests.integration.submitting import CONFIG

HERE = Path(__file__).parent
#: A longer search, for a night or before a release.
EXAMPLES = int(os.environ.get("PRECEPTOR_SCHEMATHESIS_EXAMPLES", "8"))
LONG = EXAMPLES > 8


#: A run's configuration has so many places to go wrong that they take half of all requests; in
#: the short form they are drawn at random, not walked one by one.
SHORTER = """
[[operations]]
include-operation-id = "create_run"
phases.coverage.enabled = false
"""


def search(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    config = folder / "schemathesis.toml"
    config.write_text((HERE / "schemathesis.toml").read_text() + ("" if LONG else SHORTER))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", f"--config-file={config}"),
        *("run", f"{url}/v1/openapi.json", f"--max-examples={EXAMPLES}"),
        *("--request-timeout=20", *([] if LONG else ["--seed=1", "--no-shrink"]), *arguments),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py")}
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | hooks,
        capture_output=True,
        text=True,
        timeout=36_000,
        check=False,
    )


@pytest.mark.timeout(0 if LONG else 400)
def test_schemathesis_finds_nothing(settings, tmp_path):
    key = new_key(settings)
    with http_server(settings, tmp_path) as url:
        run = {"name": "fuzzed", "config": CONFIG}
        assert httpx.post(f"{url}/v1/runs", json=run, headers=key).status_code == 201
        found = search(url, tmp_path, f"--header=Authorization:{key['Authorization']}")
    assert found.returncode == 0, found.stdout[-6_000:] + found.stderr[-2_000:]
    assert "14 selected" in found.stdout
    assert "Traceback" not in (tmp_path / "serve.log").read_text()
