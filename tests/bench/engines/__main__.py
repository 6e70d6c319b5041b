"""Engines side by side: ``make bench`` prints a table and writes ``bench/latest.json``.

Everything runs one after the other on this machine, which nothing else should use meanwhile. What
cannot run here (no vLLM environment, no distilabel) is left out with a note, never guessed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.engines import workload
from tests.bench.engines.figures import print_table, ratios
from tests.bench.engines.stack_run import improve_jobs, running, same_work
from tests.bench.stage import Stage, open_stage
from tests.vllm.vllm_server import vllm_server
from workers.engines.model_files import resolve_model
from workers.prompts import render_critique

PARTS = ("sequential", "transformers", "vllm", "limit", "clients")
LATEST = workload.ROOT / "bench/latest.json"
#: Prompts of the comparison of clients: critiques by so many principles of each response.
CLIENT_PRINCIPLES = 5


class Bench:
    """The parts, and what they have found so far."""

    def __init__(self, options: argparse.Namespace, models: Path) -> None:
        self.options = options
        self.models = models
        self.rows = workload.rows(options.jobs)
        self.found: dict[str, Any] = {}
        self.notes: dict[str, str] = {}
        self.console = Console(width=190)

    def child(self, python: str, *arguments: str) -> dict[str, Any]:
        """Run a measuring program; its last line is what it found.

        Raises:
            SystemExit: It failed.
        """
        done = subprocess.run(
            [python, *arguments],
            cwd=workload.ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))

    def note(self, key: str, message: str) -> None:
        """Say why a figure is missing."""
        self.notes[key] = message
        self.console.print(f"   left out: {message}")

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """Say what runs and how long it took."""
        began_s = time.monotonic()
        self.console.print(f"== {title}", style="bold", highlight=False)
        yield
        self.console.print(f"   {time.monotonic() - began_s:.0f} s in all", highlight=False)

    def load(self) -> None:
        """Seconds to load the model from the cache, in a process of its own."""
        program = (
            "import json, sys, time; began = time.monotonic()\n"
            "from pathlib import Path\n"
            "from workers.engines.factory import build_engine\n"
            "spec = {'engine': 'transformers', 'model': sys.argv[1]}\n"
            "engine = build_engine(spec, Path(sys.argv[2]))\n"
            "print(json.dumps({'seconds': time.monotonic() - began}))"
        )
        found = self.child(sys.executable, "-c", program, workload.MODEL, str(self.models))
        self.found["load"] = found

    def sequential(self) -> None:
        """The script that does one thing after the other."""
        self.found["sequential"] = self.child(
            sys.executable, "-m", "tests.bench.engines.sequential",
            "--jobs", str(self.options.sequential_jobs), "--models", str(self.models),
        )  # fmt: skip

    def system(
        self, stage: Stage, engine: str, python: str, rows: int, record: Path | None = None
    ) -> None:
        """Whole loops with triage, then the script's own work."""
        model = {"engine": engine, "max_batch_rows": rows}
        with running(
            stage, f"{engine}-loops", model, self.models, python=python, record=record
        ) as it:
            outcome, _ = it.run(improve_jobs(self.rows), "loops")
            self.found[f"{engine}_same_outcome"] = {
                **outcome, "ready_s": it.ready_s, "peak_bytes": it.peak_bytes()
            }  # fmt: skip
        with running(
            stage, f"{engine}-work", model, self.models, python=python, severity="after_critique"
        ) as it:
            self.found[f"{engine}_same_work"] = {
                **same_work(it, self.rows), "peak_bytes": it.peak_bytes()
            }  # fmt: skip

    def transformers(self, stage: Stage) -> None:
        """The default engine."""
        self.system(stage, "transformers", sys.executable, self.options.rows)

    def vllm(self, stage: Stage) -> None:
        """vLLM inside the worker."""
        record = self.options.record
        record.parent.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        self.system(stage, "vllm", self.options.vllm_python, self.options.rows, record)

    def limit(self) -> None:
        """vLLM alone and our engine, each on the recorded requests."""
        for way in ("offline", "engine"):
            self.found[f"recorded_{way}"] = self.child(
                self.options.vllm_python, "-m", "tests.bench.engines.vllm_limit", way,
                "--record", str(self.options.record), "--models", str(self.models),
                "--rows", str(self.options.rows),
            )  # fmt: skip

    def clients(self, folder: Path) -> None:
        """distilabel and our openai engine against one server."""
        prompts = folder / "prompts.jsonl"
        prompts.write_text("".join(json.dumps(prompt) + "\n" for prompt in self.client_prompts()))
        program = str(Path(__file__).with_name("server_clients.py"))
        found = resolve_model(workload.MODEL, self.models)
        pythons = {"ours": sys.executable, "distilabel": self.options.distilabel_python}
        for client, python in pythons.items():
            # A server of its own for each, or the second would find the first one's cache.
            with vllm_server(self.options.vllm_python, found, folder / f"{client}.log") as url:
                how = (
                    ["-m", "tests.bench.engines.server_clients"] if client == "ours" else [program]
                )
                self.found[f"client_{client}"] = self.child(
                    python, *how, client, "--url", url, "--prompts", str(prompts)
                )

    def client_prompts(self) -> Iterator[dict[str, Any]]:
        """Critiques that end with the user's turn, since distilabel cannot begin an answer."""
        for row in self.rows:
            for principle in workload.principles()[:CLIENT_PRINCIPLES]:
                rendered = render_critique([("user", row["prompt"])], row["response"], principle)
                messages = [{"role": m.role, "content": m.content} for m in rendered.messages]
                yield {"messages": messages, "max_tokens": workload.CRITIQUE_TOKENS}

    def run(self) -> None:
        """All parts that were asked for and can run here."""
        wanted = self.options.parts
        with self.part("model load"):
            self.load()
        if "sequential" in wanted:
            with self.part(f"sequential script, {self.options.sequential_jobs} jobs"):
                self.sequential()
        with open_stage() as stage:
            self.systems(stage, wanted)

    def systems(self, stage: Stage, wanted: list[str]) -> None:
        """The parts that need servers or vLLM."""
        if "transformers" in wanted:
            with self.part("Preceptor, transformers engine"):
                self.transformers(stage)
        has_vllm = Path(self.options.vllm_python).exists()
        has_distilabel = Path(self.options.distilabel_python).exists()
        parts: dict[str, tuple[str, Callable[[], None]]] = {
            "vllm": ("Preceptor, vLLM engine", lambda: self.vllm(stage)),
            "limit": ("recorded requests: vLLM alone, our engine", self.limit),
            "clients": ("clients of one server", lambda: self.clients(stage.folder)),
        }
        for name, (title, measure) in parts.items():
            if name not in wanted:
                continue
            if not has_vllm:
                self.note(name, f"no {self.options.vllm_python}; make test-vllm makes it")
            elif name == "clients" and not has_distilabel:
                self.note(name, f"no {self.options.distilabel_python}; make bench makes it")
            else:
                with self.part(title):
                    measure()


