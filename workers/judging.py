"""Judge pairs with an engine and nothing else: no servers, no ledger.

For certificates: a judge is measured before it is given work. The questions are those that a
label step asks, in both orders.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from schemas.config import ModelConfig, RunConfig
from schemas.judged_pairs import HumanPair, JudgedPair, lines_of
from workers.engines import Engine, Usage
from workers.engines.factory import build_engine
from workers.parsing import response_digest
from workers.prompts import (
    DEFAULT_CRITERIA,
    PREFERENCE_CHOICES,
    render_preference,
    render_preference_reasoning,
)
from workers.steps.asking import choose_request, generate_request

#: Pairs asked about in one call; the engine batches within it.
CHUNK_PAIRS = 32
Order = Literal["AB", "BA"]
ORDERS: tuple[Order, Order] = ("AB", "BA")


def judge_pairs(
    engine: Engine, config: RunConfig, pairs: Iterator[HumanPair], *, seed: int = 0
) -> Iterator[JudgedPair]:
    """Each pair in both orders, as the configuration's labeler asks.

    A pair of identical responses is a tie that nobody is asked about.

    Args:
        engine: Runs the judge.
        config: Its roles, labeler, sampling and prices.
        pairs: What to judge; read as the work goes on.
        seed: Of the reasoning, where there is one; another for a test of repetition.
    """
    while chunk := list(islice(pairs, CHUNK_PAIRS)):
        yield from _judged(engine, config, chunk, seed)


def judge_file(
    config: RunConfig, models: Path, pairs: Path, out: Path, limit: int | None, seed: int
) -> int:
    """Judge a file of pairs into a file of verdicts; how many there are.

    Raises:
        ContractError: A line is no pair.
        ConfigError: The judge's model cannot be loaded.
    """
    engine = build_engine(config.models[config.roles.judge].model_dump(), models)
    try:
        read = (pair for _, pair in lines_of(pairs, HumanPair))
        count = 0
        with out.open("w", encoding="utf-8") as file:
            for said in judge_pairs(engine, config, islice(read, limit), seed=seed):
                file.write(said.model_dump_json(exclude_none=True) + "\n")
                count += 1
        return count
    finally:
        engine.close()


def _judged(
    engine: Engine, config: RunConfig, pairs: Sequence[HumanPair], seed: int
) -> Iterator[JudgedPair]:
    began_s = time.monotonic()
    asked = [(pair, order) for pair in pairs if not _is_same(pair) for order in ORDERS]
    reasons = _reasons(engine, config, asked, seed)
    prompts = [
        render_preference([("user", pair.prompt)], *_shown(pair, order), DEFAULT_CRITERIA, reason)
        for (pair, order), (reason, _) in zip(asked, reasons, strict=True)
    ]
    deadline_s = config.sampling.reasoning.deadline_s
    wanted = [choose_request(prompt, PREFERENCE_CHOICES, deadline_s) for prompt in prompts]
    answers = engine.choose(wanted) if wanted else []
    seconds = (time.monotonic() - began_s) / max(1, len(asked))
    model = config.models[config.roles.judge]
    for pair in pairs:
        if _is_same(pair):
            yield from _told_alike(engine, pair)
    for (pair, order), (reason, used), prompt, answer in zip(
        asked, reasons, prompts, answers, strict=True
    ):
        readable = answer.outside_mass <= config.policy.max_outside_mass
        usage = used + answer.usage
        yield JudgedPair(
            pair_id=pair.id,
            order=order,
            judge=engine.model_name,
            strategy=_strategy(config),
            raw=reason or answer.raw_text,
            p_first=answer.probabilities[0] if readable else None,
            is_readable=readable,
            outside_mass=answer.outside_mass,
            prompt_version=prompt.prompt_version,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            seconds=seconds,
            cost_usd=_cost_usd(model, usage),
        )


def _reasons(
    engine: Engine, config: RunConfig, asked: Sequence[tuple[HumanPair, Order]], seed: int
) -> list[tuple[str | None, Usage]]:
    if config.labeler.reasoning == "off" or not asked:
        return [(None, Usage())] * len(asked)
    sampling = config.sampling.reasoning
    prompts = [
        render_preference_reasoning([("user", pair.prompt)], *_shown(pair, order), DEFAULT_CRITERIA)
        for pair, order in asked
    ]
    requests = [generate_request(prompt, sampling, seed + at) for at, prompt in enumerate(prompts)]
    answers = engine.generate(requests)
    return [(answer.text.strip() or None, answer.usage) for answer in answers]


def _shown(pair: HumanPair, order: Order) -> tuple[str, str]:
    both = (pair.response_a, pair.response_b)
    return both if order == "AB" else (both[1], both[0])


def _is_same(pair: HumanPair) -> bool:
    return response_digest(pair.response_a) == response_digest(pair.response_b)


def _told_alike(engine: Engine, pair: HumanPair) -> Iterator[JudgedPair]:
    for order in ORDERS:
        yield JudgedPair(pair_id=pair.id, order=order, judge=engine.model_name, p_first=0.5)


def _strategy(config: RunConfig) -> str:
    return "reasoning first" if config.labeler.reasoning == "first" else ""


def _cost_usd(model: ModelConfig, usage: Usage) -> float:
    return model.cost_usd(usage.input_tokens, usage.cached_tokens, usage.output_tokens)
