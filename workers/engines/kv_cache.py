"""Keys and values of computed tokens: packed prefills, the running batch's slots, kept prefixes.

The layers plug into transformers as a ``Cache``. This room stores and moves tensors; it runs no
model and decides nothing about requests.

Shapes: one layer's keys or values of ``t`` tokens are ``[1, kv_heads, t, head_dim]``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from workers.engines.tokenising import common_length

LayerStates = tuple[Tensor, Tensor]
_COLUMN_STEP = 128


@dataclass(frozen=True, slots=True)
class Prefix:
    """Tokens whose keys and values are computed: one pair per layer, from position 0 on."""

    tokens: tuple[int, ...]
    states: tuple[LayerStates, ...]

    def cropped(self, length: int) -> Prefix:
        """The first ``length`` tokens, as views; attention is causal, so they stand alone."""
        if length == len(self.tokens):
            return self
        states = tuple((k[:, :, :length], v[:, :, :length]) for k, v in self.states)
        return Prefix(self.tokens[:length], states)


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """What transformers asks of a layer besides ``update``; masks and positions are ours."""

    keys: Any
    values: Any

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def get_seq_length(self) -> int:
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_max_length(self) -> int:
        return -1


class _PackedLayer(_Layer):
    """Attends to known prefixes and the new tokens, and keeps the new tokens only."""

    def __init__(self, prefixes: Sequence[LayerStates]) -> None:
        super().__init__()
        self._prefixes = prefixes

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> LayerStates:
        self.keys, self.values = keys, values
        if not self._prefixes:
            return keys, values
        return (
            torch.cat((*(known for known, _ in self._prefixes), keys), dim=-2),
            torch.cat((*(known for _, known in self._prefixes), values), dim=-2),
        )


class PackedCache(Cache):  # type: ignore[misc]
    """Cache of one prefill whose sequences lie one behind the other in a single row."""

    def __init__(self, layers: int, prefixes: Sequence[Prefix]) -> None:
        known = zip(*(prefix.states for prefix in prefixes), strict=True)
        super().__init__(
            layers=[_PackedLayer(pairs) for pairs in (known if prefixes else [()] * layers)]
        )

    def states(self) -> tuple[LayerStates, ...]:
        """Keys and values of the new tokens, per layer."""
        return tuple((layer.keys, layer.values) for layer in self.layers)


class _SlotLayer(_Layer):
    """Writes each row's new token in place and attends over the rows' filled columns."""

    def __init__(self, plan: _StepPlan) -> None:
        super().__init__()
        self._plan = plan

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> LayerStates:
        plan, rows = self._plan, self._plan.rows
        self.keys[plan.row_index, :, plan.columns] = keys[:, :, 0]
        self.values[plan.row_index, :, plan.columns] = values[:, :, 0]
        return self.keys[:rows, :, : plan.width], self.values[:rows, :, : plan.width]

    def resize(self, rows: int, columns: int, like: LayerStates, kept: tuple[int, int]) -> None:
        self.keys = _grown(self.keys, like[0], rows, columns, kept)
        self.values = _grown(self.values, like[1], rows, columns, kept)


@dataclass(slots=True)
class _StepPlan:
    rows: int
    row_index: Tensor
    columns: Tensor
    width: int


class SlotCache(Cache):  # type: ignore[misc]
    """Cache of the running batch: row ``r`` of every layer is slot ``r``, filled from column 0.

    The rectangle of rows and columns is allocated once and grown when a batch needs more, so
    that a decode step copies nothing but the new tokens.
    """

    def __init__(self, layers: int, device: torch.device) -> None:
        self._plan = _StepPlan(0, torch.empty(0), torch.empty(0), 0)
        self._device = device
        self._shape = (0, 0)
        super().__init__(layers=[_SlotLayer(self._plan) for _ in range(layers)])

    @property
    def cache_bytes(self) -> int:
        """Bytes of the rectangle."""
        pairs = [(layer.keys, layer.values) for layer in self.layers]
        return sum(k.nbytes + v.nbytes for k, v in pairs if k is not None)

    def reserve(
        self, rows: int, columns: int, like: Sequence[LayerStates], kept: tuple[int, int]
    ) -> None:
        """Make room for ``rows`` x ``columns`` tokens; ``kept`` is the rectangle in use."""
        if rows <= self._shape[0] and columns <= self._shape[1]:
            return
        columns = -(-columns // _COLUMN_STEP) * _COLUMN_STEP
        for layer, states in zip(self.layers, like, strict=True):
            layer.resize(rows, columns, states, kept)
        self._shape = (rows, columns)

    def write(self, row: int, column: int, states: Sequence[LayerStates]) -> None:
        """Copy one sequence's states into a slot, from ``column`` on."""
        for layer, (keys, values) in zip(self.layers, states, strict=True):
            end = column + keys.shape[-2]
            layer.keys[row, :, column:end] = keys[0]
            layer.values[row, :, column:end] = values[0]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` tokens of one slot over another."""
        for layer in self.layers:
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]

    def plan_step(self, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Prepare one decode step over the first slots, each holding ``lengths`` tokens.

        Returns:
            Positions of the new tokens ``[rows, 1]`` and the mask ``[rows, 1, 1, width]`` of what
            each row may attend to.
        """
        columns = torch.tensor(lengths, device=self._device)
        self._plan.rows, self._plan.width = len(lengths), max(lengths) + 1
        self._plan.columns = columns
        self._plan.row_index = torch.arange(len(lengths), device=self._device)
        filled = torch.arange(self._plan.width, device=self._device)[None] <= columns[:, None]
        return columns[:, None], filled[:, None, None]


class PrefixStore:
    """Most recently used prefixes, at most ``max_tokens`` tokens in all."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._tokens = 0
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def longest(self, tokens: tuple[int, ...], least: int) -> Prefix | None:
        """The longest known beginning of ``tokens``, at least ``least`` long, as views."""
        best, length = None, least - 1
        for key in self._kept:
            # A prefix that is no better than the best so far is not worth measuring.
            if key[: length + 1] == tokens[: length + 1] and len(key) > length < len(tokens):
                best, length = key, common_length([key, tokens])
        if best is None:
            return None
        self._kept.move_to_end(best)
        return self._kept[best].cropped(length)

    def put(self, prefix: Prefix) -> None:
        """Keep a prefix, at the cost of the least recently used ones and of its own beginnings."""
        for key in [key for key in self._kept if prefix.tokens[: len(key)] == key]:
            self._forget(key)
        if len(prefix.tokens) > self._max_tokens:
            return
        self._kept[prefix.tokens] = prefix
        self._tokens += len(prefix.tokens)
        while self._tokens > self._max_tokens:
            self._forget(next(iter(self._kept)))

    @property
    def cache_bytes(self) -> int:
        """Bytes of what is kept."""
        # A copy, since whoever measures is not the thread that keeps.
        kept = list(self._kept.values())
        return sum(k.nbytes + v.nbytes for prefix in kept for k, v in prefix.states)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._tokens = 0

    def _forget(self, key: tuple[int, ...]) -> None:
        self._tokens -= len(self._kept.pop(key).tokens)


def _grown(
    old: Tensor | None, like: Tensor, rows: int, columns: int, kept: tuple[int, int]
) -> Tensor:
    # Zeros, not empty memory: a masked NaN would still poison the weighted sum of values.
    new = torch.zeros(
        (rows, like.shape[1], columns, like.shape[-1]), dtype=like.dtype, device=like.device
    )
    if old is not None and kept[0]:
        new[: kept[0], :, : kept[1]] = old[: kept[0], :, : kept[1]]
    return new
