"""The drill on what leaves the ledger: an export that runs out of room."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.chaos.drill import Drill
from tests.chaos.scene import Scene

ROOM_BYTES = 8_192
FULL_DEVICE = "/dev/full"
COMMANDS = (("export", "--format", "trl-preference"), ("results",))


def export_without_room(scene: Scene) -> None:
    scene.start()
    scene.finish()
    scene.most_attempts = 1
    folder = scene.stage.system.folder / "exports"
    folder.mkdir(exist_ok=True)
    for name, *options in COMMANDS:
        _fail_then_repeat(scene, folder / f"{name}.jsonl", [name, scene.name, *options])
    full = scene.stage.system.command("results", scene.name, "--out", FULL_DEVICE, code=2)
    assert "No space left" in full.stderr, full.stderr
    scene.notes["exports"] = f"failed at {ROOM_BYTES} bytes, whole when repeated"


def _fail_then_repeat(scene: Scene, out: Path, words: list[str]) -> None:
    system = scene.stage.system
    command = [*words, "--out", str(out)]
    failed = system.command(*command, code=2, most_file_bytes=ROOM_BYTES)
    assert f"cannot write {out}" in failed.stderr, failed.stderr
    assert "Traceback" not in failed.stderr, failed.stderr
    assert _files(out.parent, out.name) == [], "a failed export leaves no half file"
    system.command(*command)
    whole = _digest(out)
    system.command(*command, code=2, most_file_bytes=ROOM_BYTES)
    assert _digest(out) == whole, "a failed repetition leaves the earlier file"
    system.command(*command)
    assert _digest(out) == whole, "a repeated export is the same"


def _files(folder: Path, name: str) -> list[str]:
    return [path.name for path in folder.iterdir() if name in path.name]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


DRILLS = (Drill("disk-full", "an export that runs out of room", export_without_room),)
