"""Agreement of people and a judge: hand-worked tables, several raters, categories."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from analysis.agreement import agree, alpha, consensus, disagreements
from analysis.judgement_commands import agreement
from analysis.same_pairs import paired_difference, same_pairs


def labels(*rows: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame([{"pair_id": str(n), "human": h, "ai": a} for n, (h, a) in enumerate(rows)])


def test_by_hand() -> None:
    rows = [("A", "A")] * 4 + [("A", "B")] * 1 + [("B", "B")] * 3 + [("tie", "A"), ("B", "-")]
    found = agree(labels(*rows))
    assert (found.n, found.unreadable) == (9, 1)
    assert found.table == ((4, 0, 1), (1, 0, 0), (0, 0, 3))
    assert found.with_ties.value == pytest.approx(7 / 9)
    assert (found.decided.value, found.decided.n) == (pytest.approx(7 / 8), 8)
    # Expected: A 5/9 * 5/9, tie 1/9 * 0, B 3/9 * 4/9 = 37/81.
    assert found.kappa.value == pytest.approx((7 / 9 - 37 / 81) / (1 - 37 / 81))


def test_alpha_of_the_textbook() -> None:
    """Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section A: 0.095.

    By hand: 4 of 10 units differ, 14 A and 6 B: 1 - 0.4 / (2 * 14 * 6 / (20 * 19)).
    """
    first = ["A", "B", "A", "B", "A", "A", "A", "A", "A", "A"]
    second = ["B", "B", "B", "A", "A", "B", "A", "A", "A", "A"]
    found = alpha(pl.Series([[a, b] for a, b in zip(first, second, strict=True)]))
    assert found.value == pytest.approx(0.095, abs=0.001)


def test_alpha_of_one_label_only_is_undefined() -> None:
    assert alpha(pl.Series([["A", "A"], ["A", None]])).value is None


def test_mcnemar_by_hand() -> None:
    human = pl.Series(["A"] * 12)
    first = pl.Series(["A"] * 10 + ["B"] * 2)
    second = pl.Series(["B"] * 8 + ["A"] * 4)
    # First alone right 8 times, second alone twice: 2 * P(X <= 2 | 10, 0.5) = 112 / 1024.
    found = same_pairs(first, second, human)
    assert found.p == pytest.approx(112 / 1024)
    assert (found.n, found.only_first, found.only_second) == (12, 8, 2)
    assert found.difference.value == pytest.approx(6 / 12)
    # (8.5 - 2.5) / 14, error sqrt(11 - 36 / 14) / 14 = 0.20736.
    assert found.difference.low == pytest.approx(6 / 14 - 1.95996 * 0.20736, abs=1e-4)
    assert same_pairs(first, first, human).p is None


def test_an_unreadable_label_of_either_leaves_the_pair_out() -> None:
    human = pl.Series(["A", "A", "B"])
    found = same_pairs(pl.Series(["A", "-", "B"]), pl.Series(["B", "A", "-"]), human)
    assert (found.n, found.only_first, found.only_second) == (1, 1, 0)
    assert paired_difference(0, 0, 0).value is None


def test_a_consensus_trusts_the_rater_who_agrees_with_the_others() -> None:
    votes: list[list[str | None]] = []
    for number in range(60):
        truth = "AB"[number % 2]
        other = "BA"[number % 2]
        # Two good raters, and one who is wrong most of the time.
        votes.append([truth, truth if number % 10 else other, other if number % 3 else truth])
    votes.append(["A", None, "B"])
    found = consensus(votes)
    assert found[-1]["A"] > 0.9
    for number, belief in enumerate(found[:-1]):
        assert max(belief, key=lambda label: belief[label]) == "AB"[number % 2]
        assert sum(belief.values()) == pytest.approx(1)


def test_each_disagreement_has_its_evidence() -> None:
    frame = pl.DataFrame(
        {
            "pair_id": ["1", "2", "3", "4", "5", "6", "7"],
            "human": ["A", "A", "A", "tie", "A", "A", "A"],
            "ai": ["B", "B", "B", "A", "tie", "B", "A"],
            "consistent": [True, False, True, True, True, True, True],
            "confidence": [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9],
            "annotators": [["A", "B", "A"], [], [], [], [], [], []],
        },
        schema_overrides={"annotators": pl.List(pl.String)},
    )
    found = disagreements(frame)
    assert found["category"].to_list() == [
        "subjective", "position", "judge unsure", "judge decides, people do not",
        "people decide, judge does not", "different criteria",
    ]  # fmt: skip
    assert found["evidence"][2] == "confidence 0.10"


def test_patterns_with_counts_are_the_pairs_one_by_one() -> None:
    patterns = [["A", "A", "B"], ["B", "B", "B"], ["A", "tie", "A"], ["A"]]
    counts = [3, 4, 2, 1]
    pairs = [pattern for pattern, n in zip(patterns, counts, strict=True) for _ in range(n)]
    one_by_one = consensus(pairs)
    counted = consensus(patterns, counts)
    assert counted[1] == pytest.approx(one_by_one[3])
    assert counted[3] == pytest.approx(one_by_one[-1])


def test_the_command_compares_two_labellers(tmp_path: Path) -> None:
    pairs, first, second = (tmp_path / name for name in ("p", "a", "b"))
    texts = {"prompt": "p", "response_a": "a", "response_b": "b", "human_preference": "A"}
    pairs.write_text("".join(json.dumps({"id": f"{n}", **texts}) + "\n" for n in range(12)))
    for path, right in ((first, range(10)), (second, range(8, 12))):
        said = [(n, order) for n in range(12) for order in ("AB", "BA")]
        rows = [
            {"pair_id": f"{n}", "order": o, "p_first": float((n in right) == (o == "AB"))}
            for n, o in said
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--pairs", str(pairs), "--ai", str(first), "--against", str(second)]
    done = CliRunner().invoke(agreement, options, catch_exceptions=False)
    text = " ".join(done.stdout.split())
    assert "on the 12 pairs that both labelled: right 83.3 %" in text
    assert "alone right 8 against 2, McNemar's exact p 0.1094" in text
    out = tmp_path / "found.json"
    CliRunner().invoke(agreement, [*options, "--json", str(out)], catch_exceptions=False)
    found = json.loads(out.read_text())
    assert found["against"]["p"] == pytest.approx(112 / 1024)
    assert found["categories"] == {"different criteria": 2}