def machine() -> str:
    """What ran: processor, cores, GPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engines")
    parser.add_argument("--jobs", type=int, default=24, help="prompts")
    parser.add_argument("--sequential-jobs", type=int, help="prompts of the script; all by default")
    parser.add_argument("--rows", type=int, default=64, help="max_batch_rows of the engines")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", type=Path, help="folder of converted models")
    environments = (("vllm", ".venv-vllm"), ("distilabel", ".venv-distilabel"))
    for name, folder in environments:
        parser.add_argument(f"--{name}-python", default=str(workload.ROOT / folder / "bin/python"))
    options = parser.parse_args()
    options.sequential_jobs = options.sequential_jobs or options.jobs
    options.record = workload.ROOT / "bench/requests.jsonl"
    return options


def main() -> None:
    """Measure, print, write."""
    from schemas.settings import load_settings

    options = parsed()
    bench = Bench(options, options.models or load_settings().model_cache)
    resolve_model(workload.MODEL, bench.models)
    bench.run()
    result = {
        "machine": machine(),
        "command": f"python -m tests.bench.engines {' '.join(sys.argv[1:])}".strip(),
        "jobs": options.jobs,
        "max_batch_rows": options.rows,
        **ratios(bench.found, bench.notes),
        "found": bench.found,
    }
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(result, indent=2) + "\n")
    print_table(bench.console, result)


if __name__ == "__main__":
    main()
