"""The running batch of one torch model: prefill into slots, decode in place, weigh choices.

Implements the batcher's ``Computation`` and is called from the engine thread only. It knows
tokens; queues, deadlines and failures are the batcher's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from workers.engines import Distribution, FinishReason, Generation, Usage
from workers.engines.choosing import choose_segments, distribution
from workers.engines.computation import Finished, Work
from workers.engines.kv_cache import LayerStates, SlotCache
from workers.engines.packing import Packed, Prefiller, Segment
from workers.engines.prefixes import Prefixes, Shared
from workers.engines.sampling import Sampler, draw_tokens
from workers.engines.tokenising import TokenisedChoose, TokenisedGenerate, Tokeniser


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may hold.

    Attributes:
        rows: Most sequences decoded together.
        tokens: Most tokens of the slots' rectangle (rows x longest row).
        pack_tokens: Most tokens computed in one packed prefill; one sequence always goes.
        kept_tokens: Most tokens of prefixes kept between calls.
    """

    rows: int
    tokens: int
    pack_tokens: int
    kept_tokens: int


@dataclass(eq=False, slots=True)
class Row:
    """One sequence of the running batch; its slot is its place in the list of rows."""

    work: Work
    cached_tokens: int
    sampler: Sampler
    filled: int
    written: list[int] = field(default_factory=list)

    @property
    def payload(self) -> TokenisedGenerate:
        """The request as tokens."""
        payload: TokenisedGenerate = self.work.payload
        return payload


