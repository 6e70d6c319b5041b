"""Choices from tokens and from words: exact, or outside."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.chosen_words import from_text, from_tokens, have_beginnings

LETTERS = (" A", " B", " C", " D")


def logs(**masses: float) -> list[tuple[str, float]]:
    return [(token, math.log(p)) for token, p in masses.items()]


def test_the_mass_of_each_letter_whatever_stands_around_it() -> None:
    top = [
        (" A", math.log(0.4)),
        ("A", math.log(0.1)),
        ("B)", math.log(0.3)),
        ("As", math.log(0.1)),
    ]
    probabilities, outside = from_tokens(LETTERS, top)
    assert probabilities == pytest.approx((0.5 / 0.8, 0.3 / 0.8, 0, 0))
    assert outside == pytest.approx(0.2)


def test_a_token_that_begins_two_choices_counts_for_neither() -> None:
    top = [("m", math.log(0.5)), ("mi", math.log(0.2)), ("none", math.log(0.1))]
    probabilities, outside = from_tokens((" none", " minor", " moderate"), top)
    assert probabilities == pytest.approx((1 / 3, 2 / 3, 0))
    assert outside == pytest.approx(0.7)


SCORES = tuple(str(score) for score in range(1, 11))


def test_a_written_token_that_begins_another_choice_is_told_apart_by_the_next_one() -> None:
    top = [("1", math.log(0.6)), ("7", math.log(0.3)), ("Sure", math.log(0.1))]
    second = [("0", math.log(0.75)), (".", math.log(0.2))]
    probabilities, outside = from_tokens(SCORES, top, "1", second)
    assert probabilities[9] == pytest.approx(0.45 / 0.9)
    assert probabilities[0] == pytest.approx(0.15 / 0.9)
    assert probabilities[6] == pytest.approx(0.3 / 0.9)
    assert outside == pytest.approx(0.1)
    # The answer ended after it: it is the shorter one.
    assert from_tokens(SCORES, top, "1")[0][0] == pytest.approx(0.6 / 0.9)
    # It was not written, so nothing says which of the two it is.
    probabilities, outside = from_tokens(SCORES, top, "7")
    assert (probabilities[6], outside) == pytest.approx((1.0, 0.7))
    assert from_tokens(SCORES, [("10", 0.0)], "10")[0][9] == 1.0


def test_only_choices_of_which_one_begins_another_have_beginnings() -> None:
    assert have_beginnings(SCORES)
    assert not have_beginnings(LETTERS)
    assert not have_beginnings((" none", " minor", " moderate", " severe"))


@pytest.mark.parametrize("top", [[], [("I", 0.0)], [(" ", 0.0)], [("", 0.0)]])
def test_nothing_of_the_choices_is_all_outside(top: list[tuple[str, float]]) -> None:
    assert from_tokens(LETTERS, top)[1] == 1.0


@given(st.lists(st.tuples(st.text(max_size=4), st.floats(-30, -1.7)), max_size=20))
def test_probabilities_sum_to_one_and_the_mass_lies_in_its_range(
    top: list[tuple[str, float]],
) -> None:
    probabilities, outside = from_tokens(LETTERS, top)
    assert sum(probabilities) == pytest.approx(1)
    assert 0 <= outside <= 1


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("B", 1),
        (" b", None),
        ("B.", 1),
        ("**C**", 2),
        ("(D)", 3),
        ("A or B", None),
        ("", None),
        ("Choose a password.", None),
        ("The response is fine.\nAnswer: C", 2),
        ("Answer: A\nNo, wait.\nFinal answer: D.", 3),
        ("Answer: A, since it is safe", None),
        ("unsafe A", None),
    ],
)
def test_words_are_read_strictly(text: str, at: int | None) -> None:
    probabilities, outside = from_text(LETTERS, text)
    if at is None:
        assert outside == 1.0
    else:
        assert (probabilities[at], outside) == (1.0, 0.0)
