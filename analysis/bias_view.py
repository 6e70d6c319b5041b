"""A judge's biases from files, and as a terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from analysis.bias import BiasReport, feature_differences, measure
from analysis.certificate_view import shown_as
from analysis.judged import verdict_table
from analysis.label_sources import one_judge
from analysis.statistics.logistic import Coefficient
from schemas.errors import ContractError
from schemas.judged_pairs import HumanPair, lines_of


def measured(pairs: Path, ai: Sequence[Path], judge: str | None) -> BiasReport:
    """The biases of one judge on the pairs that it judged.

    Raises:
        ContractError: A line is none of its kind, several judges and none named, or no pair of
            the file was judged.
    """
    table = verdict_table(one_judge(ai, judge))
    texts = {pair.id: pair for _, pair in lines_of(pairs, HumanPair)}
    known = table.filter(pl.col("pair_id").is_in(texts))
    if known.is_empty():
        raise ContractError(f"{pairs}: holds none of the judged pairs")
    found = [texts[name] for name in known["pair_id"]]
    human = pl.Series("human", [pair.human_preference for pair in found], dtype=pl.String)
    leads = feature_differences([(pair.response_a, pair.response_b) for pair in found])
    return measure(known.with_columns(human), leads)


def print_report(report: BiasReport) -> None:
    """The report for a terminal."""
    console = Console()
    word = "bias" if report.with_people else "preference"
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{word.capitalize()} on {report.n} pairs, log-odds for one standard deviation",
        title_justify="left",
    )
    for heading in ("dimension", "judge", "people", "judge - people", "p (Holm)", ""):
        table.add_column(heading, justify="left" if heading == "dimension" else "right")
    for each in report.dimensions:
        mark = word if each.is_flagged else ""
        cells = (_shown(each.judge), _shown(each.people), _shown(each.difference))
        table.add_row(each.name, *cells, f"{each.p_holm:.3f}", mark)
    table.add_row("position", _shown(report.position_term), "", "", "", "")
    console.print(table)
    position = report.position
    for name, estimate in (
        ("for the response shown first", position.first_share),
        ("verdict changes with the order", position.flip_rate),
        ("of these, for the first shown", position.flips_to_first),
    ):
        console.print(f"{name}: {shown_as('', estimate)} of {estimate.n}", highlight=False)
    if not report.with_people:
        console.print("No human labels: whether people share these preferences is not known.")


def _shown(term: Coefficient | None) -> str:
    return "-" if term is None else f"{term.value:+.2f} [{term.low:+.2f} to {term.high:+.2f}]"
