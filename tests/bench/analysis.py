"""How long the analysis of a million labels takes: ``python -m tests.bench.analysis``.

Part ``files`` makes pairs and verdicts in both orders in a temporary folder. Part ``ledger`` fills
an embedded Postgres: ``python -m tests.bench.analysis --parts ledger --rows 1000000``. Each command
runs as a process of its own, whose seconds and peak memory are printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from schemas.cli import main
from tests.bench.labelled_ledger import RUN, labelled_ledger

TEXT = (
    "the a result may vary but it is clearly useful and I think you could do this because of that "
    "never always perhaps people often ask how to write better answers in fact don't it's "
    "caf\u00e9 we must look at evidence before we say what is true or false okay stuff yeah indeed"
)
#: Pieces that texts are put together from, so that making them takes no longer than reading them.
PIECES = 4000
COMMANDS = ("agreement", "bias", "coverage")
PARTS = ("files", "ledger")


def pieces(generator: np.random.Generator) -> list[tuple[str, int]]:
    """Short texts with their numbers of words, 15 to 50; two make an answer."""
    made = []
    for _ in range(PIECES):
        count = int(generator.integers(15, 51))
        text = " ".join(generator.choice(TEXT.split(), count))
        mark = "\n- one\n- **two**" if generator.uniform() < 0.1 else ""
        made.append((f"{text}.{mark}", count))
    return made


def make(folder: Path, rows: int, seed: int = 0) -> tuple[Path, Path]:
    """Files of pairs and of verdicts, by people and a judge who both like length a little."""
    generator = np.random.default_rng(seed)
    known = pieces(generator)
    pairs, verdicts = folder / "pairs.jsonl", folder / "verdicts.jsonl"
    with pairs.open("w") as first, verdicts.open("w") as second:
        for start in range(0, rows, 50_000):
            for pair, said in batch(generator, known, start, min(50_000, rows - start)):
                first.write(pair)
                second.write(said)
    return pairs, verdicts


def batch(
    generator: np.random.Generator, known: list[tuple[str, int]], start: int, rows: int
) -> Iterator[tuple[str, str]]:
    chosen = generator.integers(0, PIECES, (rows, 4))
    lengths = np.array([count for _, count in known])[chosen]
    lead = (lengths[:, :2].sum(1) - lengths[:, 2:].sum(1)) / 20
    votes = generator.uniform(size=(rows, 3)) < _expit(0.4 * lead)[:, None]
    noise = generator.normal(size=(rows, 2))
    p_a = _expit(0.6 * (votes.sum(1) - 1.5)[:, None] + 0.6 * lead[:, None] + noise)
    for row in range(rows):
        yield _lines(
            f"pair-{start + row}", [known[at][0] for at in chosen[row]], votes[row], p_a[row]
        )


def _expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _lines(name: str, texts: list[str], votes: np.ndarray, p_a: np.ndarray) -> tuple[str, str]:
    annotators = ["A" if vote else "B" for vote in votes]
    pair = {
        "id": name,
        "prompt": f"Question {name}?",
        "response_a": f"{texts[0]} {texts[1]}",
        "response_b": f"{texts[2]} {texts[3]}",
        "human_preference": "A" if votes.sum() > 1 else "B",
        "meta": {"annotators": annotators},
    }
    said = [("AB", round(float(p_a[0]), 4)), ("BA", round(1 - float(p_a[1]), 4))]
    verdicts = [{"pair_id": name, "order": order, "p_first": p} for order, p in said]
    return json.dumps(pair) + "\n", "".join(json.dumps(each) + "\n" for each in verdicts)


def measured(arguments: Sequence[str], **environment: str) -> dict[str, float]:
    """Seconds, CPU seconds and peak bytes of one command.

    Raises:
        SystemExit: The command failed.
    """
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.measured_command", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    seconds = time.monotonic() - started
    if done.returncode or json.loads(done.stdout.splitlines()[-1])["status"]:
        said = f"{done.stdout[-500:]}{done.stderr[-500:]}"
        raise SystemExit(f"preceptor {' '.join(arguments)} failed: {said}")
    return {"s": seconds, **json.loads(done.stdout.splitlines()[-1])}


def show(name: str, cost: Mapping[str, float], more: str = "") -> None:
    peak = cost["peak_bytes"] / 1e9
    took = f"{cost['s']:6.1f} s  {cost['cpu_s']:6.1f} CPU s  {peak:5.2f} GB peak"
    print(f"{name:30} {took}{more}", flush=True)


def takes_verdicts(command: str) -> bool:
    """Whether there is such a command and it reads files of verdicts."""
    found = main.get_command(None, command)  # type: ignore[arg-type]
    return found is not None and {"ai", "pairs"} <= {each.name for each in found.params}


def bench_files(rows: int, folder: Path) -> None:
    started = time.monotonic()
    pairs, verdicts = make(folder, rows)
    size = (pairs.stat().st_size + verdicts.stat().st_size) / 1e6
    print(f"{rows} pairs, {size:.0f} MB, made in {time.monotonic() - started:.0f} s", flush=True)
    for command in filter(takes_verdicts, COMMANDS):
        show(command, measured([command, "--pairs", str(pairs), "--ai", str(verdicts)]))


def bench_ledger(rows: int, folder: Path) -> None:
    known = [text for text, _ in pieces(np.random.default_rng(0))]
    with labelled_ledger(rows, known) as url:
        for command in ("coverage", "preferences"):
            show(command, measured([command, RUN], DATABASE_URL=url))
        for form, ending in itertools.product(("trl-preference", "sft"), ("jsonl", "parquet")):
            out = folder / f"rows.{ending}"
            arguments = ["export", RUN, "--format", form, "--out", str(out)]
            cost = measured(arguments, DATABASE_URL=url)
            size = out.stat().st_size / 1e9
            show(f"export {form} {ending}", cost, f", {size:.2f} GB written")
            out.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    for part in asked.parts:
        with tempfile.TemporaryDirectory() as made:
            {"files": bench_files, "ledger": bench_ledger}[part](asked.rows, Path(made))
