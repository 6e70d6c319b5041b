"""Numbers as terminal tables show them, narrow enough for 100 columns.

What was not measured is a dash in a cell and "not measured" in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.table import Table

from analysis.statistics.estimates import Estimate

WIDTH = 100

Row = TypeVar("Row")


def console() -> Console:
    """Standard output, never wider than what was laid out."""
    found = Console(highlight=False)
    return Console(highlight=False, width=WIDTH) if not found.is_terminal else found


def titled(title: str | None, first: str, *headings: str) -> Table:
    """A table whose first column holds names and whose others hold numbers."""
    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", collapse_padding=True,
        pad_edge=False,
    )  # fmt: skip
    table.add_column(first, no_wrap=True, overflow="ellipsis")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def percent(estimate: Estimate) -> str:
    """``38 [26-52]``, in per cent; a dash where it was not measured."""
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.0f}"
    return f"{100 * estimate.value:.0f} [{100 * estimate.low:.0f}-{100 * estimate.high:.0f}]"


def share_alone(estimate: Estimate) -> str:
    """``38``, in per cent and without its interval; a dash where it was not measured."""
    return "-" if estimate.value is None else f"{100 * estimate.value:.0f}"


def signed(estimate: Estimate) -> str:
    """``+0.12 [+0.05 to +0.19]``; a dash where it was not measured."""
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.2f}"
    return f"{estimate.value:+.2f} [{estimate.low:+.2f} to {estimate.high:+.2f}]"


def plain(estimate: Estimate) -> str:
    """``1.24 [1.10-1.38]``; a dash where it was not measured."""
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}-{estimate.high:.2f}]"


def decimal(value: float | None) -> str:
    """Two places; a dash where it was not measured."""
    return "-" if value is None else f"{value:.2f}"


def sentence(estimate: Estimate, of: str) -> str:
    """``38 % [26-52] of 50 jobs``, or "not measured"."""
    if estimate.value is None:
        return "not measured"
    shown, _, ends = percent(estimate).partition(" ")
    return f"{shown} %{' ' + ends if ends else ''} of {estimate.n:,} {of}"


def bar(part: int, most: int, width: int = 40) -> str:
    """A bar for one of several counts; anything above 0 shows."""
    return "█" * max(round(width * part / most), int(part > 0)) if most else ""


def evenly(rows: Sequence[Row], most: int) -> list[Row]:
    """At most ``most`` of the rows, first and last among them, evenly spaced."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]
