"""People's and a judge's labels compared, as a terminal and as JSON show it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from analysis.agreement import Agreement, Disagreement, agree, alpha, consensus, disagreements
from analysis.certificate import human_ceiling
from analysis.certificate_view import shown_as
from analysis.statistics.chance import SCALE
from analysis.statistics.estimates import Estimate


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that can be said of the labels that both sides gave.

    Attributes:
        against_consensus: The judge against the Dawid-Skene consensus of the annotators; None
            where there is one annotator a pair.
    """

    agreement: Agreement
    human_ceiling: Estimate
    human_alpha: Estimate
    against_consensus: Agreement | None
    disagreements: list[Disagreement]
    only_human: tuple[str, ...]
    only_ai: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain numbers and names."""
        return asdict(self) | {"categories": dict(self.categories)}

    @property
    def categories(self) -> Counter[str]:
        """Disagreements by category."""
        return Counter(each.category for each in self.disagreements)


def compare(pairs: pl.DataFrame, labels: pl.DataFrame) -> Comparison:
    """Join people's labels with AI labels by id and compare them.

    Args:
        pairs: As ``judged.read_pairs`` makes them.
        labels: As in ``label_sources``.
    """
    human = pairs.filter(pl.col("human").is_not_null())
    both = human.join(labels, on="pair_id")
    known, said = set(human["pair_id"]), set(labels["pair_id"])
    votes = [list(row) for row in both["annotators"]]
    has_several = any(len(row) > 1 for row in votes)
    return Comparison(
        agreement=agree(both),
        human_ceiling=human_ceiling(both),
        human_alpha=alpha(_even(votes)) if has_several else Estimate(None),
        against_consensus=agree(both.with_columns(human=_consensus(votes)))
        if has_several
        else None,
        disagreements=disagreements(both),
        only_human=tuple(sorted(known - said)),
        only_ai=tuple(sorted(said - known)),
    )


def _even(votes: list[list[str]]) -> list[list[str | None]]:
    raters = max(map(len, votes))
    return [[*row, *[None] * (raters - len(row))] for row in votes]


def _consensus(votes: list[list[str]]) -> pl.Series:
    beliefs = consensus(_even(votes))
    return pl.Series([max(belief, key=lambda label: belief[label]) for belief in beliefs])


def print_comparison(found: Comparison, listed: int) -> None:
    """The comparison for a terminal."""
    console = Console()
    agreement = found.agreement
    table = Table(box=box.SIMPLE_HEAD, title="Human against AI labels", title_justify="left")
    for heading in ("measure", "value", "of"):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    rows = [
        ("agreement, ties count", "with_ties", agreement.with_ties),
        ("agreement, both decided", "decided", agreement.decided),
        ("Cohen's kappa", "kappa", agreement.kappa),
        ("weighted kappa", "kappa_weighted", agreement.kappa_weighted),
        ("Gwet's AC1", "ac1", agreement.ac1),
        ("people among themselves", "human_ceiling", found.human_ceiling),
        ("Krippendorff's alpha of people", "kappa", found.human_alpha),
    ]
    if found.against_consensus:
        consensus_kappa = found.against_consensus.kappa
        rows.append(("kappa against people's consensus", "kappa", consensus_kappa))
    for name, key, estimate in rows:
        table.add_row(name, shown_as(key, estimate), str(estimate.n) if estimate.n else "")
    console.print(table)
    console.print(_counts(agreement))
    for category, count in found.categories.most_common():
        console.print(f"  {count:5} {category}", highlight=False)
    for each in found.disagreements[:listed]:
        line = (
            f"{each.pair_id}: people {each.human}, AI {each.ai}: {each.category}; {each.evidence}"
        )
        console.print(line, highlight=False)
    for ids, what in ((found.only_human, "people"), (found.only_ai, "the AI")):
        if ids:
            console.print(f"{len(ids)} pairs labelled by {what} only: left out", highlight=False)
    if agreement.unreadable:
        console.print(f"{agreement.unreadable} AI labels could not be read: left out")


def _counts(agreement: Agreement) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Counts", title_justify="left")
    table.add_column("people \\ AI")
    for label in SCALE:
        table.add_column(label, justify="right")
    for label, row in zip(SCALE, agreement.table, strict=True):
        table.add_row(label, *(str(count) for count in row))
    return table
