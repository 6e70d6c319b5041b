"""Prove, while a model loads, that packing and in-place decoding compute what the model computes.

Architectures differ in ways no list can follow (position biases, soft caps, shared layers). Two
tiny forward passes find out whether this one bends to our masks, before any judgement is made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from schemas.errors import ConfigError
from workers.engines.kv_cache import Prefix, SlotCache
from workers.engines.packing import Prefiller, Segment

_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}


# Common words: on special tokens, which never stand like this, half precision alone may change
# a small model's answers beyond any tolerance.
_PREFIX = "The weather in the north of the country"
_ENDS = (" was cold and wet", " is getting better")


@torch.inference_mode()
def check_packing(model: Any, tokenizer: Any, model_name: str) -> None:
    """Compare plain forward passes with a packed one and a decoded step.

    Raises:
        ConfigError: The outcomes differ, so answers of this model could not be trusted.
    """
    prefix, *ends = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (_PREFIX, *_ENDS)
    )
    try:
        worst = max(_packed_error(model, prefix, ends), _decoded_error(model, prefix, ends))
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(
            f"model {model_name!r} does not run with packed prompts ({error}); choose another model"
        ) from error
    if not worst <= _TOLERANCE.get(model.dtype, 0.5):
        raise ConfigError(
            f"model {model_name!r} computes something else with packed prompts (log-probabilities "
            f"differ by {worst:.3g}); choose another model"
        )


def _plain(model: Any, tokens: list[int]) -> Tensor:
    ids = torch.tensor([tokens], device=model.device)
    scores: Tensor = model(input_ids=ids, use_cache=False).logits[0, -1]
    return scores.float().log_softmax(dim=-1)


def _packed_error(model: Any, prefix: list[int], ends: list[list[int]]) -> float:
    """Each end once behind a segment of its own pass, and once behind a known prefix."""
    prefiller = _prefiller(model)
    first = prefiller.run([], [Segment(prefix), *(Segment(end, parent=0) for end in ends)])
    known = Prefix(tuple(prefix), first.states[0])
    again = prefiller.run([known], [Segment(end, prefix=0) for end in ends])
    scored = first.log_probabilities[1:] + again.log_probabilities
    return max(
        _difference(scores[-1], _plain(model, prefix + end))
        for scores, end in zip(scored, ends * 2, strict=True)
    )


def _decoded_error(model: Any, prefix: list[int], ends: list[list[int]]) -> float:
    """Prefill all but the last token of each sequence into slots, then decode that token."""
    wholes = [prefix + end for end in ends]
    packed = _prefiller(model).run([], [Segment(tokens[:-1]) for tokens in wholes])
    slots = SlotCache(_layers(model), model.device)
    slots.reserve(len(wholes), 16, packed.states[0], (0, 0))
    for row, states in enumerate(packed.states):
        slots.write(row, 0, states)
    positions, mask = slots.plan_step([len(tokens) - 1 for tokens in wholes])
    last = torch.tensor([tokens[-1:] for tokens in wholes], device=model.device)
    logits = model(
        input_ids=last, position_ids=positions, attention_mask=mask, cache=slots, use_cache=True
    ).logits[:, -1]
    return max(
        _difference(row.float().log_softmax(dim=-1), _plain(model, tokens))
        for row, tokens in zip(logits, wholes, strict=True)
    )


def _difference(one: Tensor, other: Tensor) -> float:
    # The likeliest tokens only: far tails differ by rounding alone in half precision.
    top = other.topk(min(16, other.shape[-1])).indices
    return float((one[top] - other[top]).abs().max())


def _prefiller(model: Any) -> Prefiller:
    return Prefiller(model, _layers(model), model.device)


def _layers(model: Any) -> int:
    return int(model.config.get_text_config().num_hidden_layers)
