"""A calibration as a terminal shows it, and the sentence by which reports name it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import exp
from pathlib import Path

from rich import box
from rich.table import Table

from analysis.calibrating import EDGES
from schemas.calibration import MOST, CriticCalibration
from schemas.ratings import SeverityReading

UNCALIBRATED = (
    "uncalibrated: no map from this critic's answers to rated responses was fitted; severities "
    "are the model's own and compare with no other model's"
)
#: Rank agreement at or below which an order says nothing.
NO_ORDER = 0.0


def target(out: Path, calibration: CriticCalibration) -> Path:
    """The file to write: ``out``, or in that folder one named by model and digest."""
    if out.suffix and not out.is_dir():
        return out
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", calibration.model).strip("-")
    return out / f"{model}-{calibration.digest[:12]}.json"


def named(calibration: CriticCalibration | None) -> str:
    """How a report or manifest names what was done to the severities."""
    if calibration is None:
        return UNCALIBRATED
    evidence = calibration.evidence
    return (
        f"calibrated: {calibration.digest[:12]}, of {calibration.model}, on {evidence.anchors} "
        f"rated responses of {len(calibration.principles)} principles; its order agrees with the "
        f"ratings by {_rank(evidence.rank_agreement, evidence.rank_agreement_ci)}"
    )


def table(calibration: CriticCalibration, shares: Mapping[str, tuple[int, float, float]]) -> Table:
    """One line a principle; the last columns where unrated responses were read."""
    made = Table(box=box.SIMPLE, title=f"Severities of {calibration.model}")
    made.add_column("principle")
    headings = ["anchors", "rank", *(f"raw for {at:g}" for at in EDGES)]
    headings += ["responses", "above raw", "above now"] if shares else []
    for heading in headings:
        made.add_column(heading, justify="right")
    for name, own in calibration.principles.items():
        rank = "-" if own.rank_agreement is None else f"{own.rank_agreement:+.2f}"
        cells = [name, f"{own.anchors}{'*' if own.is_own else ''}", rank]
        cells += [_raw_for(own.log_odds, own.severities, at) for at in EDGES]
        made.add_row(*cells, *_share_cells(shares, name))
    if shares:
        made.add_row("all", "", "", "", "", "", *_share_cells(shares, ""))
    return made


def _share_cells(shares: Mapping[str, tuple[int, float, float]], name: str) -> list[str]:
    if not shares:
        return []
    if name not in shares:
        return ["0", "-", "-"]
    n, raw, now = shares[name]
    return [str(n), f"{100 * raw:.1f} %", f"{100 * now:.1f} %"]


def _raw_for(knots: Sequence[float], severities: Sequence[float], wanted: float) -> str:
    """The raw severity that means ``wanted``; - where several or none do."""
    at = [k for k, s in zip(knots, severities, strict=True) if abs(s - wanted) < 1e-9]
    return f"{MOST / (1 + exp(-at[0])):.3f}" if at else "-"


def told(calibration: CriticCalibration, read: Sequence[SeverityReading]) -> list[str]:
    """What the fit is worth, a line each."""
    evidence = calibration.evidence
    unreadable = sum(r.raw is None for r in read)
    at = evidence.threshold
    lines = [
        f"{evidence.anchors} rated responses fitted, {unreadable} of {len(read)} readings "
        "unreadable",
        "order of the critic's answers against the ratings (Spearman, within principles): "
        + _rank(evidence.rank_agreement, evidence.rank_agreement_ci),
        f"above {at:g}: rated {100 * evidence.rated_above:.1f} %, raw "
        f"{100 * evidence.raw_above:.1f} %, calibrated {100 * evidence.calibrated_above:.1f} % "
        "(by maps fitted without the response)",
        f"mean distance from the rating: raw {evidence.mean_error_raw:.3f}, calibrated "
        f"{evidence.mean_error_calibrated:.3f}",
    ]
    low = None if evidence.rank_agreement_ci is None else evidence.rank_agreement_ci[0]
    if low is None or low <= NO_ORDER:
        lines.append(
            "this critic's order cannot be told from chance: the scale fits, its findings do not; "
            "take a stronger critic"
        )
    return lines


def _rank(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "undefined"
    return f"{value:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]"
