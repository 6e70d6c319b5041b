"""The section on a judge's bias: position by the run's own labels, style by people's. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.bias import DimensionBias
from analysis.figures import sentence
from analysis.quality import COIN, Evidence, Recommendation, Section, Status, Topic, excludes
from analysis.statistics.estimates import Estimate
from schemas.config import QualityConfig

JUDGE = "preceptor judge --config my.yaml --pairs {pairs} --out verdicts.jsonl"
BIAS = "preceptor bias --ai verdicts.jsonl --pairs {pairs} --mitigate all"
POSITION = "position"


def bias_section(evidence: Evidence) -> Section:
    """Position, and the configured dimensions of style."""
    settings = evidence.config.quality if evidence.config else QualityConfig()
    wanted = settings.bias_dimensions
    criterion = (
        f"{', '.join(wanted) or 'none'} (quality.bias_dimensions). Style: p below 0.05, "
        "Holm-corrected, for a difference from people; position: interval excludes 0.5"
    )
    if not wanted:
        return Section("bias", Status.NO_THRESHOLD, criterion, ())
    styles = [name for name in wanted if name != POSITION]
    found, advice = _position(evidence) if POSITION in wanted else ((), ())
    flagged = _flagged(evidence, styles)
    found += (*_style_found(evidence, styles, flagged),)
    if _has_people(evidence):
        advice += tuple(_style_advice(evidence, each) for each in flagged)
    missing = _missing(evidence, wanted)
    status = Status.UNMEASURED if missing else Status.PASSED
    return Section("bias", Status.FAILED if advice else status, criterion, found, missing, advice)


def _missing(evidence: Evidence, wanted: Sequence[str]) -> str | None:
    """The command that measures what is not measured."""
    pairs = evidence.pairs_or_example
    if set(wanted) - {POSITION} and not _has_people(evidence):
        return f"preceptor quality {evidence.source} --pairs {pairs}"
    if POSITION in wanted and evidence.preferences.overall.first_position.value is None:
        return JUDGE.format(pairs=pairs)
    return None


def _has_people(evidence: Evidence) -> bool:
    return evidence.bias is not None and evidence.bias.with_people > 0


def _position(evidence: Evidence) -> tuple[tuple[str, ...], tuple[Recommendation, ...]]:
    position = evidence.preferences.overall.first_position
    found = (f"for the response shown first: {sentence(position, 'decided readings')}",)
    if not excludes(position, COIN):
        return found, ()
    first = "first" if (position.value or 0) > COIN else "second"
    said = (
        f"The judge favours the response shown {first}: {sentence(position, 'readings')} are for "
        "the first, 50 % without position bias. Both orders are averaged; labeler.mode "
        "'conservative' or 'drop' keeps only labels on which they agree."
    )
    command = f"preceptor preferences {evidence.source}"
    return found, (Recommendation(Topic.POSITION, said, command, position),)


def _flagged(evidence: Evidence, styles: Sequence[str]) -> list[DimensionBias]:
    dimensions = evidence.bias.dimensions if evidence.bias else ()
    return [each for each in dimensions if each.is_flagged and each.name in styles]


def _style_found(
    evidence: Evidence, styles: Sequence[str], flagged: Sequence[DimensionBias]
) -> Iterator[str]:
    report = evidence.bias
    if not styles:
        return
    if report is None:
        yield f"{', '.join(styles)}: no texts of judged pairs were given (--pairs)"
        return
    stands = ", ".join(f"{each.name} {_numbers(each)}" for each in flagged)
    if report.with_people:
        said = f"judge minus people on {report.with_people} pairs, log-odds a standard deviation"
        yield f"{said}: {stands or 'no bias found'}"
    else:
        said = f"no pair has people's label; the judge's own preferences on {report.n} pairs"
        yield f"{said}: {stands or 'none stands out'}"


def _style_advice(evidence: Evidence, each: DimensionBias) -> Recommendation:
    term = each.difference or each.judge
    pairs = evidence.bias.with_people if evidence.bias else 0
    estimate = Estimate(term.value, term.low, term.high, pairs)
    said = (
        f"The judge is moved by {each.name} otherwise than people: {_numbers(each)}, log-odds a "
        f"standard deviation on {pairs}"
    )
    command = BIAS.format(pairs=evidence.pairs_or_example)
    more = "pairs. Keep its verdicts of the pairs ('preceptor judge') and take the bias away."
    return Recommendation(Topic.BIAS, f"{said} {more}", command, estimate)


def _numbers(each: DimensionBias) -> str:
    term = each.difference or each.judge
    return f"{term.value:+.2f} [{term.low:+.2f} to {term.high:+.2f}], p {each.p_holm:.3f}"
