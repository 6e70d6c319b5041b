"""Prefill: many token sequences in one forward pass, each seeing only its own ancestors.

Sequences lie behind each other in a single row. A segment may continue another one (its parent)
and all may continue one shared prefix, which is therefore computed once and never copied.
This room runs the model's forward; it samples nothing and knows no request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.engines.kv_cache import LayerStates, PackedCache, Prefix


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens to compute.

    Attributes:
        tokens: One or more token ids.
        parent: Index of the segment this one continues, an earlier one in the list; None where it
            continues the shared prefix, or begins at position 0 without one.
        wanted: How many of its last tokens need logits.
    """

    tokens: Sequence[int]
    parent: int | None = None
    wanted: int = 1


@dataclass(frozen=True, slots=True)
class Packed:
    """Outcome of one prefill.

    Attributes:
        log_probabilities: Per segment ``[wanted, vocabulary]``, float32.
        states: Per segment, per layer: keys and values of its tokens.
    """

    log_probabilities: list[Tensor]
    states: list[tuple[LayerStates, ...]]


class Prefiller:
    """Run packed prefills on one model."""

    def __init__(self, model: Any, layers: int, device: torch.device) -> None:
        self._model = model
        self._layers = layers
        self._device = device

    def prefix(self, tokens: Sequence[int]) -> Prefix:
        """Compute a prefix by itself, for keeping."""
        states = self.run(None, [Segment(tokens, wanted=1)]).states[0]
        # Own memory: a view would keep the whole forward's tensors alive.
        kept = tuple((k.contiguous().clone(), v.contiguous().clone()) for k, v in states)
        return Prefix(tuple(tokens), kept)

    def run(self, prefix: Prefix | None, segments: Sequence[Segment]) -> Packed:
        """Compute all segments in one forward pass."""
        layout = _Layout.of(segments, len(prefix.tokens) if prefix else 0, self._device)
        cache = PackedCache(self._layers, prefix)
        output = self._model(
            input_ids=layout.tokens,
            position_ids=layout.positions,
            attention_mask=layout.mask,
            cache=cache,
            use_cache=True,
            logits_to_keep=layout.wanted,
        )
        scores = output.logits[0].float().log_softmax(dim=-1)
        return Packed(
            list(scores.split([segment.wanted for segment in segments])),
            [_sliced(cache.states(), start, end) for start, end in layout.spans],
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    tokens: Tensor
    positions: Tensor
    mask: Tensor | None
    wanted: Tensor
    spans: list[tuple[int, int]]

    @classmethod
    def of(cls, segments: Sequence[Segment], prefix_tokens: int, device: torch.device) -> _Layout:
        spans = list(_spans(segments))
        starts = _start_positions(segments, prefix_tokens)
        positions = [
            start + offset
            for start, segment in zip(starts, segments, strict=True)
            for offset in range(len(segment.tokens))
        ]
        wanted = [
            i
            for (_, end), segment in zip(spans, segments, strict=True)
            for i in range(end - segment.wanted, end)
        ]
        row = torch.tensor(positions, device=device)
        return cls(
            tokens=torch.tensor([[t for s in segments for t in s.tokens]], device=device),
            positions=row[None],
            mask=_mask(segments, row, prefix_tokens),
            wanted=torch.tensor(wanted, device=device),
            spans=spans,
        )


def _spans(segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    start = 0
    for segment in segments:
        yield start, start + len(segment.tokens)
        start += len(segment.tokens)


def _start_positions(segments: Sequence[Segment], prefix_tokens: int) -> list[int]:
    starts: list[int] = []
    for segment in segments:
        if segment.parent is None:
            starts.append(prefix_tokens)
        else:
            starts.append(starts[segment.parent] + len(segments[segment.parent].tokens))
    return starts


def _mask(segments: Sequence[Segment], positions: Tensor, prefix_tokens: int) -> Tensor | None:
    """``[1, 1, new, prefix + new]``, True where a token may look; None for plain causal."""
    if len(segments) == 1 and not prefix_tokens:
        return None
    device = positions.device
    lengths = torch.tensor([len(segment.tokens) for segment in segments], device=device)
    owner = torch.arange(len(segments), device=device).repeat_interleave(lengths)
    related = _ancestry(segments).to(device)[owner][:, owner]
    own = related & (positions[None, :] <= positions[:, None])
    before = torch.ones((len(positions), prefix_tokens), dtype=torch.bool, device=device)
    return torch.cat((before, own), dim=1)[None, None]


def _ancestry(segments: Sequence[Segment]) -> Tensor:
    related = torch.eye(len(segments), dtype=torch.bool)
    for index, segment in enumerate(segments):
        if segment.parent is not None:
            related[index] |= related[segment.parent]
    return related


def _sliced(states: tuple[LayerStates, ...], start: int, end: int) -> tuple[LayerStates, ...]:
    return tuple((keys[:, :, start:end], values[:, :, start:end]) for keys, values in states)
