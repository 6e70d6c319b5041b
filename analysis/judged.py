"""Frames of human labels and of judges' verdicts, joined by id.

A verdict is kept as the probability that A is better: 1, 0.5 and 0 where the judge only wrote
words, null where it cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from schemas.errors import ContractError
from schemas.judged_pairs import HumanPair, JudgedPair, lines_of

PAIRS: dict[str, Any] = {
    "pair_id": pl.String,
    "prompt": pl.String,
    "human": pl.String,
    "chars_a": pl.Int64,
    "chars_b": pl.Int64,
    "annotators": pl.List(pl.String),
}
VERDICTS: dict[str, Any] = {
    "pair_id": pl.String,
    "judge": pl.String,
    "order": pl.String,
    "p_a": pl.Float64,
    "is_soft": pl.Boolean,
    "clamp_low": pl.Float64,
    "clamp_high": pl.Float64,
    "note": pl.String,
    "prompt_version": pl.String,
    "input_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "seconds": pl.Float64,
    "cost_usd": pl.Float64,
}


@dataclass(frozen=True, slots=True)
class Joined:
    """Verdicts and labels of the same pairs.

    Attributes:
        pairs: One row a pair that both sides know; columns of ``PAIRS``.
        verdicts: Columns of ``VERDICTS``.
        only_human: Ids that no judge judged.
        only_judged: Ids that the pairs do not hold.
    """

    pairs: pl.DataFrame
    verdicts: pl.DataFrame
    only_human: tuple[str, ...]
    only_judged: tuple[str, ...]


def read_pairs(path: Path) -> pl.DataFrame:
    """Pairs with their human labels.

    Raises:
        ContractError: Names the file and the line: no pair, or an id seen before.
    """
    seen: dict[str, int] = {}
    rows = []
    for number, pair in lines_of(path, HumanPair):
        if first := seen.get(pair.id):
            raise ContractError(f"{path}:{number}: pair {pair.id!r} stands at line {first} already")
        seen[pair.id] = number
        rows.append(_pair_row(pair))
    if not rows:
        raise ContractError(f"{path}: holds no pair")
    return pl.DataFrame(rows, schema=PAIRS)


def read_verdicts(paths: Iterable[Path]) -> pl.DataFrame:
    """Verdicts of any number of judges.

    Raises:
        ContractError: Names the file and the line: no verdict, or one given before.
    """
    seen: dict[tuple[str, str, str], str] = {}
    rows = []
    for path in paths:
        for number, said in lines_of(path, JudgedPair):
            # Without an order it stands for both, so that neither may come beside it.
            for order in ("AB", "BA") if said.order == "none" else (said.order,):
                key = (said.name, said.pair_id, order)
                if first := seen.get(key):
                    raise ContractError(
                        f"{path}:{number}: {said.name} judged pair {said.pair_id!r} in order "
                        f"{order} at {first} already; tests of repetition take a second file"
                    )
                seen[key] = f"{path}:{number}"
            rows.append(_verdict_row(said))
    if not rows:
        raise ContractError("the files of verdicts hold none")
    return pl.DataFrame(rows, schema=VERDICTS)


def join(pairs: pl.DataFrame, verdicts: pl.DataFrame) -> Joined:
    """Keep what both sides know, by id, and say what only one knows."""
    known, judged = set(pairs["pair_id"]), set(verdicts["pair_id"])
    both = known & judged
    return Joined(
        pairs=pairs.filter(pl.col("pair_id").is_in(both)),
        verdicts=verdicts.filter(pl.col("pair_id").is_in(both)),
        only_human=tuple(sorted(known - judged)),
        only_judged=tuple(sorted(judged - known)),
    )


def verdict_table(verdicts: pl.DataFrame) -> pl.DataFrame:
    """One row a pair of one judge's verdicts.

    Columns: pair_id, p_ab, p_ba (p of A, null where invalid or not asked), p_mean (of both, clamped
    where the judge's labels are), v_ab, v_ba (A, tie, B, ``-``), orders (1 or 2 that were asked),
    no_order (each response was judged alone; both orders' columns then hold the one verdict).
    """
    parts = [
        verdicts.filter(pl.col("order").is_in([order, "none"])).select(
            "pair_id",
            pl.col("p_a").alias(f"p_{order.lower()}"),
            pl.lit(1).alias(f"asked_{order.lower()}"),
        )
        for order in ("AB", "BA")
    ]
    ways = verdicts.group_by("pair_id").agg(
        pl.col("clamp_low", "clamp_high").first(), no_order=(pl.col("order") == "none").any()
    )
    both = parts[0].join(parts[1], on="pair_id", how="full", coalesce=True)
    both = both.join(ways, on="pair_id").sort("pair_id")
    return both.select(
        "pair_id",
        "p_ab",
        "p_ba",
        "no_order",
        p_mean=((pl.col("p_ab") + pl.col("p_ba")) / 2).clip("clamp_low", "clamp_high"),
        v_ab=verdict_of(pl.col("p_ab")),
        v_ba=verdict_of(pl.col("p_ba")),
        orders=pl.col("asked_ab").fill_null(0) + pl.col("asked_ba").fill_null(0),
    )


def verdict_of(p_a: pl.Expr) -> pl.Expr:
    """A, tie or B of a probability of A; ``-`` where there is none."""
    return (
        pl.when(p_a.is_null())
        .then(pl.lit("-"))
        .when(p_a > 0.5)
        .then(pl.lit("A"))
        .when(p_a < 0.5)
        .then(pl.lit("B"))
        .otherwise(pl.lit("tie"))
    )


def _pair_row(pair: HumanPair) -> dict[str, Any]:
    return {
        "pair_id": pair.id,
        "prompt": pair.prompt,
        "human": pair.human_preference,
        "chars_a": len(pair.response_a),
        "chars_b": len(pair.response_b),
        "annotators": list(pair.meta.annotators),
    }


def _verdict_row(said: JudgedPair) -> dict[str, Any]:
    own = {name: getattr(said, name) for name in VERDICTS if hasattr(said, name)}
    low, high = said.clamp or (None, None)
    clamp = {"clamp_low": low, "clamp_high": high}
    return own | clamp | {"judge": said.name, "is_soft": said.p_first is not None}
