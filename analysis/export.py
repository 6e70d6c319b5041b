"""Exports of a run: training rows with a manifest, and results as they are.

Streams from the ledger into a file that appears whole or not at all. What a row may be made of
is said in ``analysis.pairs``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from analysis.frames import is_identical
from analysis.output_file import STDOUT, output_file
from analysis.pairs import PAIR_REASONS, SFT_REASONS, Drop, SftKeep, preference_rows, sft_row
from schemas.config import RunConfig
from schemas.results import JobResult, PreferenceResult

ExportFormat = Literal["trl-preference", "sft"]

UNCALIBRATED = (
    "uncalibrated: no map from this critic's and judge's probabilities to people's ratings was "
    "fitted; severities and p are the models' own"
)


@dataclass(slots=True)
class LabelTally:
    """Counts over every label that an export read, exported or not."""

    labels: int = 0
    self_judged: int = 0
    readable: int = 0
    flipped: int = 0

    def add(self, label: PreferenceResult) -> None:
        """Count one label."""
        self.labels += 1
        self.self_judged += label.self_judged
        unlike = not is_identical(label.response_a, label.response_b)
        if unlike and label.consistent is not None:
            self.readable += 1
            self.flipped += not label.consistent


@dataclass(slots=True)
class ExportCounts:
    """What an export read and what became of it: ``read`` = ``exported`` + all ``dropped``."""

    jobs: int = 0
    read: int = 0
    exported: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    labels: LabelTally = field(default_factory=LabelTally)
    models: dict[str, set[str]] = field(default_factory=dict)

    def add_job(self, result: JobResult) -> None:
        """Count one job and the models that answered for it."""
        self.jobs += 1
        for role, model in result.models.items():
            self.models.setdefault(role, set()).add(model)

    @property
    def equation(self) -> str:
        """The equation that must hold."""
        parts = "".join(f" + {n} {reason}" for reason, n in sorted(self.dropped.items()) if n)
        return f"accounting: {self.read} read = {self.exported} exported{parts}"


@dataclass(frozen=True, slots=True)
class ExportSource:
    """The run that is exported, with what its manifest has to say of it."""

    run: str
    config: RunConfig
    config_digest: str
    constitution: str
    constitution_digest: str


def export_rows(
    results: Iterable[JobResult],
    config: RunConfig,
    counts: ExportCounts,
    *,
    fmt: ExportFormat,
    closing: bool = False,
    keep: SftKeep = "either",
) -> Iterator[dict[str, Any]]:
    """The rows of an export; ``counts`` grows while they are read."""
    for result in results:
        counts.add_job(result)
        for candidate in _candidates(result, config, counts, fmt, closing, keep):
            counts.read += 1
            if isinstance(candidate, Drop):
                counts.dropped[candidate.reason] += 1
            else:
                counts.exported += 1
                yield candidate


def _candidates(
    result: JobResult,
    config: RunConfig,
    counts: ExportCounts,
    fmt: ExportFormat,
    closing: bool,
    keep: SftKeep,
) -> Iterator[dict[str, Any] | Drop]:
    for label, row in preference_rows(result, config, closing=closing):
        counts.labels.add(label)
        if fmt == "trl-preference":
            yield row
    if fmt == "sft":
        yield sft_row(result, config, keep)


def write_export(
    out: Path,
    results: Iterable[JobResult],
    source: ExportSource,
    *,
    fmt: ExportFormat,
    closing: bool = False,
    keep: SftKeep = "either",
) -> ExportCounts:
    """Write an export and, beside it, its manifest; on the standard output the rows alone.

    Raises:
        ConfigError: A file cannot be written; then neither of the two is there.
    """
    counts = ExportCounts()
    with output_file(out) as writer:
        rows = export_rows(results, source.config, counts, fmt=fmt, closing=closing, keep=keep)
        for row in rows:
            writer.write(json.dumps(row, ensure_ascii=False) + "\n")
        if out != STDOUT:
            made = manifest(source, counts, fmt=fmt, file=out.name, digest=writer.digest)
            with output_file(manifest_path(out)) as beside:
                beside.write(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    return counts


def manifest_path(out: Path) -> Path:
    """Where the manifest of ``out`` lies."""
    return out.with_name(f"{out.name}.manifest.json")


def manifest(
    source: ExportSource, counts: ExportCounts, *, fmt: ExportFormat, file: str, digest: str
) -> dict[str, Any]:
    """What a reader of the export must know: counts, origin, and how far the labels carry."""
    reasons = PAIR_REASONS if fmt == "trl-preference" else SFT_REASONS
    config = source.config
    return {
        "file": file,
        "sha256": digest,
        "format": fmt,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": source.run,
        "counts": {
            "jobs": counts.jobs,
            "read": counts.read,
            "exported": counts.exported,
            "dropped": {reason: counts.dropped[reason] for reason in reasons},
        },
        "config_digest": source.config_digest,
        "constitution": source.constitution,
        "constitution_digest": source.constitution_digest,
        "seed": config.seed,
        "models": {role: sorted(names) for role, names in sorted(counts.models.items())},
        "roles": config.roles.model_dump(),
        "labels": _label_quality(counts.labels),
        "calibration": UNCALIBRATED,
        "filters": config.data.model_dump(include={"filter_ties", "min_confidence"}),
        "training": config.training.model_dump(),
        "self_improvement": config.self_improvement.model_dump(),
    }


def _label_quality(tally: LabelTally) -> dict[str, Any]:
    return {
        "labels": tally.labels,
        "self_judged_share": _share(tally.self_judged, tally.labels),
        "judged_in_both_orders": tally.readable,
        "flip_rate_between_orders": _share(tally.flipped, tally.readable),
        "flip_rate_note": (
            "share of differing pairs whose two orders prefer different responses; disagreement "
            "of the judge with itself, not with people"
            if tally.readable
            else "not measured: no differing pair was read in both orders"
        ),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


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
