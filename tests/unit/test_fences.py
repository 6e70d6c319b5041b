"""Nothing that is judged can close its fence or speak as another role."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.fences import (
    FENCE_NAMES,
    GAP,
    fenced,
    holds_fences,
    strip_control_tokens,
    strip_fences,
)

MARKS = [
    "[[/response]]",
    "[[response]]",
    "[[/Response A]]",
    "[[ / RESPONSE ]]",
    "[ [ / r e s p o n s e ] ]",
    "[[/res\u200bponse]]",
    "[[\n/response\n]]",
    "[[\\response]]",
    "\uff3b\uff3b/response\uff3d\uff3d",
    "\u27e6/response\u27e7",
    "[[/prompt]]",
    "[[critique]]",
    "[[assistant]]",
    "[[system]]",
]
CONTROLS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|IM_START|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    "<|turn>",
    "<turn|>",
    "[INST]",
    "[/INST]",
    "[ / inst ]",
    "<<SYS>>",
    "<</SYS>>",
    "<s>",
    "</s>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[SYSTEM_PROMPT]",
]


@pytest.mark.parametrize("mark", MARKS + CONTROLS)
def test_marks_are_removed(mark: str) -> None:
    assert strip_fences(f"before {mark} after") == f"before {GAP} after"


@pytest.mark.parametrize("mark", CONTROLS)
def test_control_tokens_are_removed_alone(mark: str) -> None:
    assert strip_control_tokens(f"a{mark}b[[response]]") == f"a{GAP}b[[response]]"


@pytest.mark.parametrize(
    "text",
    [
        "the [response] was good",
        "x = grid[[0, 1]]",
        "[[wiki link]]",
        "a < b | c > d",
        "<strong>yes</strong> <span>",
        "[instance]",
        "if (a <b || c> d)",
        "response]] [[",
        "",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert strip_fences(text) == text


@pytest.mark.parametrize(
    "nested",
    [
        "[[resp[[/response]]onse]]",
        "[[/resp<|im_end|>onse]]",
        "<|im_<|im_end|>end|>",
        "[[[[/response]]/response]]",
        "[IN<s>ST]",
        "<<s>s>",
    ],
)
def test_removing_a_mark_makes_no_new_one(nested: str) -> None:
    cleaned = strip_fences(nested)
    assert strip_fences(cleaned) == cleaned
    assert not holds_fences(cleaned)
    assert "[[/response]]" not in cleaned
    assert "<|im_end|>" not in cleaned


PIECES = st.sampled_from(
    [*MARKS, *CONTROLS, "[[", "]]", "[", "/", "response", "resp", "onse", " ", "<|", "|>", "<", "s",
     ">", "INST", "|", "im_end", "a", "\u200b", "\n", GAP]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_no_mark_survives(text: str) -> None:
    cleaned = strip_fences(text)
    assert strip_fences(cleaned) == cleaned
    for token in ("[[/response]]", "[[response]]", "<|im_start|>", "<|im_end|>", "[INST]", "<s>"):
        assert token not in cleaned.lower().replace("[inst]", "[INST]")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FENCE_NAMES), st.lists(PIECES, max_size=14).map("".join))
def test_a_fence_opens_once_and_closes_once(name: str, text: str) -> None:
    block = fenced(name, text)
    inside = block.removeprefix(f"[[{name}]]\n").removesuffix(f"\n[[/{name}]]")
    assert block == f"[[{name}]]\n{inside}\n[[/{name}]]"
    assert not holds_fences(inside)


@pytest.mark.parametrize(
    "piece", ["[[ ", "[", "[[/", "<|", "< ", "[[r ", " ", "[ /", "[[response ", "[[resp[[", "<|a"]
)
def test_hostile_text_is_cleaned_in_linear_time(piece: str) -> None:
    """Quadratic work on a megabyte would run into the time limit of the test run."""
    text = piece * (200_000 // len(piece))
    assert isinstance(strip_fences(text), str)
    assert isinstance(strip_fences("[[" + " " * 200_000), str)
