"""Splits divide no family of prompts, whatever is added and in whatever order."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.prompt_families import NEAR, family_of, hashed_words, jaccard, words_of
from analysis.splits import SplitCounts, distributed, parse_split
from schemas.errors import ConfigError

WORDS = [f"{first}{last}" for first in ("bread", "key", "river", "lamp", "cat") for last in
         ("", "s", "maker", "ish", "ing", "less", "like", "hood")]  # fmt: skip
SPLIT = parse_split("train=0.6,validation=0.2,test=0.2", 5)
PROMPTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join),
                   max_size=60)  # fmt: skip


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def placed(prompts: list[str]) -> tuple[dict[str, str], Counter[str]]:
    dropped: Counter[str] = Counter()
    rows: list[dict[str, Any]] = [{"prompt": asked(text)} for text in prompts]
    found = distributed(rows, SPLIT, SplitCounts(), lambda reason: dropped.update([reason]))
    return {row["prompt"][0]["content"]: name for name, row in found}, dropped


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("How do I bake bread?", "how can i BAKE bread"),
        ("Add 12 apples to 7 pears", "Add 3 apples to 99 pears."),
        ("ﬁnd the key", "find a key"),
        ("What is 2+2?", "what is 2 + 2"),
    ],
)
def test_the_same_prompt_written_otherwise_is_one_family(text: str, other: str) -> None:
    assert family_of(asked(text)) == family_of(asked(other))


def test_other_prompts_are_other_families() -> None:
    found = {family_of(asked(t)) for t in ("Bake bread", "Bake cake", "What is 2+2?", "Why?")}
    assert len(found) == 4


def test_a_conversation_and_its_continuation_are_one_family_whatever_the_system_says() -> None:
    opening = asked("Translate this invoice, please")
    later = [
        {"role": "system", "content": "You are an extraordinarily knowledgeable bookkeeper."},
        *opening,
        {"role": "assistant", "content": "Unquestionably."},
        {"role": "user", "content": "Straightforwardly this time."},
    ]
    assert family_of(later) == family_of(opening) == "invoice translate"
    greeted = [{"role": "user", "content": "Hi!"}, *opening]
    assert family_of(greeted) == "invoice translate"


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert words_of("東京 Tower2, naïve_plan") == ["東", "京", "tower2", "naïve", "plan"]


def test_jaccard_by_hand() -> None:
    one, two = (hashed_words(asked(t)) for t in ("a b c d", "B c d e"))
    assert jaccard(one, two) == pytest.approx(3 / 5)
    assert jaccard(hashed_words(asked("?")), hashed_words(asked("!"))) == 1.0


@given(PROMPTS)
def test_no_family_and_no_near_duplicate_is_in_two_splits(prompts: list[str]) -> None:
    found, dropped = placed(prompts)
    families: dict[str, set[str]] = {}
    for text, name in found.items():
        families.setdefault(family_of(asked(text)), set()).add(name)
    assert all(len(names) == 1 for names in families.values())
    words = {text: hashed_words(asked(text)) for text in found}
    for text, name in found.items():
        for other, its in found.items():
            assert name == its or jaccard(words[text], words[other]) < NEAR
    assert len(prompts) == sum(prompts.count(text) for text in found) + dropped.total()


@given(PROMPTS, st.randoms())
def test_neither_order_nor_more_rows_move_a_prompt(prompts: list[str], chance: Any) -> None:
    found, dropped = placed(prompts)
    mixed = list(prompts)
    chance.shuffle(mixed)
    assert placed(mixed) == (found, dropped)
    more, _ = placed([*prompts, "An entirely different question", "bread key river"])
    assert all(more.get(text, name) == name for text, name in found.items())


def test_a_near_duplicate_stays_in_the_earlier_split_only() -> None:
    texts = [f"Write {n} lines about the {word} and its many uses at home today" for n, word in
             enumerate(WORDS)]  # fmt: skip
    edited = [text.replace("home", "homestead") for text in texts]
    found, dropped = placed([*texts, *edited])
    moved = [t for t, e in zip(texts, edited, strict=True)
             if SPLIT.place(family_of(asked(t))) != SPLIT.place(family_of(asked(e)))]  # fmt: skip
    assert moved, "the edit makes another family of some"
    assert dropped["near_duplicate"] >= len(moved)
    assert "train" in found.values()


def test_shares_are_about_what_was_asked_for() -> None:
    split = parse_split("train=0.9,validation=0.05,test=0.05")
    found = Counter(split.place(f"family {n}") for n in range(4_000))
    assert found["train"] == pytest.approx(3_600, abs=60)
    assert found["test"] == pytest.approx(200, abs=45)
    other = parse_split("train=0.9,validation=0.05,test=0.05", 1)
    assert any(split.place(f"family {n}") != other.place(f"family {n}") for n in range(100))


@pytest.mark.parametrize(
    "text",
    ["train=1", "train=0.5,test=0.4", "a=0.5,a=0.5", "a=1.5,b=-0.5", "a=0,b=1", "a=0.5;b=0.5",
     "a=nan,b=1", "a=0.5,b=0.5,", "a=.,b=1"],
)  # fmt: skip
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--split"):
        parse_split(text)
