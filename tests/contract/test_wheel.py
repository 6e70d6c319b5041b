"""The wheel holds every file that the installed packages read."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "producer", "workers", "analysis")
#: Suffixes of what is read at run time; anything else in a package folder is not shipped.
READ = {".py", ".yaml", ".json", ".html", ".mako", ".typed"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    # From a copy: building leaves its traces beside the sources.
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *build, "--wheel-dir", str(out)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_that_is_read(wheel_names):
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in READ and "__pycache__" not in path.parts
    }
    assert len([name for name in wanted if name.endswith(".yaml")]) > 15
    assert sorted(wanted - wheel_names) == []


@pytest.mark.parametrize(
    "name",
    [
        "schemas/json/submit_message.json",
        "schemas/constitutions/default.yaml",
        "schemas/configs/example.yaml",
        "schemas/migrations/versions/0003_the_http_door.py",
        "workers/prompts/templates/critique_general_v1.yaml",
        "producer/http/app.py",
        "analysis/templates/report.html",
    ],
)
def test_the_wheel_holds(wheel_names, name):
    assert name in wheel_names


def test_the_wheel_brings_nothing_else(wheel_names):
    roots = {name.partition("/")[0] for name in wheel_names}
    assert {root for root in roots if not root.endswith(".dist-info")} == set(PACKAGES)
