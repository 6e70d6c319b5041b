"""Fixtures that start whole systems."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.settings import Settings
from tests.acceptance.system import SCRIPTED, System


@pytest.fixture
def open_system(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., System]]:
    """Open systems around this test's own ledger and broker."""
    systems: list[System] = []

    def open_one(config: dict | None = None, **environment: str) -> System:
        folder = tmp_path / f"system-{len(systems)}"
        folder.mkdir()
        systems.append(System(settings, folder, SCRIPTED | (config or {}), environment))
        return systems[-1]

    yield open_one
    for system in systems:
        system.close()
