"""The OpenAI engine against a real server, vLLM's own, and plain transformers calls."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.errors import EngineAborted, PromptTooLong
from tests.acceptance.plain_model import (
    PROMPTS,
    continuation_ids,
    masses,
    model_folder,
    plain_completion,
    plain_probability,
    prompt_ids,
    siblings,
    user,
)
from tests.vllm.vllm_server import vllm_server
from workers.engines import ChooseRequest, Engine, GenerateRequest
from workers.engines.openai_engine import build

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")
pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with vllm_server(sys.executable, model_folder(), log, dtype="float32") as address:
        yield address


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    with_engine = build("small", {"base_url": url})
    yield with_engine
    with_engine.close()


def test_it_knows_what_the_server_says_of_the_model(engine: Engine) -> None:
    assert engine.context_tokens == 4096


def test_greedy_completions_equal_plain_generate(engine: Engine, plain: Any) -> None:
    answers = engine.generate([GenerateRequest(user(t), max_tokens=24) for t in PROMPTS])
    assert [a.text for a in answers] == [plain_completion(plain, t, 24) for t in PROMPTS]
    for answer, text in zip(answers, PROMPTS, strict=True):
        assert answer.usage.input_tokens == len(prompt_ids(plain, text))


def test_it_goes_on_with_a_begun_turn(engine: Engine, plain: Any) -> None:
    request = GenerateRequest(user(PROMPTS[0]), "The capital is", max_tokens=6)
    expected = plain_completion(plain, PROMPTS[0], 6, "The capital is")
    assert engine.generate([request])[0].text == expected


def test_distributions_equal_log_probabilities_as_far_as_they_are_listed(
    engine: Engine, plain: Any
) -> None:
    """Listed are the 20 likeliest tokens: a choice that is not has no mass."""
    choices = (" no", " yes")
    requests = siblings("Answer:", choices)
    for request, answer in zip(requests, engine.choose(requests), strict=True):
        text = request.messages[0].content
        prompt = prompt_ids(plain, text, "Answer:")
        for choice, mass in zip(choices, masses(answer), strict=True):
            ids = continuation_ids(plain, text, "Answer:", choice)
            expected = plain_probability(plain, prompt, ids)
            # "no" without its space is another token for the same word.
            assert mass == 0 or mass >= expected - 1e-4
            assert mass <= expected + 0.02
        assert sum(masses(answer)) > 0


def test_a_choice_that_begins_another_is_told_apart_by_the_second_token(
    engine: Engine, plain: Any
) -> None:
    """The model's tokens are single digits: 1 is what does not go on to 10."""
    asked, begun = "Count from 1 to 12.", "1, 2, 3, 4, 5, 6, 7, 8, 9, "
    scores = tuple(str(score) for score in range(1, 11))
    (answer,) = engine.choose([ChooseRequest(user(asked), begun, choices=scores)])
    prompt = prompt_ids(plain, asked, begun)
    one, ten = (
        plain_probability(plain, prompt, continuation_ids(plain, asked, begun, score))
        for score in ("1", "10")
    )
    assert ten > 0.5
    assert masses(answer)[9] == pytest.approx(ten, abs=1e-3)
    assert masses(answer)[0] == pytest.approx(one - ten, abs=1e-3)


def test_a_prompt_over_the_context_is_said_to_be(engine: Engine) -> None:
    with pytest.raises(PromptTooLong):
        engine.generate([GenerateRequest(user("word " * 6000), max_tokens=8)])


def test_an_abort_reaches_the_server(engine: Engine) -> None:
    request = GenerateRequest(user("Write a long story."), max_tokens=3000, owner="mine")
    stop = threading.Timer(1.0, engine.abort, ["mine", "cancelled"])
    stop.start()
    with pytest.raises(EngineAborted):
        engine.generate([request])
    # The server is free again, or this would wait for 3,000 tokens.
    assert engine.generate([GenerateRequest(user(PROMPTS[0]), max_tokens=4, deadline_s=20)])
