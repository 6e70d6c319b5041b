"""Prefill that computes nothing twice: what prompts begin with in common is computed once.

Siblings share the part their caller promised; strangers share the wording of their template, and
whatever else was computed before and is still kept. This room plans passes and keeps prefixes; it
samples nothing and knows nothing of answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engines.kv_cache import LayerStates, Prefix, PrefixStore
from workers.engines.packing import Packed, Prefiller, Segment
from workers.engines.tokenising import TokenisedPrompt, common_length

# A shorter prefix costs more to handle than to compute again.
_MIN_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt to compute.

    Attributes:
        prompt: Its tokens.
        group: Key of its siblings; "" for none.
        branches: Continuations of the prompt, all of whose tokens need logits.
    """

    prompt: TokenisedPrompt
    group: str
    branches: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Computed:
    """A computed prompt.

    Attributes:
        scores: Log-probabilities after the prompt's last token ``[1, vocabulary]``, then those
            of each branch ``[its tokens, vocabulary]``.
        states: Keys and values of the prompt in pieces that follow each other.
        cached_tokens: Leading tokens that were not computed for this prompt.
    """

    scores: list[Tensor]
    states: tuple[tuple[LayerStates, ...], ...]
    cached_tokens: int


@dataclass(eq=False, slots=True)
class _Family:
    """Prompts with one beginning: ``base`` is computed, the rest of ``shared`` is not yet."""

    members: list[int]
    shared: tuple[int, ...]
    base: Prefix | None
    known_before: int = 0

    def __post_init__(self) -> None:
        self.known_before = len(self.base.tokens) if self.base else 0

    @property
    def fresh(self) -> tuple[int, ...]:
        """Shared tokens that are still to be computed."""
        return self.shared[len(self.base.tokens) if self.base else 0 :]

    def cost(self, asked: Asked) -> int:
        """Tokens of one member beyond the shared part."""
        return len(asked.prompt.tokens) - len(self.shared) + sum(map(len, asked.branches))

    def cached_tokens(self, member: int) -> int:
        """The first member pays for what was not known before."""
        return self.known_before if member == self.members[0] else len(self.shared)


class _Pass:
    """One forward pass in the making."""

    def __init__(self) -> None:
        self.prefixes: list[Prefix] = []
        self.segments: list[Segment] = []
        #: Each member with its prompt's segment, its number of branches, and its family.
        self.members: list[tuple[int, int, int, _Family]] = []
        #: Per family the segment that computes its shared part; None where that was known.
        self.begun: dict[_Family, int | None] = {}
        self._continues: dict[_Family, tuple[int | None, int | None]] = {}
        self.tokens = 0

    def has_room(self, family: _Family, asked: Asked, limit: int) -> bool:
        """Whether a member fits below ``limit`` tokens; the first one always does."""
        fresh = 0 if family in self.begun else len(family.fresh)
        return not self.segments or self.tokens + fresh + family.cost(asked) <= limit

    def add(self, family: _Family, member: int, asked: Asked) -> None:
        """Let a member's prompt, and its branches, be computed in this pass."""
        if family not in self.begun:
            self._begin(family)
        parent, prefix = self._continues[family]
        root = len(self.segments)
        self.members.append((member, root, len(asked.branches), family))
        self._append(Segment(asked.prompt.tokens[len(family.shared) :], parent, prefix))
        for branch in asked.branches:
            self._append(Segment(branch, parent=root, wanted=len(branch)))

    def _begin(self, family: _Family) -> None:
        prefix = None
        if family.base is not None:
            prefix = len(self.prefixes)
            self.prefixes.append(family.base)
        if not family.fresh:
            self.begun[family], self._continues[family] = None, (None, prefix)
            return
        self.begun[family] = len(self.segments)
        self._continues[family] = (len(self.segments), None)
        self._append(Segment(family.fresh, prefix=prefix))

    def _append(self, segment: Segment) -> None:
        self.segments.append(segment)
        self.tokens += len(segment.tokens)


