"""Commands that the pages on judging and on trouble name exist, with their options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.command_lines import command_lines, fault

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize(("name", "least"), [("troubleshooting.md", 15), ("judging.md", 4)])
def test_every_command_of_a_page_exists(name: str, least: int) -> None:
    lines = list(command_lines((DOCS / name).read_text(encoding="utf-8")))
    assert len(lines) >= least
    assert [found for line in lines if (found := fault(line))] == []


def test_what_does_not_exist_is_found() -> None:
    page = "See `preceptor\nquality RUN --strict`, `--no`.\n\n    preceptor verify draw x\n"
    first, second = command_lines(page)
    assert "no command 'draw'" in (fault(first) or "")
    assert fault(second) is None
    assert "no option --strange" in (fault("preceptor quality RUN --strange") or "")
    assert "no command 'nothing'" in (fault("preceptor nothing # --strict") or "")


def test_every_key_of_the_page_on_trouble_is_in_the_example() -> None:
    example = (ROOT / "schemas/configs/example.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(example)
    groups = "|".join(name for name, value in content.items() if isinstance(value, dict))
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{groups})\.[a-z_.]+)", page))
    assert len(named) >= 10
    for path in named:
        found = content
        for key in path.split("."):
            assert key in found, path
            found = found[key]
