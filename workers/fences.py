"""Fences around what is judged, and the cleaning that keeps it inside them.

A reply may be written to close its fence, to speak as another role or to vote for itself.
Whatever looks like one of our marks, or like a control token of a chat template, is replaced
before it is rendered.
"""

from __future__ import annotations

import re

#: Stands where a mark was removed. No pattern below can match across it, so that one pass
#: leaves nothing behind, however marks are nested.
GAP = "\N{HORIZONTAL ELLIPSIS}"

FENCE_NAMES = ("prompt", "response", "critique", "reasoning", "user", "assistant", "system")

_INVISIBLE = "\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff"
_SPACE = rf"[\s{_INVISIBLE}]*"
_OPEN = r"[\[\uff3b\u27e6]"
_CLOSE = r"[\]\uff3d\u27e7]"


def _spaced(word: str) -> str:
    return _SPACE.join(word)


_NAMES = "|".join(_spaced(name) for name in FENCE_NAMES)
_FENCE = (
    rf"(?:{_OPEN}{_SPACE}{_OPEN}|\u27e6){_SPACE}(?:[/\\]{_SPACE})?"
    rf"(?:{_NAMES})(?:[\s{_INVISIBLE}]{{0,8}}[a-z0-9])?{_SPACE}"
    rf"(?:{_CLOSE}{_SPACE}{_CLOSE}|\u27e7)"
)
_BAR = "[|\uff5c]"
_CONTROL = "|".join(
    (
        # <|im_start|> and its kin, with the full-width bars some models use.
        rf"<{_SPACE}{_BAR}[^<>|\uff5c{GAP}]{{0,80}}{_BAR}{_SPACE}>",
        rf"<{_BAR}(?:turn|tool|channel)>|<(?:turn|tool|channel){_BAR}>",
        r"\[\s*(?:/\s*)?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\s*\]",
        r"<<\s*(?:/\s*)?SYS\s*>>",
        r"<\s*(?:/\s*)?(?:s|bos|eos|pad|unk)\s*>",
        r"<\s*(?:start_of_turn|end_of_turn)\s*>",
    )
)

_CONTROL_TOKENS = re.compile(_CONTROL, re.IGNORECASE)
_FENCES = re.compile(_FENCE, re.IGNORECASE)
_ALL_MARKS = re.compile(rf"{_FENCE}|{_CONTROL}", re.IGNORECASE)


def strip_control_tokens(text: str) -> str:
    """Replace control tokens of chat templates, so that text cannot open another turn."""
    return _CONTROL_TOKENS.sub(GAP, text)


def strip_fences(text: str) -> str:
    """Replace our fence marks, spaced or in any case, and all control tokens.

    Idempotent; linear in the length of the text.
    """
    return _ALL_MARKS.sub(GAP, text)


def holds_fences(text: str) -> bool:
    """True where text holds something that looks like one of our fence marks."""
    return _FENCES.search(text) is not None


def fenced(name: str, text: str, label: str = "") -> str:
    """Text between marks, cleaned: ``[[response A]] ... [[/response A]]``."""
    mark = f"{name} {label}" if label else name
    return f"[[{mark}]]\n{strip_fences(text).strip()}\n[[/{mark}]]"
