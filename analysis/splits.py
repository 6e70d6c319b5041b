"""Splitting an export by family of prompts, never by row.

Where a family goes depends on its key and the seed alone: neither more data nor another order
moves it. What is left of near-duplicates across splits is taken out of the later one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from analysis.pairs import Messages, Row
from analysis.prompt_families import NearPrompts, family_of
from analysis.spool import Spool
from schemas.errors import ConfigError

#: Reason for which a row makes no row of its split.
NEAR_DUPLICATE = "near_duplicate"

_SHARE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")
_METHOD = (
    "a family of prompts is one split's: the prompts with the same two longest content words; its "
    "split is a hash of key and seed. A prompt of a later split that shares 0.8 of its words "
    "(Jaccard) with one of an earlier split is dropped as near_duplicate"
)


@dataclass(frozen=True, slots=True)
class Split:
    """Names and shares, in the order given; shares are above 0 and add up to 1."""

    shares: tuple[tuple[str, float], ...]
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The splits, the one that keeps near-duplicates first."""
        return tuple(name for name, _ in self.shares)

    def place(self, family: str) -> str:
        """The split of a family."""
        digest = blake2b(f"{self.seed}\0{family}".encode("utf-8", "replace"), digest_size=8)
        left = int.from_bytes(digest.digest(), "big") / 2**64
        for name, share in self.shares:
            left -= share
            if left < 0:
                return name
        # Rounding may leave a hair's breadth above the last share.
        return self.shares[-1][0]


def parse_split(text: str, seed: int = 0) -> Split:
    """Read ``train=0.9,validation=0.05,test=0.05``.

    Raises:
        ConfigError: Not of that form, a name twice, fewer than two, a share that is not above 0,
            or shares that do not add up to 1.
    """
    found = [_SHARE.fullmatch(part) for part in text.split(",")]
    try:
        shares = [(m[1], float(m[2])) for m in found if m]
    except ValueError:
        shares = []
    if len(shares) < max(2, len(found)) or len({name for name, _ in shares}) < len(shares):
        raise ConfigError(
            f"--split {text}: write two or more splits, each name once, as in "
            "train=0.9,validation=0.05,test=0.05"
        )
    total = sum(share for _, share in shares)
    if abs(total - 1) > 1e-6 or any(share <= 0 for _, share in shares):
        raise ConfigError(f"--split {text}: shares are above 0 and add up to 1, not {total:g}")
    return Split(tuple(shares), seed)


@dataclass(slots=True)
class SplitCounts:
    """What each split holds; ``families`` keeps the rows of each family."""

    rows: Counter[str] = field(default_factory=Counter)
    near_duplicates: Counter[str] = field(default_factory=Counter)
    families: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, name: str, family: str) -> None:
        """Count one row."""
        self.rows[name] += 1
        self.families.setdefault(name, Counter())[family] += 1

    def family_count(self, name: str) -> int:
        """Families in a split."""
        return len(self.families.get(name, ()))

    def as_json(self, split: Split) -> dict[str, Any]:
        """For the manifest."""
        total = self.rows.total()
        largest = max((max(each.values()) for each in self.families.values()), default=0)
        return {
            "method": _METHOD,
            "seed": split.seed,
            "shares": dict(split.shares),
            "splits": {name: self._one(name, total) for name in split.names},
            "largest_family_share": largest / total if total else None,
        }

    def _one(self, name: str, total: int) -> dict[str, Any]:
        return {
            "rows": self.rows[name],
            "share": self.rows[name] / total if total else None,
            "families": self.family_count(name),
            "near_duplicates_dropped": self.near_duplicates[name],
        }


def distributed(
    rows: Iterable[Row], split: Split, counts: SplitCounts, drop: Callable[[str], None]
) -> Iterator[tuple[str, Row]]:
    """The rows with their splits, in their order, without near-duplicates across splits.

    Keeps aside all rows and, in memory, the words of the prompts of all splits but the first.
    """
    with Spool() as spool:
        for row in rows:
            spool.add(row)
        doubled = _doubled(spool, split)
        for row in spool.rows():
            family = family_of(row["prompt"])
            name = split.place(family)
            if _identity(row) in doubled:
                counts.near_duplicates[name] += 1
                drop(NEAR_DUPLICATE)
            else:
                counts.add(name, family)
                yield name, row


def _doubled(spool: Spool, split: Split) -> set[bytes]:
    """Identities of the prompts of later splits that are nearly one of an earlier split."""
    ranks = {name: rank for rank, name in enumerate(split.names)}

    def prompts() -> Iterator[tuple[bytes, int, Messages]]:
        seen: set[bytes] = set()
        for row in spool.rows():
            if (key := _identity(row)) not in seen:
                seen.add(key)
                yield key, ranks[split.place(family_of(row["prompt"]))], row["prompt"]

    later = [(key, rank, prompt) for key, rank, prompt in prompts() if rank]
    index = NearPrompts(prompt for _, _, prompt in later)
    found = {
        number
        for _, rank, prompt in prompts()
        for number in index.near(prompt)
        if later[number][1] > rank
    }
    return {later[number][0] for number in found}


def _identity(row: Row) -> bytes:
    content = json.dumps(row["prompt"], ensure_ascii=False)
    return blake2b(content.encode("utf-8", "replace"), digest_size=16).digest()
