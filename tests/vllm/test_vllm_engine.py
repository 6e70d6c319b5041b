"""The vLLM engine on the real small model, against plain one-by-one transformers calls.

Needs an environment of its own: ``make test-vllm``. Tolerance in float32: probabilities agree to
1e-4 or one part in a thousand; greedy texts are equal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from schemas.errors import EngineAborted, EngineTimeout, EngineUnavailable, PromptTooLong
from tests.acceptance.plain_model import (
    MODELS,
    PROMPTS,
    continuation_ids,
    masses,
    plain_completion,
    plain_probability,
    prompt_ids,
    siblings,
    user,
)
from tests.acceptance.system import wait_for
from workers.engines import ChooseRequest, Engine, GenerateRequest
from workers.engines.factory import build_engine
from workers.engines.model_files import BUNDLED_MODEL

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")
psutil = pytest.importorskip("psutil")
pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]


def new_engine(**settings: Any) -> Engine:
    chosen = {"dtype": "float32", "max_context_tokens": 2048, "max_batch_rows": 16, **settings}
    return build_engine({"engine": "vllm", "model": BUNDLED_MODEL, **chosen}, MODELS)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with_engine = new_engine()
    yield with_engine
    with_engine.close()


def children() -> list[Any]:
    """vLLM's processes under this one."""
    return [p for p in psutil.Process().children(recursive=True) if "VLLM::" in p.name()]


def test_greedy_completions_equal_plain_generate(engine: Engine, plain: Any) -> None:
    requests = [GenerateRequest(user(text), max_tokens=24) for text in PROMPTS]
    with ThreadPoolExecutor(3) as threads:
        pairs = threads.map(engine.generate, [requests[0:2], requests[2:4], requests[4:6]])
        answers = [answer for pair in pairs for answer in pair]
    assert [a.text for a in answers] == [plain_completion(plain, t, 24) for t in PROMPTS]
    for answer, text in zip(answers, PROMPTS, strict=True):
        assert answer.usage.input_tokens == len(prompt_ids(plain, text))
        assert answer.finish_reason in ("stop", "length")
        assert answer.usage.device_s > 0


def test_a_begun_turn_is_no_part_of_the_completion(engine: Engine, plain: Any) -> None:
    request = GenerateRequest(user(PROMPTS[0]), "The capital is", max_tokens=6)
    text = engine.generate([request])[0].text
    assert text == plain_completion(plain, PROMPTS[0], 6, "The capital is")


def test_stop_strings_end_the_text(engine: Engine) -> None:
    request = GenerateRequest(user("Count from one to ten."), max_tokens=60, stop=("\n", ","))
    answer = engine.generate([request])[0]
    assert answer.finish_reason == "stop"
    assert "," not in answer.text
    assert "\n" not in answer.text


@pytest.mark.parametrize(
    "choices",
    [(" none", " minor", " moderate", " severe"), (" A", " A little", " B"), (" yes", " no")],
)
def test_distributions_equal_one_by_one_log_probabilities(
    engine: Engine, plain: Any, choices: tuple[str, ...]
) -> None:
    for request, answer in zip(
        siblings("Severity:", choices), engine.choose(siblings("Severity:", choices)), strict=True
    ):
        text = request.messages[0].content
        prompt = prompt_ids(plain, text, "Severity:")
        expected = [
            plain_probability(plain, prompt, continuation_ids(plain, text, "Severity:", choice))
            for choice in choices
        ]
        # " A" begins " A little": its own mass is what the longer one leaves.
        if choices[1] == " A little":
            expected[0] -= expected[1]
        assert masses(answer) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_siblings_reuse_their_prefix(engine: Engine) -> None:
    engine.choose(siblings("Reuse:"))
    again = engine.choose(siblings("Reuse:"))
    assert all(answer.usage.cached_tokens >= 32 for answer in again)


def test_a_seed_decides_the_text_whatever_else_is_in_the_batch(engine: Engine) -> None:
    drawn = GenerateRequest(user(PROMPTS[4]), max_tokens=16, temperature=0.8, seed=11)
    others = [
        GenerateRequest(user(t), max_tokens=9, temperature=1.0, seed=i)
        for i, t in enumerate(PROMPTS)
    ]
    alone = engine.generate([drawn])[0].text
    assert engine.generate([*others, drawn])[-1].text == alone
    different = GenerateRequest(user(PROMPTS[4]), max_tokens=16, temperature=0.8, seed=12)
    assert engine.generate([different])[0].text != alone


