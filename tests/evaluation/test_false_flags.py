"""How often the bias report is right and wrong on real texts: ``make test-data``.

Labellers with a known habit must be flagged, and what has none may be in 5 of 100 cases: the
level is that of the whole report, so that of 200 replications 10 are expected and chance adds to
them. The bounds are the counts that chance exceeds once in a thousand times.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from scipy.stats import binom

from analysis.bias import BiasReport, feature_differences, measure, value_of
from analysis.statistics.logistic import coefficients
from tests.evaluation.test_real_judges import lines
from tests.evaluation.test_real_judges import pytestmark as pytestmark

FILES = (
    "pandalm_human3.jsonl",
    "hh_rlhf_helpful.jsonl",
    "hh_rlhf_harmless.jsonl",
    "llmbar_casestudy_pairs.jsonl",
    "truthfulqa_pairs.jsonl",
)
REPLICATIONS = 200
MOST = int(binom.ppf(0.999, REPLICATIONS, 0.05))


class World:
    """The pairs of a file: people's labels and the leads in style."""

    def __init__(self, name: str) -> None:
        self.rows = lines(name)
        self.human = [row["human_preference"] for row in self.rows]
        texts = [(row["response_a"], row["response_b"]) for row in self.rows]
        self.leads = feature_differences(texts)
        prompts = pl.Series("group", [row["prompt"] for row in self.rows])
        self.group = prompts.rank("dense") - 1

    def report(self, human: list[str] | None, ab: list[str], ba: list[str]) -> BiasReport:
        labels = {"human": human or [None] * len(ab), "v_ab": ab, "v_ba": ba, "no_order": False}
        paired = pl.DataFrame(labels, schema_overrides={"human": pl.String})
        return measure(paired.with_columns(self.group), self.leads)

    def drawn(self, p_a: np.ndarray, generator: np.random.Generator) -> list[str]:
        return np.where(generator.uniform(size=len(p_a)) < p_a, "A", "B").tolist()


def flagged(report: BiasReport) -> list[str]:
    return [each.name for each in report.dimensions if each.is_flagged]


@pytest.fixture(params=FILES, scope="module")
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def test_habits_are_flagged(world: World) -> None:
    n = len(world.rows)
    assert n >= 200
    longer = ["A" if lead > 0 else "B" if lead < 0 else "tie" for lead in world.leads[:, 0]]
    assert "length" in flagged(world.report(world.human, longer, longer))
    first = world.report(world.human, ["A"] * n, ["B"] * n)
    assert first.position.first_share.low > 0.9  # type: ignore[operator]
    assert first.position_term.low > 0
    assert flagged(first) == []


@pytest.mark.parametrize("has_people", [True, False])
def test_a_coin_is_seldom_flagged(world: World, has_people: bool) -> None:
    even, flags = np.full(len(world.rows), 0.5), 0
    for seed in range(REPLICATIONS):
        generator = np.random.default_rng(seed)
        coins = world.drawn(even, generator), world.drawn(even, generator)
        flags += bool(flagged(world.report(world.human if has_people else None, *coins)))
    assert flags <= MOST


def test_people_are_seldom_flagged(world: World) -> None:
    """Two people with the preferences that this file's people have, judging apart."""
    said = value_of(pl.Series(world.human))
    p_a = expit(world.leads @ coefficients(world.leads, said, np.ones(len(said))))
    flags = 0
    for seed in range(REPLICATIONS):
        generator = np.random.default_rng(seed)
        human, other = world.drawn(p_a, generator), world.drawn(p_a, generator)
        flags += bool(flagged(world.report(human, other, other)))
    assert flags <= MOST
    assert flagged(world.report(world.human, world.human, world.human)) == []


def test_one_annotator_is_seldom_flagged_against_another() -> None:
    world, flags = World("pandalm_human3.jsonl"), 0
    votes = np.array([row["meta"]["annotators"] for row in world.rows])
    at = np.arange(len(votes))
    for seed in range(REPLICATIONS):
        generator = np.random.default_rng(seed)
        one = generator.integers(0, 3, len(votes))
        other = (one + generator.integers(1, 3, len(votes))) % 3
        judge = votes[at, other].tolist()
        flags += bool(flagged(world.report(votes[at, one].tolist(), judge, judge)))
    assert flags <= MOST
