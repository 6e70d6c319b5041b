"""Runs one ``preceptor`` command in this process and says what it cost.

The last line of standard output is a JSON object: CPU seconds, peak memory in bytes, exit
status. A process of its own for each command, so that the peak is the command's and not ours.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import click

from schemas.cli import main


def peak_bytes() -> int:
    """Most resident memory this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would also count what the parent held when it started this process.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run(arguments: list[str]) -> int:
    """The command's exit status."""
    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


if __name__ == "__main__":
    status = run(sys.argv[1:])
    used = resource.getrusage(resource.RUSAGE_SELF)
    cost = {"cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": peak_bytes(), "status": status}
    click.echo(json.dumps(cost))
