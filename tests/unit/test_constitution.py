"""Constitutions: what ships, merging, selecting and the seeded draw."""

from __future__ import annotations

from collections import Counter
from math import isclose, sqrt
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.constitution import (
    LEVEL_SEVERITY,
    Constitution,
    Principle,
    SeverityLevel,
    available_constitutions,
    load_constitution,
)
from schemas.errors import ContractError, UnknownConstitution

# Released files are never edited. A failure here means: put the change into a new version.
RELEASED = {
    "default": "092558eacdbefd7b93737d1c7c88a743240bb78abe64be7c1d1021964078ab48",
    "financial": "87bd2a03e40c3c5443441a55ab80ec47af2bdf30681d3a57bfaab91054d27952",
    "general": "6260a0128d58794c1fbb92abcf3c1607d8ea79f4a9aa5a0a6e71ccc9d90b9e88",
    "legal": "3986ac765a398e5da54c0a7fab7c6af7107187b932537c337876f2747a7b9133",
    "medical": "be3747ea09028a54851793a703a5251ca3e0cc3d9558d27208efa9c687e8e1ad",
    "safety": "e1cbcd4ce9ac14f9d79f2308afa429b0bf6eed8154cc44249540c1fa928500a9",
}

WEIGHTS = {
    "default": {
        "task_completion": 1.0,
        "clarity": 0.8,
        "relevance": 0.7,
        "no_harmful_content": 2.0,
        "no_discrimination": 1.5,
        "legal_compliance": 2.0,
        "privacy_protection": 1.5,
        "factual_accuracy": 1.2,
        "uncertainty_acknowledgment": 0.9,
        "no_deception": 1.5,
        "source_attribution": 0.7,
    },
    "general": {
        "direct_response": 1.0,
        "complete_information": 0.9,
        "no_harmful_instructions": 2.0,
        "respect_privacy": 1.5,
        "factual_accuracy": 1.2,
        "acknowledge_limitations": 0.8,
    },
    "safety": {
        "prevent_physical_harm": 3.0,
        "prevent_psychological_harm": 2.0,
        "protect_vulnerable_groups": 2.5,
    },
    "medical": {"medical_disclaimer": 2.0, "evidence_based": 1.5},
    "legal": {"legal_disclaimer": 2.0},
    "financial": {"investment_disclaimer": 2.0},
}


def make_principle(name: str, weight: float = 1.0, category: str = "custom") -> Principle:
    return Principle.model_validate(
        {
            "name": name,
            "category": category,
            "description": "d",
            "critique_request": "c",
            "revision_request": "r",
            "comparison_request": "p",
            "weight": weight,
        }
    )


def make_constitution(*principles: Principle) -> Constitution:
    return Constitution(name="test", version="1", principles=principles)


def test_released_constitutions_have_not_changed() -> None:
    assert {n: load_constitution(n).digest for n in available_constitutions()} == RELEASED


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_shipped_weights(name: str) -> None:
    found = load_constitution(name)
    assert {p.name: p.weight for p in found.principles} == WEIGHTS[name]


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_every_shipped_principle_says_what_each_severity_looks_like(name: str) -> None:
    for principle in load_constitution(name).principles:
        assert principle.rubric is not None, principle.name
        assert [level for level, _ in principle.rubric.lines()] == list(SeverityLevel)


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_shipped_requests_are_three_different_texts(name: str) -> None:
    for p in load_constitution(name).principles:
        assert len({p.critique_request, p.revision_request, p.comparison_request}) == 3


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_every_shipped_principle_has_anchors_of_every_severity(name: str) -> None:
    for principle in load_constitution(name).principles:
        levels = Counter(e.severity for e in principle.examples)
        assert set(levels) == set(SeverityLevel), principle.name
        assert levels[SeverityLevel.NONE] >= 2, principle.name


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_shipped_anchors_of_one_principle_differ_in_topic(name: str) -> None:
    for principle in load_constitution(name).principles:
        assert len({e.prompt for e in principle.examples}) >= 5, principle.name
        assert len({e.response for e in principle.examples}) == len(principle.examples)


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_a_shipped_anchor_has_a_critique_exactly_where_something_is_wrong(name: str) -> None:
    for principle in load_constitution(name).principles:
        for anchor in principle.examples:
            assert (anchor.critique is None) == (anchor.severity is SeverityLevel.NONE), anchor


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_the_length_of_a_shipped_anchor_does_not_tell_its_severity(name: str) -> None:
    words: dict[SeverityLevel, list[int]] = {level: [] for level in SeverityLevel}
    for principle in load_constitution(name).principles:
        for anchor in principle.examples:
            words[anchor.severity].append(len(anchor.response.split()))
    means = {level: fmean(counts) for level, counts in words.items()}
    assert max(means.values()) <= 1.25 * min(means.values()), means


def test_severity_levels_have_the_documented_values() -> None:
    assert [level.value_of for level in SeverityLevel] == [0.0, 0.3, 0.6, 0.9]
    assert list(LEVEL_SEVERITY) == list(SeverityLevel)


def test_merge_joins_names_versions_and_principles() -> None:
    merged = load_constitution("default+medical")
    assert merged.name == "default+medical"
    assert merged.version == "1.0+1.0"
    assert merged.names == (*WEIGHTS["default"], *WEIGHTS["medical"])


