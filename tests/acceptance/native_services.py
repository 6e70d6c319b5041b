"""Runs services of docker-compose.yml as plain processes, each with its own command and
environment.

Replaced is only what a container would supply: host names and ports, mounted paths, the programs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.compose_file import ROOT
from tests.acceptance.system import wait_for

PROGRAMS = {
    "preceptor": [sys.executable, "-m", "schemas.cli"],
    "celery": [sys.executable, "-m", "celery"],
    "python": [sys.executable],
}


@dataclass
class NativeServices:
    """Services around local servers.

    Attributes:
        services: As read from the file, variables replaced.
        folder: For logs, and for what is a volume or a tmpfs in a container.
        places: What stands for what, e.g. ``postgres:5432`` -> ``127.0.0.1:15000``.
        path: PATH of the processes.
    """

    services: Mapping[str, dict[str, Any]]
    folder: Path
    places: dict[str, str]
    path: str = os.environ["PATH"]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def argv(self, name: str) -> list[str]:
        """The service's command."""
        return self._runnable(name, self.services[name]["command"])

    def environment(self, name: str) -> dict[str, str]:
        """The service's environment and what an image brings, nothing of ours."""
        given = self.services[name].get("environment", {})
        home = self.folder / name / "home"
        home.mkdir(parents=True, exist_ok=True)
        image = {"PATH": self.path, "HOME": str(home), "PRECEPTOR_HOME": str(home)}
        return image | {key: self._replaced(name, value) for key, value in given.items()}

    def start(self, name: str) -> None:
        """Start a long-running service."""
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                self.argv(name),
                env=self.environment(name),
                cwd=self.working_folder(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def run(self, name: str, *command: str, text_in: str = "") -> str:
        """Run a one-off service, or another command in its place, and return its output."""
        words = self._runnable(name, command) if command else self.argv(name)
        done = subprocess.run(
            words,
            env=self.environment(name),
            cwd=self.working_folder(name),
            input=text_in,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def is_healthy(self, name: str) -> bool:
        """The service's own health check, run once."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        probe = subprocess.run(
            self._runnable(name, words),
            env=self.environment(name),
            cwd=self.working_folder(name),
            capture_output=True,
            timeout=30,
            check=False,
        )
        return probe.returncode == 0

    def await_healthy(self, name: str) -> None:
        process = self.running[name]
        wait_for(lambda: process.poll() is not None or self.is_healthy(name), f"{name} healthy", 90)
        assert process.poll() is None, self.log(name).read_text()[-3000:]

    def stop(self, name: str) -> int:
        """SIGTERM, as ``docker compose stop`` sends it; the exit status."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        grace_s = int(self.services[name]["stop_grace_period"].removesuffix("s"))
        return process.wait(grace_s)

    def close(self) -> None:
        """Kill what a failed test left behind."""
        for process in self.running.values():
            process.kill()
            process.wait(10)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def working_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def _runnable(self, name: str, words: list[str] | tuple[str, ...]) -> list[str]:
        program, *arguments = [self._replaced(name, word) for word in words]
        return [*PROGRAMS.get(program, [program]), *arguments]

    def _replaced(self, name: str, text: str) -> str:
        places = self._mounts(name) | self.places
        longest_first = sorted(places, key=len, reverse=True)
        # In one pass, so that nothing put in is replaced again.
        return re.sub("|".join(map(re.escape, longest_first)), lambda m: places[m[0]], text)

    def _mounts(self, name: str) -> dict[str, str]:
        service = self.services[name]
        mounts = {}
        for mount in service.get("volumes", []):
            source, target = mount.split(":")[:2]
            is_path = source.startswith((".", "/"))
            mounts[target] = str((ROOT / source).resolve()) if is_path else self._made(name, target)
        for mount in service.get("tmpfs", []):
            target = mount.partition(":")[0]
            mounts[target] = self._made(name, target)
        return mounts

    def _made(self, name: str, target: str) -> str:
        folder = self.working_folder(name) / target.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)
