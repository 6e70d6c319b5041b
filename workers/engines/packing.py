"""Prefill: many token sequences in one forward pass, each seeing only its own ancestors.

Sequences lie behind each other in a single row. A segment may continue another one (its parent)
or a prefix whose keys and values are known, which is therefore never computed again.
This room runs the model's forward; it samples nothing and knows no request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.engines.attention import Layout, Stretch, laid_out
from workers.engines.exact_logits import ExactHead
from workers.engines.kv_cache import LayerStates, PackedCache, Prefix


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens to compute.

    Attributes:
        tokens: One or more token ids.
        parent: Index of the segment this one continues, an earlier one in the list.
        prefix: Index of the known prefix it continues; without either it begins at position 0.
        wanted: How many of its last tokens need logits.
    """

    tokens: Sequence[int]
    parent: int | None = None
    prefix: int | None = None
    wanted: int = 1


@dataclass(frozen=True, slots=True)
class Packed:
    """Outcome of one prefill.

    Attributes:
        log_probabilities: Per segment ``[wanted, vocabulary]``, computed in float32.
        states: Per segment, per layer: keys and values of its tokens, as views.
    """

    log_probabilities: list[Tensor]
    states: list[tuple[LayerStates, ...]]


class Prefiller:
    """Run packed prefills on one model."""

    def __init__(self, model: Any, layers: int, device: torch.device) -> None:
        self._model = model
        self._layers = layers
        self._device = device
        self._head = ExactHead(model)

    def run(self, prefixes: Sequence[Prefix], segments: Sequence[Segment]) -> Packed:
        """Compute all segments in one forward pass."""
        plan = _Plan.of(prefixes, segments, self._device)
        cache = PackedCache(self._layers, prefixes)
        with laid_out(plan.layout), self._head.in_use():
            output = self._model(
                input_ids=plan.tokens,
                position_ids=plan.positions,
                attention_mask=plan.no_mask,
                cache=cache,
                use_cache=True,
                logits_to_keep=plan.wanted,
            )
        scores = output.logits[0].float().log_softmax(dim=-1)
        return Packed(
            list(scores.split([segment.wanted for segment in segments])),
            [_sliced(cache.states(), s.start, s.start + s.length) for s in plan.stretches],
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    tokens: Tensor
    positions: Tensor
    no_mask: Tensor | None
    layout: Layout | None
    wanted: Tensor
    stretches: list[Stretch]

    @classmethod
    def of(
        cls, prefixes: Sequence[Prefix], segments: Sequence[Segment], device: torch.device
    ) -> _Plan:
        stretches = _stretches(prefixes, segments)
        positions = [
            len(stretch.ancestors) + offset
            for stretch in stretches
            for offset in range(stretch.length)
        ]
        wanted = [
            place
            for stretch, segment in zip(stretches, segments, strict=True)
            for place in range(
                stretch.start + stretch.length - segment.wanted, stretch.start + stretch.length
            )
        ]
        # One sequence by itself is plain causal attention, which has a kernel of its own.
        plain = len(segments) == 1 and not prefixes
        return cls(
            tokens=torch.tensor([[t for s in segments for t in s.tokens]], device=device),
            positions=torch.tensor([positions], device=device),
            # The blocks bring masks of their own; this keeps transformers from making one.
            no_mask=None if plain else torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device),
            layout=None if plain else Layout.of(stretches, device),
            wanted=torch.tensor(wanted, device=device),
            stretches=stretches,
        )


def _stretches(prefixes: Sequence[Prefix], segments: Sequence[Segment]) -> list[Stretch]:
    known: list[tuple[int, ...]] = []
    before = 0
    for prefix in prefixes:
        known.append(tuple(range(before, before + len(prefix.tokens))))
        before += len(prefix.tokens)
    stretches: list[Stretch] = []
    start = 0
    for segment in segments:
        ancestors: tuple[int, ...] = ()
        if segment.parent is not None:
            ancestors = tuple(stretches[segment.parent].keys)
        elif segment.prefix is not None:
            ancestors = known[segment.prefix]
        stretches.append(Stretch(start, len(segment.tokens), ancestors, before))
        start += len(segment.tokens)
    return stretches


def _sliced(states: tuple[LayerStates, ...], start: int, end: int) -> tuple[LayerStates, ...]:
    return tuple((keys[:, :, start:end], values[:, :, start:end]) for keys, values in states)
