"""Lengths and digests of texts: in Python for files, in SQL for the ledger, side by side.

Both must say the same of the same text, so white space is the six ASCII characters on both sides:
what else a database takes for a space depends on its locale.
"""

from __future__ import annotations

import json
import re
from hashlib import md5
from typing import Any

from sqlalchemy import ColumnElement, case, func

_SIX = " \t\n\r\f\v"
_SPACE = r"[ \t\n\r\f\v]+"
_SPACES = re.compile(_SPACE)
_WORDS = re.compile(r"[^ \t\n\r\f\v]+")


def squeezed(text: str) -> str:
    """The text with single spaces for white space, and none at the ends."""
    return _SPACES.sub(" ", text).strip(" ")


def letters(text: str) -> str:
    """The text without white space."""
    for character in _SIX:
        text = text.replace(character, "")
    return text


def count_words(text: str | None) -> int | None:
    """Runs of anything but white space; None of no text."""
    return None if text is None else len(_WORDS.findall(text))


def text_digest(text: str | None) -> str | None:
    """Equal for texts that are equal in every character; None of no text."""
    return None if text is None else _digest(text)


def prompt_digest(prompt: Any) -> str:
    """Equal for equal prompts: a text, or turns as the ledger would write them."""
    return _digest(prompt if isinstance(prompt, str) else _as_ledger_writes(prompt))


def _as_ledger_writes(prompt: Any) -> str:
    """JSON as Postgres prints it: shorter keys first."""
    turns = [
        {key: turn[key] for key in sorted(turn, key=lambda key: (len(key), key))}
        if isinstance(turn, dict)
        else turn
        for turn in (prompt if isinstance(prompt, list | tuple) else [prompt])
    ]
    return json.dumps(turns, ensure_ascii=False)


def _digest(text: str) -> str:
    return md5(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def squeezed_sql(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``squeezed`` in SQL."""
    return func.btrim(func.regexp_replace(column, _SPACE, " ", "g"))


def is_same_sql(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
    """Whether ``squeezed`` is the same of both, in SQL."""
    # The regular expression takes ten times as long: only texts of the same letters need it.
    same_letters = _spaces_as(one, "") == _spaces_as(other, "")
    return case((same_letters, squeezed_sql(one) == squeezed_sql(other)), else_=False)


def is_blank_sql(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Whether ``squeezed`` is empty, in SQL."""
    return func.btrim(column, _SIX) == ""


def count_words_sql(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``count_words`` in SQL."""
    # A regular expression takes twice as long, which counts where texts come by the million.
    parts = func.string_to_array(_spaces_as(column, " "), " ")
    return func.cardinality(func.array_remove(parts, ""))


def _spaces_as(column: ColumnElement[Any], by: str) -> ColumnElement[Any]:
    """The text with ``by`` for each character of white space."""
    for character in _SIX:
        if character != by:
            # ``translate`` looks at each character by itself and takes several times as long.
            column = func.replace(column, character, by)
    return column


def text_digest_sql(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """``text_digest`` in SQL."""
    return func.md5(column)


def prompt_digest_sql(payload: Any) -> ColumnElement[Any]:
    """``prompt_digest`` in SQL, of a job's payload."""
    return func.md5(payload.op("->>")("prompt"))