class SharedPrefill:
    """Compute prompts in passes of bounded size, and keep the prefixes used most recently."""

    def __init__(self, prefiller: Prefiller, *, pass_tokens: int, kept_tokens: int) -> None:
        """Begin with nothing kept.

        Args:
            prefiller: Runs the passes.
            pass_tokens: Most tokens of one pass; one prompt always goes.
            kept_tokens: Most tokens of prefixes kept between calls.
        """
        self._prefiller = prefiller
        self._pass_tokens = pass_tokens
        self._kept = PrefixStore(kept_tokens)

    def run(self, asked: Sequence[Asked]) -> list[Computed]:
        """Compute prompts; answers in their order."""
        computed: dict[int, Computed] = {}
        current = _Pass()
        for family in self._families(asked):
            for member in family.members:
                if not current.has_room(family, asked[member], self._pass_tokens):
                    computed |= self._compute(current)
                    current = _Pass()
                current.add(family, member, asked[member])
        if current.segments:
            computed |= self._compute(current)
        return [computed[index] for index in range(len(asked))]

    @property
    def cache_bytes(self) -> int:
        """Bytes of the kept prefixes."""
        return self._kept.cache_bytes

    def clear(self) -> None:
        """Forget all kept prefixes."""
        self._kept.clear()

    def _families(self, asked: Sequence[Asked]) -> Iterator[_Family]:
        """Siblings by group, in order of appearance; strangers only where it is worth it."""
        groups: dict[str, list[int]] = {}
        for index, each in enumerate(asked):
            groups.setdefault(each.group, []).append(index)
        for group, members in groups.items():
            prompts = [asked[index].prompt for index in members]
            shared = _in_common(prompts)
            if group or len(shared) >= _MIN_TOKENS:
                yield self._family(members, prompts, shared)
            else:
                yield from (self._family([i], [asked[i].prompt], ()) for i in members)

    def _family(
        self, members: list[int], prompts: Sequence[TokenisedPrompt], shared: tuple[int, ...]
    ) -> _Family:
        # At least one token of each prompt is left to compute: its logits are wanted.
        known_of = shared if len(members) > 1 else prompts[0].tokens[:-1]
        base = self._kept.longest(known_of, least=_MIN_TOKENS)
        if base is not None and len(base.tokens) >= len(shared):
            shared = base.tokens
        return _Family(members, shared if len(shared) >= _MIN_TOKENS else (), base)

    def _compute(self, current: _Pass) -> dict[int, Computed]:
        packed = self._prefiller.run(current.prefixes, current.segments)
        for family, parent in current.begun.items():
            if parent is not None:
                family.base = _whole(family, packed.states[parent])
                self._kept.put(family.base)
        return dict(self._answers(current, packed))

    def _answers(self, current: _Pass, packed: Packed) -> Iterator[tuple[int, Computed]]:
        for member, root, branches, family in current.members:
            end = root + 1 + branches
            before = (family.base.states,) if family.base else ()
            yield (
                member,
                Computed(
                    scores=packed.log_probabilities[root:end],
                    states=(*before, packed.states[root]),
                    cached_tokens=family.cached_tokens(member),
                ),
            )


def _in_common(prompts: Sequence[TokenisedPrompt]) -> tuple[int, ...]:
    """What a batch has in common is known; a single prompt only has its caller's promise."""
    first = prompts[0]
    if len(prompts) == 1:
        return first.tokens[: first.shared_tokens]
    longest = min(len(prompt.tokens) for prompt in prompts) - 1
    return first.tokens[: min(common_length([prompt.tokens for prompt in prompts]), longest)]


def _whole(family: _Family, fresh: tuple[LayerStates, ...]) -> Prefix:
    """The shared part in memory of its own: a view would keep the pass's tensors alive."""
    pieces = (family.base.states, fresh) if family.base else (fresh,)
    return Prefix(
        family.shared,
        tuple(
            (torch.cat([k for k, _ in layer], dim=-2), torch.cat([v for _, v in layer], dim=-2))
            for layer in zip(*pieces, strict=True)
        ),
    )
