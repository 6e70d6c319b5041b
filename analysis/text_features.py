"""What a text looks like, whatever it says: length, formality, assertiveness, complexity, markdown.

One text at a time and in plain Python: what a feature *is* stands here. ``text_columns`` computes
the same of many texts. Word lists for English; in other languages length, complexity and markdown
still hold.
"""

from __future__ import annotations

import math
import re

DIMENSIONS = ("length", "formality", "assertiveness", "complexity", "markdown")

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?\u2026]+(?=\s|$)|\n{2,}")
CONTRACTED = re.compile(r"\b\w+['\u2019](?:t|re|ve|ll|d|m|s)\b", re.IGNORECASE)
COLLOQUIAL = re.compile(
    r"\b(?:yeah|yep|nope|ok|okay|hey|hi|gonna|wanna|gotta|kinda|sorta|stuff|guys?|cool|awesome"
    r"|lol|btw|kid(?:s|ding)?|huh|hmm+|oh|wow|pretty much|a lot|I|you)\b"
)
HEDGES = re.compile(
    r"\b(?:may|might|could|perhaps|maybe|possibly|probably|likely|seems?|appears?|somewhat|suggests?"
    r"|I think|I believe|I guess|in my opinion|not sure|unsure|sort of|kind of|generally|usually"
    r"|sometimes|often|roughly|approximately)\b",
    re.IGNORECASE,
)
BOOSTERS = re.compile(
    r"\b(?:certainly|definitely|clearly|obviously|undoubtedly|of course|always|never|must"
    r"|absolutely|surely|without (?:a )?doubt|in fact|indeed|completely|totally|exactly)\b",
    re.IGNORECASE,
)
MARKDOWN = re.compile(
    r"^\s*(?:[-*+]|\d{1,2}[.)])\s+|^#{1,6}\s|\*\*[^*\n]+\*\*|`[^`\n]+`|^```|^\|.*\|$", re.MULTILINE
)


def features(text: str) -> tuple[float, float, float, float, float]:
    """One number for each of DIMENSIONS.

    length: log of words + 1. formality: minus contractions and colloquial words per 100 words.
    assertiveness: boosters minus hedges per 100 words. complexity: the automated readability
    index (Source: Smith and Senter 1967, AMRL-TR-66-220), 0 for no words. markdown: log of marks
    + 1.
    """
    words = WORD.findall(text)
    count = len(words)
    if not count:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    per_100 = 100 / count
    casual = len(CONTRACTED.findall(text)) + len(COLLOQUIAL.findall(text))
    assertive = len(BOOSTERS.findall(text)) - len(HEDGES.findall(text))
    sentences = max(1, len(_SENTENCE_END.findall(text.strip() + " ")))
    characters = sum(map(len, words))
    return (
        math.log1p(count),
        -casual * per_100,
        assertive * per_100,
        4.71 * characters / count + 0.5 * count / sentences - 21.43,
        math.log1p(len(MARKDOWN.findall(text))),
    )
