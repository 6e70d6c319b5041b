"""Strict reading of a written verdict: which of two responses a judge calls better.

Workers read what their model wrote, analysis reads what any judge wrote elsewhere; both must read
the same. What cannot be read is an OutputError, never a tie.
"""

from __future__ import annotations

import re
from typing import Literal, cast

from schemas.errors import OutputError

FinishReason = Literal["stop", "length"]
Verdict = Literal["A", "B", "tie"]

# "unsafe" holds "safe" and "cities" holds "tie": a value is compared whole, never searched for.
# Both are matched against one line at a time: across lines they would take quadratic time.
_VERDICT_FIELD = re.compile(
    r"[\W_]*(?:verdict|winner|preference|(?:better|preferred) (?:response|output|one)"
    r"|(?:final )?answer)[\W_]*[:=](?P<value>.*)",
    re.IGNORECASE,
)
_VERDICT_VALUE = re.compile(
    r"(?:(?i:response|output|answer|option)\s+)?(?:(?P<label>[AB])|\((?P<bracketed>[ABab])\))"
    r"(?i: is better)?|(?i:tie|tied|equal)"
)
_VERDICT_SENTENCE = re.compile(
    r"(?:^|[.!?:,\n]|\b(?:therefore|thus|so|hence|overall|conclusion)\b,?)[*_\s]{0,8}"
    r"(?:response|output)\s+\(?(?P<label>[AB])\)?[*_]*\s+is\s+(?:the\s+)?(?:clearly\s+)?better"
    r"(?:\s+(?:response|output|one))?[*_]{0,3}(?=\s*(?:[.!\n]|$)|,?\s+(?:because|since|as|than)\b)",
    re.IGNORECASE,
)


def parse_verdict(text: str, finish_reason: FinishReason = "stop") -> Verdict:
    """Read which response is better, from an engine that gives no probabilities.

    Read are, the last one winning: a line ``Verdict: A``; a sentence ``Response A is better.``;
    or a completion that is nothing but ``A``, ``B`` or ``tie``.

    Raises:
        OutputError: None of these stands there, the last one names no choice, or the
            completion was cut off, so that its last word is unknown.
    """
    refuse_cut_off("verdict", text, finish_reason)
    fields = fields_of(_VERDICT_FIELD, text)
    sentences = [(m.start("label"), m["label"].upper()) for m in _VERDICT_SENTENCE.finditer(text)]
    value = bare(max(fields + sentences, default=(0, text))[1])
    found = _VERDICT_VALUE.fullmatch(value)
    if found is None:
        raise OutputError("the verdict is none of A, B and tie", raw=text)
    label = found["label"] or found["bracketed"]
    return cast(Verdict, label.upper()) if label else "tie"


def fields_of(pattern: re.Pattern[str], text: str) -> list[tuple[int, str]]:
    """(place in the text, value) of each line that is a field."""
    found: list[tuple[int, str]] = []
    place = 0
    for line in text.split("\n"):
        if match := pattern.fullmatch(line.rstrip("\r")):
            found.append((place, match["value"]))
        place += len(line) + 1
    return found


def refuse_cut_off(what: str, text: str, finish_reason: FinishReason) -> None:
    if finish_reason == "length":
        raise OutputError(f"the {what} was cut off; allow the judge more tokens", raw=text)


def bare(value: str) -> str:
    return value.strip().strip("\"'\u201c\u201d*_`[].,;:! \t").strip()
