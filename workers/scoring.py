"""Judge responses one by one: a score for each, alone, and so no order to be biased by.

Source: direct scoring in arXiv 2309.00267: the expected value over the scores' probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.config import RunConfig
from schemas.judged_pairs import JudgedPair
from workers.engines import Distribution, Engine, Usage
from workers.prompts import SCORE_CHOICES, SCORE_VERSION, render_score
from workers.single_failures import Failure, answers_or_failures
from workers.steps.asking import choose_request
from workers.steps.comparison import Pair, is_readable

Answer = Distribution | Failure


def score_of(answer: Answer, max_outside_mass: float) -> float | None:
    """Expected score in [0, 9]; None where the judge named none, or gave no answer."""
    if not isinstance(answer, Distribution) or not is_readable(answer, max_outside_mass):
        return None
    return sum(p * int(score) for p, score in zip(answer.probabilities, SCORE_CHOICES, strict=True))


def scored(
    engine: Engine, config: RunConfig, pairs: Sequence[tuple[str, Pair]], score_margin: float
) -> list[tuple[JudgedPair, Usage]]:
    """One line a pair with both scores, and what it took.

    Args:
        engine: Runs the judge.
        config: Its deadline and its limit of unreadable mass.
        pairs: Ids and pairs.
        score_margin: Difference at or below which the verdict is a tie.
    """
    deadline_s = config.sampling.reasoning.deadline_s
    prompts = [
        render_score(pair.turns, response, pair.criterion)
        for _, pair in pairs
        for response in (pair.a, pair.b)
    ]
    requests = [choose_request(prompt, SCORE_CHOICES, deadline_s) for prompt in prompts]
    answers = answers_or_failures(engine.choose, requests)
    return [
        _line(name, (a, b), config.policy.max_outside_mass, score_margin)
        for (name, _), a, b in zip(pairs, answers[::2], answers[1::2], strict=True)
    ]


def _line(
    name: str, answers: tuple[Answer, Answer], max_outside_mass: float, score_margin: float
) -> tuple[JudgedPair, Usage]:
    score_a, score_b = (score_of(answer, max_outside_mass) for answer in answers)
    given = [answer for answer in answers if isinstance(answer, Distribution)]
    failed = [answer for answer in answers if not isinstance(answer, Distribution)]
    line = JudgedPair(
        pair_id=name,
        order="none",
        score_a=score_a,
        score_b=score_b,
        score_margin=score_margin,
        is_readable=score_a is not None and score_b is not None,
        outside_mass=max((answer.outside_mass for answer in given), default=None),
        error=failed[0].code if failed else None,
        raw=str(failed[0]) if failed else None,
        prompt_version=SCORE_VERSION,
    )
    return line, sum((answer.usage for answer in given), Usage())
