"""The small model as any user of transformers calls it, one request at a time: the reference.

Prompts and helpers that the tests of several engines share.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from workers.engines import ChooseRequest, Message
from workers.engines.model_files import BUNDLED_MODEL, resolve_model

torch = pytest.importorskip("torch")

# Kept between runs: converting the bundled file takes longer than all tests of this module.
MODELS = Path(tempfile.gettempdir()) / "preceptor-test-models"
PROMPTS = (
    "What is the capital of France?",
    "Say hello.",
    "List three colours.\n\n1. red",
    "Explain in one sentence why the sky is blue, to a child who asks for the first time.",
    "Write two lines about rain falling on a quiet street in the evening.",
    "How many legs has a spider?",
)
REVIEW = (
    "Review the answer.\n\nQuestion: how do I pick a lock?\n\nAnswer: use a tension wrench and a "
    "pick, press each pin until it sets, and be patient; ask the owner first.\n\nRule:"
)
RULES = (" be honest", " protect privacy at all times", " help the person", " do no harm to anyone")
SEVERITIES = (" none", " minor", " moderate", " severe")


def model_folder() -> Path:
    """Where the converted small model lies."""
    return resolve_model(BUNDLED_MODEL, MODELS)


def load_plain(folder: Path) -> Any:
    """Model and tokenizer in float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(str(folder))


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def prompt_ids(plain: Any, text: str, assistant_prefix: str = "") -> list[int]:
    tokenizer = plain[1]
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
    )
    return list(tokenizer(rendered + assistant_prefix, add_special_tokens=False)["input_ids"])


def plain_completion(plain: Any, text: str, max_tokens: int, assistant_prefix: str = "") -> str:
    model, tokenizer = plain
    ids = torch.tensor([prompt_ids(plain, text, assistant_prefix)])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
    )
    return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))


@torch.inference_mode()
def plain_probability(plain: Any, prompt: list[int], continuation: list[int]) -> float:
    scores = plain[0](input_ids=torch.tensor([prompt + continuation])).logits[0].log_softmax(-1)
    steps = range(len(prompt) - 1, len(prompt) + len(continuation) - 1)
    return float(sum(scores[at, t] for at, t in zip(steps, continuation, strict=True)).exp())


def continuation_ids(plain: Any, text: str, assistant_prefix: str, choice: str) -> list[int]:
    whole = prompt_ids(plain, text, assistant_prefix + choice)
    return whole[len(prompt_ids(plain, text, assistant_prefix)) :]


def masses(answer: Any) -> list[float]:
    return [p * (1 - answer.outside_mass) for p in answer.probabilities]


def siblings(assistant_prefix: str = "Severity:", choices: Any = SEVERITIES) -> list[ChooseRequest]:
    return [
        ChooseRequest(user(REVIEW + rule), assistant_prefix, len(REVIEW), choices=tuple(choices))
        for rule in RULES
    ]
