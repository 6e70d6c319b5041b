"""Judge responses one by one: a score for each, alone, and so no order to be biased by."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.config import RunConfig
from schemas.judged_pairs import JudgedPair
from workers.engines import Distribution, Engine, Usage
from workers.prompts import SCORE_CHOICES, SCORE_VERSION
from workers.single_failures import Failure, answers_or_failures
from workers.steps.asking import choose_request
from workers.steps.comparison import Pair
from workers.steps.scores import expected_score, p_a_of_scores, score_questions

Answer = Distribution | Failure


def scored(
    engine: Engine, config: RunConfig, pairs: Sequence[tuple[str, Pair]]
) -> list[tuple[JudgedPair, Usage]]:
    """One line a pair with both scores, and what it took.

    Args:
        engine: Runs the judge.
        config: Its deadline and its limit of unreadable mass.
        pairs: Ids and pairs.
    """
    deadline_s = config.sampling.reasoning.deadline_s
    prompts = [prompt for _, pair in pairs for prompt in score_questions(pair)]
    requests = [choose_request(prompt, SCORE_CHOICES, deadline_s) for prompt in prompts]
    answers = answers_or_failures(engine.choose, requests)
    return [
        _line(name, (a, b), config.policy.max_outside_mass)
        for (name, _), a, b in zip(pairs, answers[::2], answers[1::2], strict=True)
    ]


def _line(
    name: str, answers: tuple[Answer, Answer], max_outside_mass: float
) -> tuple[JudgedPair, Usage]:
    given = [answer for answer in answers if isinstance(answer, Distribution)]
    failed = [answer for answer in answers if not isinstance(answer, Distribution)]
    score_a, score_b = (
        expected_score(answer, max_outside_mass) if isinstance(answer, Distribution) else None
        for answer in answers
    )
    p_a = None if failed else p_a_of_scores(given, max_outside_mass)
    line = JudgedPair(
        pair_id=name,
        order="none",
        score_a=score_a,
        score_b=score_b,
        p_first=p_a,
        is_readable=p_a is not None,
        outside_mass=max((answer.outside_mass for answer in given), default=None),
        error=failed[0].code if failed else None,
        raw=str(failed[0]) if failed else None,
        prompt_version=SCORE_VERSION,
    )
    return line, sum((answer.usage for answer in given), Usage())
