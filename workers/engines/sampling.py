"""Draw the next token of every row, each row from its own random stream.

Draws are exponential races (Gumbel-max): a token wins where its probability divided by its own
noise is greatest. Rounding then changes an answer only where two tokens tie, while inverting a
cumulative sum would slip to a neighbour of a tail token at the least change of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Nuclei are almost always smaller than this; wider ones take the full sort.
_TOP_TOKENS = 1024


@dataclass(slots=True)
class Sampler:
    """How one row draws: temperature (0 is greedy), nucleus mass and its random stream."""

    temperature: float
    top_p: float
    stream: torch.Generator

    @classmethod
    def seeded(cls, temperature: float, top_p: float, seed: int, device: torch.device) -> Sampler:
        """A sampler whose draws depend on the seed alone; any integer serves as seed."""
        stream = torch.Generator(device=device).manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)
        return cls(temperature, top_p, stream)


def draw_tokens(scores: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """One token id per row of ``scores`` ``[rows, vocabulary]`` (logits or log-probabilities)."""
    tokens = scores.argmax(dim=-1)
    drawn = [i for i, sampler in enumerate(samplers) if sampler.temperature > 0]
    if drawn:
        tokens[drawn] = _draw(scores[drawn], [samplers[i] for i in drawn])
    listed: list[int] = tokens.tolist()
    return listed


def _draw(scores: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    temperatures = _column([sampler.temperature for sampler in samplers], scores.device)
    probabilities = (scores.float() / temperatures).softmax(dim=-1)
    nuclei = [i for i, sampler in enumerate(samplers) if sampler.top_p < 1]
    if nuclei:
        top_p = _column([samplers[i].top_p for i in nuclei], scores.device)
        probabilities[nuclei] = _nucleus(probabilities[nuclei], top_p)
    noise = torch.empty_like(probabilities)
    for row, sampler in zip(noise, samplers, strict=True):
        row.exponential_(generator=sampler.stream)
    return (probabilities / noise).argmax(dim=-1)


def _nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Nothing but the smallest set of likeliest tokens that holds ``top_p``; not normalised."""
    ordered = probabilities.topk(min(_TOP_TOKENS, probabilities.shape[-1]), dim=-1).values
    if bool((ordered.sum(dim=-1, keepdim=True) < top_p).any()):
        ordered = probabilities.sort(dim=-1, descending=True).values
    inside = ordered.cumsum(dim=-1) - ordered < top_p
    least = ordered.masked_fill(~inside, torch.inf).amin(dim=-1, keepdim=True)
    return probabilities.masked_fill(probabilities < least, 0.0)


def _column(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None]
