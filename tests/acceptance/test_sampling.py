"""Draws follow the distribution they are asked for, whatever the rows beside them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from workers.engines.sampling import Sampler, draw_tokens  # noqa: E402

PROBABILITIES = (0.5, 0.25, 0.15, 0.07, 0.03)
CPU = torch.device("cpu")


def draws(count: int, temperature: float = 1.0, top_p: float = 1.0) -> list[int]:
    scores = torch.tensor(PROBABILITIES).log().repeat(count, 1)
    samplers = [Sampler.seeded(temperature, top_p, seed, CPU) for seed in range(count)]
    return draw_tokens(scores, samplers)


def shares(tokens: list[int]) -> list[float]:
    return [tokens.count(token) / len(tokens) for token in range(len(PROBABILITIES))]


def test_draws_follow_the_probabilities() -> None:
    # Four standard errors of the largest share at 4,000 draws.
    assert shares(draws(4000)) == pytest.approx(PROBABILITIES, abs=0.032)


def test_temperature_sharpens() -> None:
    squared = [p * p for p in PROBABILITIES]
    expected = [p / sum(squared) for p in squared]
    assert shares(draws(4000, temperature=0.5)) == pytest.approx(expected, abs=0.032)


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.5, 1), (0.6, 2), (0.89, 3), (0.99, 5)])
def test_the_nucleus_is_the_smallest_set_that_holds_its_mass(top_p: float, kept: int) -> None:
    assert set(draws(2000, top_p=top_p)) == set(range(kept))


def test_a_nucleus_wider_than_the_short_cut_is_exact() -> None:
    scores = torch.zeros(200, 3000)
    samplers = [Sampler.seeded(1.0, 0.9, seed, CPU) for seed in range(200)]
    assert max(draw_tokens(scores, samplers)) > 1024


def test_temperature_zero_is_the_likeliest_token() -> None:
    assert draws(3, temperature=0.0) == [0, 0, 0]


def test_a_row_draws_the_same_alone_and_in_a_crowd() -> None:
    scores = torch.randn(6, 500, generator=torch.Generator().manual_seed(1))

    def stream(seed: int) -> Sampler:
        return Sampler.seeded(1.0, 0.95 if seed % 2 else 1.0, seed, CPU)

    together = draw_tokens(scores, [stream(seed) for seed in range(6)])
    alone = [draw_tokens(scores[seed : seed + 1], [stream(seed)])[0] for seed in range(6)]
    assert together == alone
