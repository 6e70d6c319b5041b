"""Which part of sibling prompts is computed once: within one batch, and across calls.

This room compares tokens and keeps computed prefixes; it runs the model only through the
prefiller and knows nothing of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.engines.kv_cache import Prefix, PrefixStore
from workers.engines.packing import Prefiller
from workers.engines.tokenising import TokenisedPrompt, common_length

# A shorter prefix costs more to handle than to compute again.
_MIN_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Shared:
    """The computed beginning of sibling prompts; None where nothing is worth sharing."""

    prefix: Prefix | None = None
    is_new: bool = False

    @property
    def tokens(self) -> int:
        """Its length."""
        return len(self.prefix.tokens) if self.prefix else 0

    def cached_tokens(self, sibling: int) -> int:
        """Tokens that were not computed for the sibling of that index: the first one pays."""
        return 0 if self.is_new and sibling == 0 else self.tokens


class Prefixes:
    """Compute shared prefixes, and keep the most recently used ones."""

    def __init__(self, prefiller: Prefiller, max_tokens: int) -> None:
        self._prefiller = prefiller
        self._kept = PrefixStore(max_tokens)

    def shared(self, group: str, prompts: Sequence[TokenisedPrompt]) -> Shared:
        """The prefix of siblings; at least one token of each prompt is left to compute."""
        if not group:
            return Shared()
        longest = min(len(prompt.tokens) for prompt in prompts) - 1
        promised = min(prompts[0].shared_tokens, longest)
        if kept := self._known(group, prompts, promised, longest):
            return Shared(kept)
        # What a batch has in common is known; a single prompt only has its caller's promise.
        common = min(common_length([prompt.tokens for prompt in prompts]), longest)
        wanted = common if len(prompts) > 1 else promised
        if wanted < _MIN_TOKENS:
            return Shared()
        prefix = self._prefiller.prefix(prompts[0].tokens[:wanted])
        self._kept.put(group, prefix)
        return Shared(prefix, is_new=True)

    def clear(self) -> None:
        """Forget all kept prefixes."""
        self._kept.clear()

    def _known(
        self, group: str, prompts: Sequence[TokenisedPrompt], promised: int, longest: int
    ) -> Prefix | None:
        kept = self._kept.get(group)
        if kept is None:
            return None
        known = min(common_length([kept.tokens, *(p.tokens for p in prompts)]), longest)
        return kept.cropped(known) if known >= max(_MIN_TOKENS, promised) else None