class TorchComputation:
    """One causal language model of transformers, computing for the batcher."""

    def __init__(
        self,
        model: Any,
        tokeniser: Tokeniser,
        stop_tokens: frozenset[int],
        limits: Limits,
        threads: int,
    ) -> None:
        self._model: Any = model
        self._tokeniser = tokeniser
        self._stop_tokens = stop_tokens
        self._limits = limits
        self._threads = threads
        self._device: torch.device = model.device
        layers = int(model.config.get_text_config().num_hidden_layers)
        self._prefiller = Prefiller(model, layers, self._device)
        self._slots = SlotCache(layers, self._device)
        self._prefixes = Prefixes(self._prefiller, limits.kept_tokens)
        self._rows: list[Row] = []

    def start(self) -> None:
        """Set the thread count, which OpenMP keeps per calling thread."""
        torch.set_num_threads(self._threads)

    def running(self) -> list[Work]:
        """The works of the running batch."""
        return [row.work for row in self._rows]

    def is_fatal(self, error: Exception) -> bool:
        """A CUDA error other than running out of memory loses the device's context."""
        lost = isinstance(error, torch.AcceleratorError)
        return lost and not isinstance(error, torch.OutOfMemoryError)

    def close(self) -> None:
        """Free the model and all its tensors."""
        self._rows.clear()
        self._prefixes.clear()
        self._model = self._prefiller = self._slots = None  # type: ignore[assignment]

    @torch.inference_mode()
    def weigh(self, works: Sequence[Work]) -> list[Distribution]:
        """Weigh the choices of one group: its prefix once, then all its ends packed together."""
        payloads: list[TokenisedChoose] = [work.payload for work in works]
        shared = self._prefixes.shared(works[0].group, [p.prompt for p in payloads])
        lengths = [len(payload.prompt.tokens) - shared.tokens for payload in payloads]
        answers: list[Distribution] = []
        for pack in _packs(lengths, self._limits.pack_tokens):
            segments: list[Segment] = []
            for i in pack:
                segments += choose_segments(payloads[i], shared.tokens, root=len(segments))
            scores = iter(self._prefiller.run(shared.prefix, segments).log_probabilities)
            answers += [distribution(payloads[i], scores, shared.cached_tokens(i)) for i in pack]
        return answers

    def admissible(self, works: Sequence[Work]) -> int:
        """How many of the leading works fit beside the running rows in the rectangle."""
        rows = len(self._rows)
        longest = max((row.work.tokens for row in self._rows), default=0)
        count = 0
        for work in works:
            rows, longest = rows + 1, max(longest, work.tokens)
            if rows > 1 and (rows > self._limits.rows or rows * longest > self._limits.tokens):
                break
            count += 1
        return count

    @torch.inference_mode()
    def admit(self, works: Sequence[Work]) -> Finished:
        """Prefill and join; slots change only once everything is computed."""
        joining = [joined for group in _by_group(works) for joined in self._prefill(group)]
        scores = torch.stack([joined.scores for joined in joining])
        rows = [joined.row for joined in joining]
        first = draw_tokens(scores, [row.sampler for row in rows])
        self._make_room(works, joining[0].suffix)
        for joined in joining:
            self._join(joined)
        self._append(rows, first)
        return self._harvest()

    @torch.inference_mode()
    def step(self) -> Finished:
        """Decode one token for every row."""
        rows = list(self._rows)
        positions, mask = self._slots.plan_step([row.filled for row in rows])
        last = torch.tensor([[row.written[-1]] for row in rows], device=self._device)
        output = self._model(
            input_ids=last,
            position_ids=positions,
            attention_mask=mask,
            cache=self._slots,
            use_cache=True,
        )
        for row in rows:
            row.filled += 1
        self._append(rows, draw_tokens(output.logits[:, -1], [row.sampler for row in rows]))
        return self._harvest()

    @torch.inference_mode()
    def evict(self, works: Iterable[Work]) -> None:
        """Close up the slots over the rows of ``works``."""
        leaving = set(works)
        for slot in reversed(range(len(self._rows))):
            if self._rows[slot].work in leaving:
                self._remove(slot)

    def _remove(self, slot: int) -> None:
        # The last row moves into the gap, so that a step is always over the first slots.
        last = self._rows.pop()
        if slot < len(self._rows):
            self._slots.move(len(self._rows), slot, last.filled)
            self._rows[slot] = last

    def _prefill(self, works: Sequence[Work]) -> list[_Joining]:
        prompts = [work.payload.prompt for work in works]
        shared = self._prefixes.shared(works[0].group, prompts)
        ends = [prompt.tokens[shared.tokens :] for prompt in prompts]
        joining: list[_Joining] = []
        for pack in _packs([len(end) for end in ends], self._limits.pack_tokens):
            packed = self._prefiller.run(shared.prefix, [Segment(ends[i]) for i in pack])
            joining += [
                _Joining.of(works[i], shared, shared.cached_tokens(i), packed, place)
                for place, i in enumerate(pack)
            ]
        return joining

    def _make_room(self, works: Sequence[Work], like: Sequence[LayerStates]) -> None:
        used = len(self._rows)
        everyone = [*self.running(), *works]
        columns = max(work.tokens for work in everyone)
        # Doubling spares a copy of the whole rectangle at every later admission.
        doubled = min(self._limits.rows, 2 * len(everyone), self._limits.tokens // columns)
        kept = (used, max((row.filled for row in self._rows), default=0))
        self._slots.reserve(max(len(everyone), doubled), columns, like, kept)

    def _join(self, joined: _Joining) -> None:
        slot = len(self._rows)
        if joined.shared.prefix is not None:
            self._slots.write(slot, 0, joined.shared.prefix.states)
        self._slots.write(slot, joined.shared.tokens, joined.suffix)
        self._rows.append(joined.row)

    def _append(self, rows: Sequence[Row], tokens: Sequence[int]) -> None:
        for row, token in zip(rows, tokens, strict=True):
            row.written.append(token)

    def _harvest(self) -> Finished:
        finished: Finished = []
        for slot in reversed(range(len(self._rows))):
            row = self._rows[slot]
            generation = self._generation(row)
            if generation is not None:
                finished.append((row.work, generation))
                self._remove(slot)
        return finished

    def _generation(self, row: Row) -> Generation | None:
        """The finished completion, or None while the row goes on."""
        request, prompt = row.payload.request, row.payload.prompt.tokens
        ended = row.written[-1] in self._stop_tokens
        kept = row.written[:-1] if ended else row.written
        full = len(row.written) >= request.max_tokens
        if not (ended or full or self._may_stop(row)):
            return None
        text = self._tokeniser.completion_text(prompt, kept)
        cut = min((at for stop in request.stop if (at := text.find(stop)) >= 0), default=None)
        if cut is None and not (ended or full):
            return None
        reason: FinishReason = "stop" if ended or cut is not None else "length"
        usage = Usage(len(prompt), len(row.written), row.cached_tokens)
        return Generation(text[:cut], reason, usage)

    def _may_stop(self, row: Row) -> bool:
        """Whether a stop string may just have been completed: a cheap look at the last tokens."""
        stops = row.payload.request.stop
        if not stops:
            return False
        # A token is at least one byte long, so the string lies within this many tokens.
        reach = max(len(stop.encode()) for stop in stops) + 4
        tail = self._tokeniser.completion_text(row.payload.prompt.tokens, row.written[-reach:])
        return any(stop in tail for stop in stops)


@dataclass(frozen=True, slots=True)
class _Joining:
    """A prefilled sequence about to take a slot."""

    row: Row
    shared: Shared
    suffix: tuple[LayerStates, ...]
    scores: Tensor

    @classmethod
    def of(
        cls, work: Work, shared: Shared, cached_tokens: int, packed: Packed, place: int
    ) -> _Joining:
        payload: TokenisedGenerate = work.payload
        request = payload.request
        sampler = Sampler.seeded(
            request.temperature, request.top_p, request.seed, packed.log_probabilities[place].device
        )
        row = Row(work, cached_tokens, sampler, filled=len(payload.prompt.tokens))
        return cls(row, shared, packed.states[place], packed.log_probabilities[place][-1])


def _by_group(works: Sequence[Work]) -> list[list[Work]]:
    """Works by group in order of first appearance; those without a group stay together."""
    groups: dict[str, list[Work]] = {}
    for work in works:
        groups.setdefault(work.group, []).append(work)
    return list(groups.values())


def _packs(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Indices in order, cut where the next would pass ``limit`` tokens in one pack."""
    packs: list[list[int]] = []
    tokens = 0
    for index, length in enumerate(lengths):
        if not packs or tokens + length > limit:
            packs.append([])
            tokens = 0
        packs[-1].append(index)
        tokens += length
    return packs
