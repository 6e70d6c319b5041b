"""From token log-probabilities to the distribution over a closed list of choices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.engines import Distribution, Usage
from workers.engines.masses import normalised
from workers.engines.tokenising import TokenisedChoose


def branches(payload: TokenisedChoose) -> tuple[tuple[int, ...], ...]:
    """What has to be computed beyond the prompt: choices longer than a token, but their last."""
    return tuple(choice[:-1] for choice in payload.choices if len(choice) > 1)


def distribution(
    payload: TokenisedChoose, scores: Sequence[Tensor], cached_tokens: int
) -> Distribution:
    """Read one request's answer off the scores of its prompt's end and of its branches.

    A choice's probability is the product over its tokens.

    Args:
        payload: The tokenised request.
        scores: Log-probabilities after the prompt ``[1, vocabulary]``, then of each branch.
        cached_tokens: Prompt tokens that were not computed for this request.
    """
    root, later = scores[0][-1], iter(scores[1:])
    logs = [
        float(root[choice[0]]) + (_continued(next(later), choice[1:]) if len(choice) > 1 else 0.0)
        for choice in payload.choices
    ]
    probabilities, outside_mass = normalised(payload.choices, logs)
    scored = sum(len(choice) - 1 for choice in payload.choices)
    usage = Usage(len(payload.prompt.tokens) + scored, 0, cached_tokens)
    return Distribution(probabilities, outside_mass, usage)


def _continued(scores: Tensor, tokens: Sequence[int]) -> float:
    index = torch.tensor(tokens, device=scores.device)[:, None]
    return float(scores.gather(1, index).sum())
