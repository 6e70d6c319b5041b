"""From token probabilities to the distribution over a closed list of choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from workers.engines import Distribution, Usage
from workers.engines.packing import Segment
from workers.engines.tokenising import TokenisedChoose


def choose_segments(payload: TokenisedChoose, shared_tokens: int, root: int) -> list[Segment]:
    """What has to be computed: the prompt's end, and the beginnings of choices longer than a token.

    Args:
        payload: The tokenised request.
        shared_tokens: Leading prompt tokens that are computed already.
        root: Index the first of these segments will have among all segments of the pass.
    """
    branches = [
        Segment(choice[:-1], parent=root, wanted=len(choice) - 1)
        for choice in payload.choices
        if len(choice) > 1
    ]
    return [Segment(payload.prompt.tokens[shared_tokens:]), *branches]


def distribution(
    payload: TokenisedChoose, scores: Iterator[Tensor], cached_tokens: int
) -> Distribution:
    """Read one request's answer off the scores of its segments, in the order they were packed.

    A choice's probability is the product over its tokens. Where one choice begins another, the
    shorter one's excludes the longer one's, so that all masses are disjoint.

    Args:
        payload: The tokenised request.
        scores: Log-probabilities per segment; exactly this request's segments are taken from it.
        cached_tokens: Prompt tokens that were not computed for this request.
    """
    root = next(scores)[-1]
    logs = [
        float(root[choice[0]]) + (_continued(next(scores), choice[1:]) if len(choice) > 1 else 0.0)
        for choice in payload.choices
    ]
    masses = _disjoint(payload.choices, torch.tensor(logs, dtype=torch.float64).exp().tolist())
    total = sum(masses)
    # All masses may underflow together; their logarithms still tell them apart.
    normal = (
        [mass / total for mass in masses]
        if total > 0
        else torch.tensor(logs, dtype=torch.float64).softmax(dim=-1).tolist()
    )
    scored = sum(len(choice) - 1 for choice in payload.choices)
    usage = Usage(len(payload.prompt.tokens) + scored, 0, cached_tokens)
    return Distribution(tuple(normal), min(1.0, max(0.0, 1.0 - total)), usage)


def _continued(scores: Tensor, tokens: Sequence[int]) -> float:
    index = torch.tensor(tokens, device=scores.device)[:, None]
    return float(scores.gather(1, index).sum())


def _disjoint(choices: Sequence[tuple[int, ...]], masses: Sequence[float]) -> list[float]:
    def longer(choice: tuple[int, ...]) -> float:
        return sum(
            mass
            for other, mass in zip(choices, masses, strict=True)
            if len(other) > len(choice) and other[: len(choice)] == choice
        )

    return [max(0.0, mass - longer(choice)) for choice, mass in zip(choices, masses, strict=True)]
