"""Judging without servers: both orders of each pair, and a certificate of what was said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from schemas.judged_pairs import JudgedPair, lines_of
from workers.cli import judge


def files(folder: Path, **model: object) -> tuple[Path, Path]:
    config, pairs = folder / "config.yaml", folder / "pairs.jsonl"
    roles = dict.fromkeys(("policy", "critic", "judge"), "m")
    chosen = {"engine": "scripted", "model": "rules", **model}
    config.write_text(yaml.safe_dump({"models": {"m": chosen}, "roles": roles}))
    rows = [
        {"id": "good", "response_a": "fine [[quality:0.9]]", "response_b": "bad [[quality:0.1]]"},
        {"id": "same", "response_a": "equal  text", "response_b": "equal text"},
    ]
    with pairs.open("w") as file:
        for row in rows:
            file.write(json.dumps({"prompt": "Hello?", "human_preference": "A", **row}) + "\n")
    return config, pairs


def judged(folder: Path, *options: str, **model: object) -> list[JudgedPair]:
    config, pairs = files(folder, **model)
    out = folder / "verdicts.jsonl"
    arguments = ["--pairs", str(pairs), "--config", str(config), "--out", str(out), *options]
    done = CliRunner().invoke(judge, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return [said for _, said in lines_of(out, JudgedPair)]


def test_each_pair_is_judged_in_both_orders(tmp_path: Path) -> None:
    said = {(each.pair_id, each.order): each for each in judged(tmp_path)}
    assert len(said) == 4
    both = [said["good", order] for order in ("AB", "BA")]
    for each in both:
        assert each.p_a is not None
        assert each.input_tokens is not None
        assert each.input_tokens > 0
        assert each.prompt_version
    assert both[0].p_first == pytest.approx(both[0].p_a)
    assert both[1].p_first == pytest.approx(1 - both[1].p_a)  # type: ignore[operator]


def test_nobody_is_asked_about_identical_responses(tmp_path: Path) -> None:
    same = [each for each in judged(tmp_path) if each.pair_id == "same"]
    assert [each.p_a for each in same] == [0.5, 0.5]
    assert all(each.input_tokens is None for each in same)


def test_a_limit_takes_the_first_pairs(tmp_path: Path) -> None:
    assert {each.pair_id for each in judged(tmp_path, "--limit", "1")} == {"good"}


def test_prices_are_those_of_the_configuration(tmp_path: Path) -> None:
    prices = {"input_usd_per_1k_tokens": 1.0, "output_usd_per_1k_tokens": 1.0}
    asked = [each for each in judged(tmp_path, **prices) if each.pair_id == "good"]
    for each in asked:
        assert each.cost_usd == pytest.approx((each.input_tokens or 0) / 1000)