def test_seeded_requests_with_long_prompts_leave_vllm_alive(engine: Engine) -> None:
    # Computed in parts, such prompts made vLLM rewind a random stream, and end.
    long = [
        GenerateRequest(
            user(f"{i} " + "rain and wind " * 200), max_tokens=4, temperature=0.7, top_p=0.9, seed=i
        )
        for i in range(10)
    ]
    assert len(engine.generate(long)) == 10
    assert engine.last_progress_s() == 0


def test_a_prompt_over_the_context_is_refused_and_the_others_answered(engine: Engine) -> None:
    with pytest.raises(PromptTooLong, match="2048"):
        engine.generate([GenerateRequest(user("word " * 3000), max_tokens=8)])
    assert engine.generate([GenerateRequest(user(PROMPTS[0]), max_tokens=2)])[0].text


def test_one_owner_is_withdrawn_while_the_others_go_on(engine: Engine) -> None:
    long = {"max_tokens": 400, "stop": ("never-written",)}
    mine = GenerateRequest(user("Write a long story about a ship."), owner="mine", **long)
    other = GenerateRequest(user("Write a story about a tree."), max_tokens=40)
    with ThreadPoolExecutor(2) as threads:
        doomed, going = (
            threads.submit(engine.generate, [mine]),
            threads.submit(engine.generate, [other]),
        )
        wait_for(lambda: engine.snapshot().running >= 2, "both run")
        assert engine.abort("mine", "cancelled") == 1
        with pytest.raises(EngineAborted, match="cancelled"):
            doomed.result(5)
        assert going.result(60)[0].usage.output_tokens > 0
    wait_for(lambda: engine.snapshot().running == 0, "vLLM forgets what was withdrawn", 10)


def test_a_deadline_ends_the_wait(engine: Engine) -> None:
    request = GenerateRequest(user("Write a long story."), max_tokens=800, deadline_s=0.3)
    with pytest.raises(EngineTimeout):
        engine.generate([request])


def test_device_seconds_add_up_to_the_time_that_passed(engine: Engine) -> None:
    began_s = time.monotonic()
    answers = engine.generate([GenerateRequest(user(t), max_tokens=12) for t in PROMPTS])
    passed_s = time.monotonic() - began_s
    assert sum(a.usage.device_s for a in answers) == pytest.approx(passed_s, rel=0.1)


def test_the_snapshot_counts_rows(engine: Engine) -> None:
    before = engine.snapshot()
    engine.generate([GenerateRequest(user(t), max_tokens=8, stop=("~~",)) for t in PROMPTS])
    after = engine.snapshot()
    assert after.step_rows - before.step_rows == after.output_tokens - before.output_tokens
    assert after.steps > before.steps


def test_when_vllms_process_dies_callers_hear_of_it_and_the_watchdog_too() -> None:
    engine = new_engine()
    assert children()
    kill = threading.Timer(0.5, lambda: [os.kill(p.pid, signal.SIGKILL) for p in children()])
    kill.start()
    with pytest.raises(EngineUnavailable, match="restart"):
        engine.generate([GenerateRequest(user("Write a long story."), max_tokens=1500)])
    assert engine.last_progress_s() == float("inf")
    with pytest.raises(EngineUnavailable):
        engine.choose([ChooseRequest(user("?"), choices=(" a", " b"))])
    engine.close()


@pytest.mark.parametrize("end", ["os._exit(70)", "os.kill(os.getpid(), 9)"])
def test_vllms_processes_end_with_the_worker(end: str) -> None:
    script = (
        "import os\nif __name__ == '__main__':\n"
        "    from tests.vllm.test_vllm_engine import children, new_engine\n"
        "    new_engine(max_context_tokens=256)\n"
        "    print(*(p.pid for p in children()), flush=True)\n"
        f"    {end}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=200, check=False
    )
    started = [int(word) for word in done.stdout.split()]
    assert started

    def gone() -> bool:
        alive = [psutil.Process(pid) for pid in started if psutil.pid_exists(pid)]
        return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)

    wait_for(gone, f"{started} ended", 10)
