"""Mitigation: what is taken away is the judge's and not people's, and held-out pairs prove it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import expit

from analysis.bias_commands import bias
from analysis.mitigation import (
    Items,
    effective_size,
    folds_of,
    mitigate,
    value_of,
    weights_to,
)
from analysis.mitigation_proof import prove
from analysis.statistics.logistic import coefficients
from analysis.text_features import DIMENSIONS
from schemas.cli import main

N = 1000


def world(
    *,
    excess: float,
    people: float = 0.5,
    words: bool = False,
    seed: int = 0,
    position: float = 0.0,
) -> Items:
    """People like length a little; the judge sees what they like, and ``excess`` more length."""
    generator = np.random.default_rng(seed)
    leads = generator.normal(size=(N, 5))
    merit = generator.logistic(size=N) + people * leads[:, 0]
    said = merit + excess * leads[:, 0] + generator.normal(size=N)
    p = [expit(said + shown + 0.3 * generator.normal(size=N)) for shown in (position, -position)]
    if words:
        p = [value_of(each) for each in p]
    return Items(DIMENSIONS, leads, (merit > 0) * 1.0, p[0], p[1], np.arange(N))


def coefficient(items: Items, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    given = np.ones(N) if weights is None else weights
    return float(coefficients(items.leads, labels, given)[0])


@pytest.mark.parametrize("words", [False, True])
def test_length_is_taken_away_as_far_as_people_do_not_share_it(words: bool) -> None:
    items = world(excess=1.0, words=words)
    people = coefficient(items, items.human)
    made = mitigate(items, "length")
    assert coefficient(items, made.before.value) > people + 0.4
    assert coefficient(items, made.after.value) == pytest.approx(people, abs=0.15)
    found = prove(made)
    assert found.helped
    (length,) = found.biases
    assert length.after.low <= 0 <= length.after.high
    assert length.change.value == pytest.approx(length.after.value - length.before.value)
    assert found.agreement_change.high > 0


def test_weights_make_labels_follow_length_as_people_do() -> None:
    items = world(excess=0.7)
    people = coefficient(items, items.human)
    made = mitigate(items, "reweight")
    assert np.array_equal(made.after.p_a, items.p_a)
    weighted = coefficient(items, made.after.value, made.after.weight)
    assert weighted == pytest.approx(people, abs=0.15)
    found = prove(made)
    assert found.effective_n == pytest.approx(effective_size(made.after.weight)) != N


def test_both_orders_leave_no_position_bias() -> None:
    found = prove(mitigate(world(excess=0.0, position=1.0), "orders"))
    (position,) = found.biases
    assert position.before.low > 0.5
    assert position.after.value == pytest.approx(0, abs=0.01)
    assert (found.n, found.helped) == (N, True)
    assert found.verdict.startswith("helped: the position bias fell")


def test_where_there_is_no_bias_it_is_said_not_to_help() -> None:
    found = prove(mitigate(world(excess=0.0, people=0.0, seed=3), "length"))
    assert found.helped is False
    assert "no length bias beyond chance was there" in found.verdict


def test_a_judge_that_only_counts_words_is_not_mended() -> None:
    """Without length nothing is left of it: agreement falls or stays at chance."""
    items = world(excess=0.0)
    p_a = (items.leads[:, 0] > 0) * 1.0
    longer = Items(items.names, items.leads, items.human, p_a, p_a, items.group)
    found = prove(mitigate(longer, "length"))
    assert found.agreement_change.high < 0
    assert found.helped is False
    assert "agreement with people fell" in found.verdict


def test_without_people_nothing_is_claimed_of_agreement() -> None:
    items = world(excess=1.0)
    nobody = Items(
        items.names, items.leads, np.full(N, np.nan), items.p_ab, items.p_ba, items.group
    )
    found = prove(mitigate(nobody, "length"))
    assert found.helped is None
    assert found.agreement_after.value is None
    assert "the length preference fell" in found.verdict
    assert "agreement with people is not measured" in found.verdict


def test_a_label_depends_on_other_folds_only() -> None:
    items = world(excess=1.0)
    made = mitigate(items, "length")
    held = made.fold == 2
    flipped = np.where(held, 1 - items.human, items.human)
    other = Items(items.names, items.leads, flipped, items.p_ab, items.p_ba, items.group)
    assert np.array_equal(mitigate(other, "length").after.p_a[held], made.after.p_a[held])


def test_folds_keep_prompts_together_and_repeat_by_their_seed() -> None:
    group = np.repeat(np.arange(20), 3)
    fold = folds_of(group, 5, seed=1)
    assert all(len(set(fold[group == each])) == 1 for each in range(20))
    assert np.bincount(fold).tolist() == [12] * 5
    assert np.array_equal(fold, folds_of(group, 5, seed=1))
    with pytest.raises(ValueError, match="cannot be split"):
        folds_of(np.zeros(9, dtype=int), 2, seed=0)


def test_weights_by_hand() -> None:
    leads = np.array([[1.0], [1.0], [1.0], [8.0]])
    found = weights_to(leads, np.array([1.0, 0.0, 0.5, 0.0]), np.array([1.0]), np.array([0.0]))
    # 0.5 / 0.7311 and 0.5 / 0.2689; a tie; 0.5 / 0.0003 is held at 5.
    assert found == pytest.approx([0.6839, 1.8591, 1, 5], abs=1e-4)
    assert effective_size(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)


def test_votes_in_words_have_log_odds() -> None:
    said = np.array([1.0, 1.0, 0.5, 0.0]), np.array([1.0, 0.0, 0.5, 0.0])
    none = np.zeros((4, 5))
    items = Items(DIMENSIONS, none, np.full(4, np.nan), *said, np.arange(4))
    # Half a vote to either side: 2.5 of 3, 1.5 of 3, 0.5 of 3.
    assert expit(items.log_odds) == pytest.approx([2.5 / 3, 0.5, 0.5, 0.5 / 3])


def files(folder: Path, *, orders: tuple[str, ...] = ("AB", "BA")) -> list[str]:
    generator = np.random.default_rng(5)
    pairs, verdicts = folder / "pairs.jsonl", folder / "verdicts.jsonl"
    with pairs.open("w") as first, verdicts.open("w") as second:
        for number in range(240):
            counts = generator.integers(5, 80, 2)
            lead = float(np.log(counts[0] / counts[1]))
            merit = generator.logistic()
            texts = {f"response_{x}": "word " * n for x, n in zip("ab", counts, strict=True)}
            human = "A" if merit > 0 else "B"
            row = {"id": f"{number}", "prompt": f"q{number}", "human_preference": human, **texts}
            first.write(json.dumps(row) + "\n")
            for order in orders:
                p_a = float(expit(merit + 2 * lead + (order == "AB")))
                p_first = p_a if order == "AB" else 1 - p_a
                said = {"pair_id": f"{number}", "order": order, "p_first": p_first}
                second.write(json.dumps(said) + "\n")
    return ["--pairs", str(pairs), "--ai", str(verdicts)]


def test_the_command_proves_and_writes_labels(tmp_path: Path) -> None:
    out, numbers = tmp_path / "labels.jsonl", tmp_path / "n.json"
    options = [*files(tmp_path), "--mitigate", "all", "--labels-out", str(out)]
    done = CliRunner().invoke(bias, options, catch_exceptions=False)
    assert "length (240 pairs) helped: the length bias fell" in " ".join(done.stdout.split())
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 3 * 240
    assert {line["method"] for line in lines} == {"orders", "length", "reweight"}
    changed = [x for x in lines if x["method"] == "length" and x["label"] != x["label_before"]]
    assert changed
    assert all((x["p_a"] > 0.5) == (x["label"] == "A") for x in changed)
    again = [*options, "--json", str(numbers)]
    CliRunner().invoke(bias, again, catch_exceptions=False)
    assert [json.loads(line) for line in out.read_text().splitlines()] == lines
    assert [m["method"] for m in json.loads(numbers.read_text())["mitigations"]] == [
        "orders", "length", "reweight",
    ]  # fmt: skip


def test_one_order_cannot_be_mended_by_both(tmp_path: Path) -> None:
    options = ["bias", *files(tmp_path, orders=("AB",)), "--mitigate", "orders"]
    failed = CliRunner().invoke(main, options)
    assert failed.exit_code == 2
    assert "asked in one order only" in failed.stderr
    alone = CliRunner().invoke(main, ["bias", *options[1:5], "--labels-out", "x"])
    assert "name a way with --mitigate" in alone.stderr
