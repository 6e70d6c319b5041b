"""What a constitution's text shows to be doubtful, before any model has read it.

Findings are advice: a constitution with findings is valid. Whether a principle decides anything
is seen in a run, by ``preceptor coverage``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations

from schemas.constitution import Constitution, Principle, SeverityLevel

#: Share of words in common from which two principles are called near-duplicates.
WORDS_ALIKE = 0.5
#: ``difflib`` ratio of two descriptions from which they are called near-duplicates.
TEXTS_ALIKE = 0.85
#: Share of draws below which a weight makes a principle as good as absent.
LEAST_DRAWN = 0.01

#: Prohibitions; "cannot" tells of limits and is none. Source: arXiv 2502.15861 (C3AI): positively
#: worded, behaviour-based principles match people's preferences better than negative ones, though
#: the models trained there followed the negative ones better.
_NEGATIVE = re.compile(
    r"\b(?:never|avoid(?:s|ing)?|refrains?|don['\u2019]t|doesn['\u2019]t|won['\u2019]t"
    r"|(?:must|should)(?:n['\u2019]t| not)|(?:do|does|may|will|shall) not)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_WORD = re.compile(r"[a-z]{4,}")
_REQUESTS = ("critique_request", "revision_request", "comparison_request")
#: Words that the shape of a request brings along, whatever it is about.
_FRAME = frozenset(
    ("check", "each", "from", "name", "quote", "response", "that", "them", "this", "what", "which")
)


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One doubt.

    Attributes:
        principle: Whose; two names joined by "/" where it is about two.
        field: Of the principle.
        finding: What is doubtful, and why where it is not plain.
    """

    principle: str
    field: str
    finding: str


def lint(constitution: Constitution) -> tuple[LintFinding, ...]:
    """All findings, in the order of the principles, then of the pairs of principles."""
    total = sum(p.weight for p in constitution.principles)
    single = [
        LintFinding(principle.name, *found)
        for principle in constitution.principles
        for found in _of_one(principle, total)
    ]
    pairs = combinations(constitution.principles, 2)
    double = [
        LintFinding(f"{one.name}/{two.name}", *found)
        for one, two in pairs
        for found in _of_two(one, two)
    ]
    return (*single, *double)


def _of_one(principle: Principle, total_weight: float) -> Iterator[tuple[str, str]]:
    yield from _wording(principle)
    if not principle.comparison_request.endswith("?"):
        yield "comparison_request", "is no question: a judge is asked which response is better"
    if _plain(principle.critique_request) == _plain(principle.revision_request):
        yield "revision_request", "is the critique request: a reviser is asked to mend, not to find"
    if principle.rubric is None:
        yield "rubric", "is missing: what a severity looks like is left to the critic"
    yield from _examples(principle)
    drawn = principle.weight / total_weight
    if drawn < LEAST_DRAWN:
        yield (
            "weight",
            f"{principle.weight:g} is {100 * drawn:.2g} % of the draws: hardly ever asked",
        )


def _wording(principle: Principle) -> Iterator[tuple[str, str]]:
    for field in ("description", *_REQUESTS):
        text: str = getattr(principle, field)
        if field == "critique_request":
            # What follows asks for faults, which are named by what they do not do.
            text = _SENTENCE_END.split(text)[0]
        if found := _NEGATIVE.search(text):
            yield field, f'is worded negatively ("{found[0]}"): say what is wanted instead'


def _examples(principle: Principle) -> Iterator[tuple[str, str]]:
    if not principle.examples:
        yield "examples", "are missing: severities cannot be calibrated without rated ones"
        return
    rated = {example.severity for example in principle.examples}
    missing = [level.value for level in SeverityLevel if level not in rated]
    if SeverityLevel.NONE not in rated:
        yield "examples", "none has nothing wrong: a critic learns to find fault everywhere"
    if missing:
        yield "examples", f"none is rated {', '.join(missing)}: calibration needs every level"


def _of_two(one: Principle, two: Principle) -> Iterator[tuple[str, str]]:
    for field in _REQUESTS:
        if _plain(getattr(one, field)) == _plain(getattr(two, field)):
            yield field, "is the same text for both: they cannot be told apart by it"
    words = _overlap(_words(one), _words(two))
    matcher = SequenceMatcher(None, _plain(one.description), _plain(two.description), False)
    texts = matcher.ratio() if matcher.quick_ratio() >= TEXTS_ALIKE else 0.0
    if words >= WORDS_ALIKE or texts >= TEXTS_ALIKE:
        shared = f"{100 * words:.0f} % of their words in common"
        yield "description", f"near-duplicates: {shared}, descriptions alike to {100 * texts:.0f} %"


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _words(principle: Principle) -> frozenset[str]:
    texts = (principle.description, *(getattr(principle, field) for field in _REQUESTS))
    return frozenset(_WORD.findall(" ".join(texts).lower())) - _FRAME


def _overlap(one: frozenset[str], two: frozenset[str]) -> float:
    """Jaccard's share of common words, in [0, 1]."""
    return len(one & two) / len(one | two) if one | two else 0.0
