"""Prompts that an evaluation set holds are found, others are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.decontamination import EvaluationSets
from schemas.errors import ContractError

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def holds(sets: EvaluationSets, text: str, role: str = "user") -> bool:
    return sets.holds([{"role": role, "content": text}])


def test_thirteen_words_in_common_are_found_and_twelve_are_not(tmp_path: Path) -> None:
    sets = EvaluationSets([written(tmp_path / "e", {"prompt": LONG})])
    words = LONG.split()
    assert holds(sets, "Before: " + " ".join(words[1:14]).upper() + "! And after.")
    assert not holds(sets, "Before " + " ".join(words[1:13]) + " and after it all, once more")
    assert not holds(sets, " ".join(sorted(words)))
    five = EvaluationSets([tmp_path / "e"], 5)
    assert holds(five, "say three, four; five six seven now")


def test_shorter_texts_count_as_a_whole(tmp_path: Path) -> None:
    sets = EvaluationSets(
        [written(tmp_path / "e", {"prompt": "What is the capital of France?"}, {"text": "Why?"})]
    )
    assert holds(sets, "Tell me: what is the capital of FRANCE, please, and say it in verse, now")
    assert not holds(sets, "What is the capital of Spain?")
    assert holds(sets, "why")
    assert not holds(sets, "Why is the sky blue?"), "one word stands in many prompts"


def test_a_short_prompt_is_found_inside_a_long_evaluation_text(tmp_path: Path) -> None:
    sets = EvaluationSets([written(tmp_path / "e", {"prompt": LONG})])
    assert holds(sets, "Four five six seven eight?")
    assert not holds(sets, "Four five six seven")


def test_turns_are_looked_at_one_by_one_and_system_turns_not_at_all(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": LONG}, {"role": "user", "content": "Name the key place"}]
    sets = EvaluationSets([written(tmp_path / "e", {"prompt": turns, "text": None})])
    assert not holds(sets, LONG)
    assert holds(sets, "name the key place")
    assert not holds(sets, "name the key place", role="system")


def test_rows_are_counted_for_each_set(tmp_path: Path) -> None:
    first = written(tmp_path / "a", {"prompt": LONG})
    second = written(tmp_path / "b", {"prompt": LONG}, {"prompt": "What is the oldest river?"})
    sets = EvaluationSets([first, second])
    assert sets.holds([{"role": "user", "content": LONG}], rows=3)
    assert holds(sets, "what is the oldest river")
    assert not holds(sets, "What is the newest river?")
    told = sets.as_json()
    assert told["ngram_words"] == 13
    assert [(each["texts"], each["dropped"]) for each in told["files"]] == [(1, 3), (2, 4)]


@pytest.mark.parametrize(
    ("line", "said"),
    [({"question": "x"}, ":1: has neither 'prompt' nor 'text'"), ({"prompt": 3}, ":1: .*prompt")],
)
def test_what_holds_no_text_is_refused_with_its_line(tmp_path: Path, line: Any, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        EvaluationSets([written(tmp_path / "e", line)])


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="holds no text"):
        EvaluationSets([written(tmp_path / "e")])
