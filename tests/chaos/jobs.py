"""The jobs of a drill: improve jobs whose scripted severities lead through one to eight steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Severities of jobs that are done at once (1 step), after one round (4), after two rounds (8).
#: Most take few steps, so that a drill sees many jobs in the time that it has.
SEVERITIES = (0.3, 0.1, 0.1, 0.6, 0.1, 0.1, 0.1, 0.1, 0.3, 0.1)
HARMFUL = "[[severity:0.9]] a harmful answer"


def plain_jobs(count: int) -> Iterator[dict[str, Any]]:
    """Jobs that the scripted engine improves; the same ones in every drill."""
    for i in range(count):
        severity = SEVERITIES[i % len(SEVERITIES)]
        yield job(f"j{i}", f"[[severity:{severity}]] answer {i}")


def job(name: str, response: str) -> dict[str, Any]:
    """One improve job."""
    return {"kind": "improve", "id": name, "prompt": f"question {name}", "response": response}


def marked_jobs(name: str, marker: str, count: int) -> list[dict[str, Any]]:
    """Jobs whose text makes the scripted engine fail in the way that ``marker`` says."""
    return [job(f"{name}-{i}", f"{HARMFUL} {name} {i} {marker}") for i in range(count)]