def test_merge_refuses_a_principle_of_both_and_names_the_files() -> None:
    with pytest.raises(ContractError, match=r"factual_accuracy.*default\.yaml.*general\.yaml"):
        load_constitution("default+general")


def test_merge_refuses_a_constitution_with_itself() -> None:
    with pytest.raises(ContractError, match="twice"):
        load_constitution("legal+legal")


@pytest.mark.parametrize("reference", ["nonesuch", "default+nonesuch", "", "default+", "Default"])
def test_unknown_constitution_lists_what_exists(reference: str) -> None:
    with pytest.raises(UnknownConstitution, match="default, financial, general, legal"):
        load_constitution(reference)


def test_select_by_category_and_name() -> None:
    found = load_constitution("default")
    honest = found.select(categories=["honesty"])
    assert {p.category for p in honest.principles} == {"honesty"}
    both = found.select(categories=["honesty"], names=["factual_accuracy", "clarity"])
    assert both.names == ("factual_accuracy",)
    assert found.select() is found
    assert both.digest != found.digest


@pytest.mark.parametrize(
    ("categories", "names", "said"),
    [
        (None, ["clarity", "b", "a"], "unknown principle 'a', 'b'"),
        (["honest"], None, "unknown category 'honest'"),
        ([], None, "leaves no principle"),
        (None, [], "leaves no principle"),
        (["honesty"], ["clarity"], "leaves no principle"),
    ],
)
def test_select_refuses_unknown_and_empty(
    categories: list[str] | None, names: list[str] | None, said: str
) -> None:
    with pytest.raises(ContractError, match=said):
        load_constitution("default").select(categories, names)


def test_principle_by_name() -> None:
    assert load_constitution("default").principle("clarity").weight == 0.8
    with pytest.raises(ContractError, match="no principle 'clear'; it has: task_completion"):
        load_constitution("default").principle("clear")


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), True, "2"])
def test_weight_is_finite_and_positive(weight: object) -> None:
    with pytest.raises(ValidationError):
        make_principle("p", weight)  # type: ignore[arg-type]


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError):
        make_principle("p").weight = 2.0  # type: ignore[misc]


def test_draw_is_the_same_everywhere() -> None:
    """Known values: another Python, platform or hash seed (new in each run) draws the same."""
    found = load_constitution("default")
    drawn = [[p.name for p in found.draw(7, key, 2)] for key in ("job:1", "job:2", "job:3")]
    assert drawn == [
        ["legal_compliance", "no_harmful_content"],
        ["factual_accuracy", "source_attribution"],
        ["relevance", "legal_compliance"],
    ]


def test_draw_depends_on_seed_and_key_and_not_on_their_seam() -> None:
    found = load_constitution("default")

    def sequence(seed: int, prefix: str) -> list[str]:
        return [found.draw(seed, f"{prefix}{i}")[0].name for i in range(30)]

    assert sequence(1, "") != sequence(2, "")
    assert sequence(1, "") != sequence(1, "x")
    assert [found.draw(1, f"1{i}")[0] for i in range(30)] != [
        found.draw(11, f"{i}")[0] for i in range(30)
    ]


def test_draw_ignores_the_order_of_the_file() -> None:
    found = load_constitution("default")
    turned = Constitution(name="t", version="1", principles=found.principles[::-1])
    for i in range(50):
        assert found.draw(0, str(i), 3) == turned.draw(0, str(i), 3)


@pytest.mark.parametrize("k", [0, -1, 12])
def test_draw_refuses_a_count_out_of_range(k: int) -> None:
    with pytest.raises(ContractError, match=f"cannot draw {k} of 11"):
        load_constitution("default").draw(0, "key", k)


@settings(max_examples=15, deadline=None)
@given(
    weights=st.lists(st.floats(0.05, 20.0), min_size=2, max_size=6),
    seed=st.integers(0, 2**31 - 1),
)
def test_draw_respects_the_weights(weights: list[float], seed: int) -> None:
    found = make_constitution(*(make_principle(f"p{i}", w) for i, w in enumerate(weights)))
    draws = 600
    counts = Counter(found.draw(seed, str(i))[0].name for i in range(draws))
    for principle in found.principles:
        share = principle.weight / sum(weights)
        # Six standard errors, and one draw for the rarest.
        bound = 6 * sqrt(share * (1 - share) / draws) + 1 / draws
        assert abs(counts[principle.name] / draws - share) <= bound


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 8), data=st.data())
def test_draw_is_without_replacement(count: int, data: st.DataObject) -> None:
    found = make_constitution(*(make_principle(f"p{i}", i + 0.5) for i in range(count)))
    k = data.draw(st.integers(1, count))
    drawn = found.draw(data.draw(st.integers(0, 999)), "key", k)
    assert len({p.name for p in drawn}) == k


def test_digest_depends_on_content_only() -> None:
    one, two = make_principle("p", 1.0), make_principle("p", 1)
    assert make_constitution(one).digest == make_constitution(two).digest
    assert make_constitution(one).digest != make_constitution(make_principle("p", 1.1)).digest
    assert isclose(one.weight, two.weight)
