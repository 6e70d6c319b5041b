"""What an image installs is enough for what it runs: with all else hidden it still loads."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.acceptance.compose_file import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Not asked for by a requirement, but part of every environment.
ALWAYS_THERE = {"preceptor", "pip"}


def install_commands(dockerfile: str) -> list[str]:
    """The requirements of each ``pip install`` that reads the constraints."""
    text = (ROOT / "ops" / dockerfile).read_text().replace("\\\n", " ")
    found = [line.partition("pip install -c constraints.txt ")[2] for line in text.splitlines()]
    return [requirements for requirements in found if requirements]


def installed(words: Iterable[str]) -> set[str]:
    """Distributions that ``pip install WORDS`` brings, by what they declare."""
    wanted = [Requirement(re.sub(r"^\.", "preceptor", word.strip('"'))) for word in words]
    found: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in found:
            found.add(key)
            wanted.extend(required_by(requirement))
    return {name for name, _ in found}


def required_by(requirement: Requirement) -> Iterator[Requirement]:
    extras = requirement.extras or {""}
    if requirement.name == "preceptor":
        chosen = [*PROJECT["dependencies"]]
        for extra in requirement.extras:
            chosen += PROJECT["optional-dependencies"][extra]
        yield from map(Requirement, chosen)
        return
    for line in distribution(requirement.name).requires or []:
        needed = Requirement(line)
        if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in {"", *extras}):
            yield needed


#: Libraries look in ``sys.modules`` for one that might be there, so a None in it would be no
#: absence: what is hidden must be found by nobody.
HIDING = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in HIDDEN
        return None if hidden else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path = [Without(finder) for finder in sys.meta_path]
"""


def load_with_only(distributions: set[str], modules: str) -> subprocess.CompletedProcess[str]:
    """Import ``modules`` in a process that sees no other distribution."""
    hidden = [
        module
        for module, owners in packages_distributions().items()
        if module.isidentifier()
        and not {canonicalize_name(owner) for owner in owners} & (distributions | ALWAYS_THERE)
    ]
    code = f"HIDDEN = frozenset({hidden!r})\n{HIDING}\nimport {modules}"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"REDIS_URL": "redis://127.0.0.1:1/0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("dockerfile", "modules"),
    [
        ("producer.Dockerfile", "producer.cli, producer.client, kombu.transport.redis"),
        (
            "worker.Dockerfile",
            "workers.process, workers.intake, workers.stack.commands, schemas.migrations, "
            "analysis.cli, analysis.report, producer.http.serving, flower.command, "
            "kombu.transport.redis",
        ),
    ],
)
def test_an_image_installs_all_that_it_imports(dockerfile: str, modules: str) -> None:
    brought = installed(install_commands(dockerfile)[0].split())
    assert "torch" not in brought
    assert ("sqlalchemy" in brought) == (dockerfile == "worker.Dockerfile")
    loaded = load_with_only(brought, modules)
    assert loaded.returncode == 0, loaded.stderr[-1500:]
