"""Attention of packed prompts: each sequence looks at its ancestors and itself, nothing else.

One dense mask over a pack spends most of its time on what it then masks. Here the sequences of a
pack are laid out as rows of small batches for the attention alone; the rest of the model still
sees one row. Registered with transformers under ``NAME``; without a layout it is plain SDPA.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "preceptor_packed"
# Rows of one block are padded to the longest; a shorter row than this share of it goes elsewhere.
_LEAST_SHARE = 0.6

_current = threading.local()


@dataclass(frozen=True, slots=True)
class Stretch:
    """One sequence of a pack.

    Attributes:
        start: Place of its first token in the pack.
        length: Its tokens.
        ancestors: Places, among all keys, of what it continues, in order.
        keys_before: Keys that stand before the pack's own.
    """

    start: int
    length: int
    ancestors: tuple[int, ...]
    keys_before: int

    @property
    def keys(self) -> list[int]:
        """Places of everything its last token looks at."""
        first = self.keys_before + self.start
        return [*self.ancestors, *range(first, first + self.length)]


@dataclass(frozen=True, slots=True)
class Block:
    """Sequences of similar length, as rows padded to the longest.

    Attributes:
        queries: ``[rows, longest]`` places in the pack; padding repeats a row's last token.
        keys: ``[rows, most keys]`` places among all keys.
        mask: ``[rows, 1, longest, most keys]``, True where a token may look.
        back: Flat places of the real tokens in ``queries``.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor
    back: Tensor

    @classmethod
    def of(cls, stretches: Sequence[Stretch], device: torch.device) -> Block:
        """The rows of some sequences."""
        longest = max(s.length for s in stretches)
        most = max(len(s.ancestors) + s.length for s in stretches)
        keys = torch.tensor([_padded(s.keys, most) for s in stretches], device=device)
        starts = torch.tensor([[s.start] for s in stretches], device=device)
        lengths = torch.tensor([[s.length] for s in stretches], device=device)
        before = torch.tensor([[[len(s.ancestors)]] for s in stretches], device=device)
        offsets = torch.arange(longest, device=device)[None]
        places = torch.arange(most, device=device)[None, None]
        return cls(
            queries=starts + offsets.minimum(lengths - 1),
            keys=keys,
            mask=(places <= before + offsets[..., None])[:, None],
            back=(offsets < lengths).flatten().nonzero()[:, 0],
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """All blocks of one pack, and how their rows become the pack again.

    Attributes:
        blocks: The rows.
        order: ``[tokens]``: place of each token of the pack among the blocks' real tokens.
    """

    blocks: tuple[Block, ...]
    order: Tensor

    @classmethod
    def of(cls, stretches: Sequence[Stretch], device: torch.device) -> Layout:
        """Blocks of sequences that are alike in length and in what they look at."""
        blocks = tuple(Block.of(alike, device) for alike in _alike(stretches))
        places = torch.cat([block.queries.flatten()[block.back] for block in blocks])
        return cls(blocks, places.argsort())


@contextmanager
def laid_out(layout: Layout | None) -> Iterator[None]:
    """Lay out the pack of this thread's next forward pass."""
    _current.layout = layout
    try:
        yield
    finally:
        _current.layout = None


def _alike(stretches: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    ordered = sorted(stretches, key=lambda s: (-s.length, -len(s.ancestors)))
    alike = ordered[:1]
    for stretch in ordered[1:]:
        first = alike[0]
        most, these = len(first.ancestors), len(stretch.ancestors)
        fits = stretch.length >= _LEAST_SHARE * first.length and (
            min(most, these) >= _LEAST_SHARE * max(most, these)
        )
        if not fits:
            yield alike
            alike = []
        alike.append(stretch)
    yield alike


def _padded(places: list[int], length: int) -> list[int]:
    return places + places[-1:] * (length - len(places))


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    layout: Layout | None = getattr(_current, "layout", None)
    if layout is None:
        answer: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return answer
    attended = [_attend_block(block, query, key, value, scaling) for block in layout.blocks]
    return torch.cat(attended)[layout.order][None], None


def _attend_block(
    block: Block, query: Tensor, key: Tensor, value: Tensor, scaling: float | None
) -> Tensor:
    """``[real tokens of the block, heads, dim]``."""
    queries = query[0][:, block.queries].transpose(0, 1)
    keys, values = (states[0][:, block.keys].transpose(0, 1) for states in (key, value))
    grouped = keys.shape[1] != queries.shape[1]
    if grouped and query.device.type != "cpu":
        # On other devices grouped heads under a mask fall back to the slowest kernel.
        groups = queries.shape[1] // keys.shape[1]
        keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
        grouped = False
    rows = scaled_dot_product_attention(
        queries, keys, values, attn_mask=block.mask, scale=scaling, enable_gqa=grouped
    )
    return rows.transpose(1, 2).flatten(0, 1)[block.back]


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
