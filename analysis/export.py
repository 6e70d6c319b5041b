"""Exports of a run: training rows with a manifest, and results as they are.

Streams from the ledger into files that appear whole or not at all. What a row may be made of is
said in ``analysis.pairs``, what is left out in ``analysis.export_filters``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.decontamination import IN_EVALUATION_SET, EvaluationSets
from analysis.export_filters import Filters
from analysis.manifest import ExportCounts, ExportSource, WrittenFile, manifest, manifest_path
from analysis.output_file import STDOUT, Writer, output_file, output_files
from analysis.pairs import (
    Drop,
    Row,
    SftKeep,
    preference_rows,
    prompt_messages,
    sft_row,
    unpaired_rows,
)
from analysis.people import Verdicts
from analysis.row_files import FileForm, rows_into
from analysis.splits import Split, distributed
from analysis.unpaired import settled
from schemas.config import RunConfig
from schemas.errors import ConfigError
from schemas.results import JobResult

ExportFormat = Literal["trl-preference", "trl-unpaired", "sft"]


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What an export holds.

    Attributes:
        closing: Take labels of the final against the first response.
        keep: Jobs of an sft export.
        people: What people said of the labels; their word wins.
        evaluation: Sets whose prompts are left out.
        split: Into which files, by family of prompts; None for one file.
    """

    fmt: ExportFormat
    filters: Filters
    form: FileForm = "jsonl"
    closing: bool = False
    keep: SftKeep = "either"
    people: Verdicts | None = None
    evaluation: EvaluationSets | None = None
    split: Split | None = None

    def files(self, out: Path) -> list[tuple[str | None, Path]]:
        """The files of an export named ``out``, with their splits."""
        if self.split is None:
            return [(None, out)]
        return [(name, out.with_stem(f"{out.stem}.{name}")) for name in self.split.names]


def export_rows(
    results: Iterable[JobResult], config: RunConfig, plan: ExportPlan, counts: ExportCounts
) -> Iterator[tuple[str | None, Row]]:
    """The rows of an export, each with its split; ``counts`` grows while they are read."""
    rows = _kept(results, config, plan, counts)
    if plan.fmt == "trl-unpaired":
        rows = settled(rows, counts.drop)
    placed: Iterable[tuple[str | None, Row]] = ((None, row) for row in rows)
    if plan.split:
        placed = distributed(rows, plan.split, counts.splits, counts.drop)
    for name, row in placed:
        counts.exported += 1
        yield name, row


def _kept(
    results: Iterable[JobResult], config: RunConfig, plan: ExportPlan, counts: ExportCounts
) -> Iterator[Row]:
    for result in results:
        counts.add_job(result)
        candidates = list(_candidates(result, config, plan, counts))
        rows = [each for each in candidates if not isinstance(each, Drop)]
        for each in candidates:
            counts.read += 1
            if isinstance(each, Drop):
                counts.drop(each.reason)
        if rows and plan.evaluation:
            rows = _clean(result, rows, plan.evaluation, counts)
        yield from rows


def _candidates(
    result: JobResult, config: RunConfig, plan: ExportPlan, counts: ExportCounts
) -> Iterator[Row | Drop]:
    labels = preference_rows(
        result, config, filters=plan.filters, closing=plan.closing, people=plan.people
    )
    for label, row in labels:
        counts.labels.add(label)
        if plan.fmt == "trl-preference":
            yield row
        elif plan.fmt == "trl-unpaired":
            yield from (row, row) if isinstance(row, Drop) else unpaired_rows(row)
    if plan.fmt == "sft":
        yield sft_row(result, config, plan.keep, filters=plan.filters)


def _clean(
    result: JobResult, rows: list[Row], evaluation: EvaluationSets, counts: ExportCounts
) -> list[Row]:
    if not evaluation.holds(prompt_messages(result), rows=len(rows)):
        return rows
    counts.dropped[IN_EVALUATION_SET] += len(rows)
    return []


def write_export(
    out: Path, results: Iterable[JobResult], source: ExportSource, plan: ExportPlan
) -> ExportCounts:
    """Write an export and, beside it, its manifest; on the standard output the rows alone.

    Raises:
        ConfigError: A file cannot be written; then none of them is there.
        ContractError: None of the labels that people checked belongs to the run.
    """
    counts = ExportCounts()
    to_stdout = out == STDOUT
    if to_stdout and (plan.split or plan.form == "parquet"):
        raise ConfigError("several files, or Parquet, do not fit a pipe: name a file with --out")
    named = plan.files(out)
    paths = [path for _, path in named] + ([] if to_stdout else [manifest_path(out)])
    with output_files(paths) as writers:
        by_split = {name: writer for (name, _), writer in zip(named, writers, strict=False)}
        held = _fill(by_split, export_rows(results, source.config, plan, counts), plan)
        if plan.people:
            plan.people.refuse_strangers()
        if not to_stdout:
            files = [
                WrittenFile(path.name, by_split[name].digest, held[name], name)
                for name, path in named
            ]
            made = manifest(source, plan, counts, files)
            writers[-1].write(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    return counts


def _fill(
    writers: dict[str | None, Writer], rows: Iterable[tuple[str | None, Row]], plan: ExportPlan
) -> Counter[str | None]:
    held: Counter[str | None] = Counter()
    with ExitStack() as stack:
        takers: dict[str | None, Callable[[Row], None]] = {
            name: stack.enter_context(rows_into(writer, plan.form, plan.fmt))
            for name, writer in writers.items()
        }
        for name, row in rows:
            takers[name](row)
            held[name] += 1
    return held


def write_results(out: Path, results: Iterable[JobResult]) -> Counter[str]:
    """Write results as JSONL; how many jobs of each state were written.

    Raises:
        ConfigError: The file cannot be written; nothing of it is left behind.
    """
    states: Counter[str] = Counter()
    with output_file(out) as writer:
        for result in results:
            writer.write(result.model_dump_json() + "\n")
            states[result.state] += 1
    return states
