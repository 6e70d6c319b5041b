"""From messages to token ids and back: chat template, shared prefix, choices, completion text.

Runs in the calling threads. It never runs the model. Text that looks like one of the model's
special tokens is broken up inside message contents, so that no judged text can end its turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import ConfigError, PromptTooLong
from workers.engines import ChooseRequest, GenerateRequest, Message, Prompted

# Tokens of the prompt decoded in front of a completion: some tokenizers drop the space of a
# text's first word, and the completion's first word is not the text's first.
_TAIL_TOKENS = 4


@dataclass(frozen=True, slots=True)
class TokenisedPrompt:
    """Token ids of a prompt; the first ``shared_tokens`` belong to the shared prefix alone."""

    tokens: tuple[int, ...]
    shared_tokens: int


@dataclass(frozen=True, slots=True)
class TokenisedGenerate:
    """A GenerateRequest ready to compute."""

    prompt: TokenisedPrompt
    request: GenerateRequest


@dataclass(frozen=True, slots=True)
class TokenisedChoose:
    """A ChooseRequest ready to compute: each choice's tokens continue the prompt's."""

    prompt: TokenisedPrompt
    choices: tuple[tuple[int, ...], ...]


class Tokeniser:
    """The model's own tokenizer and chat template."""

    def __init__(self, tokenizer: Any, model_name: str, context_tokens: int) -> None:
        """Wrap a tokenizer.

        Raises:
            ConfigError: The tokenizer has no chat template.
        """
        if not tokenizer.chat_template:
            raise ConfigError(
                f"model {model_name!r} has no chat template; choose its instruct version"
            )
        self._tokenizer = tokenizer
        self._model_name = model_name
        self._context_tokens = context_tokens
        special = sorted(set(tokenizer.all_special_tokens), key=len, reverse=True)
        self._special = re.compile("|".join(re.escape(token) for token in special) or r"(?!)")
        self._folds_system = not self._renders_system()

    def generate(self, request: GenerateRequest) -> TokenisedGenerate:
        """Tokenise one request for text.

        Raises:
            PromptTooLong: The prompt and ``max_tokens`` exceed the context.
        """
        text, boundary = self._rendered(request)
        prompt = self._prompt(text, boundary)
        self._check_fits(len(prompt.tokens), request.max_tokens)
        return TokenisedGenerate(prompt, request)

    def choose(self, request: ChooseRequest) -> TokenisedChoose:
        """Tokenise one request for a distribution.

        Raises:
            PromptTooLong: The prompt and its longest choice exceed the context.
            ValueError: Fewer than two choices, or two that become the same tokens.
        """
        text, boundary = self._rendered(request)
        prompt = self._prompt(text, boundary)
        whole = [tuple(self._ids(text + choice)) for choice in request.choices]
        # A choice may merge with the end of the prompt: then the common part ends before it.
        common = min(common_length([prompt.tokens, *whole]), min(len(ids) for ids in whole) - 1)
        choices = tuple(ids[common:] for ids in whole)
        if len(choices) < 2 or len(set(choices)) < len(choices):
            raise ValueError(f"choices must be two or more and distinct: {request.choices!r}")
        self._check_fits(common, max(len(choice) for choice in choices))
        shared = min(prompt.shared_tokens, common - 1)
        return TokenisedChoose(TokenisedPrompt(prompt.tokens[:common], shared), choices)

    def completion_text(self, prompt: Sequence[int], completion: Sequence[int]) -> str:
        """Text of the completion alone, special tokens left out."""
        tail = list(prompt[-_TAIL_TOKENS:])
        before, both = self._decode(tail), self._decode([*tail, *completion])
        return both[len(before) :] if both.startswith(before) else self._decode(list(completion))

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _check_fits(self, prompt_tokens: int, answer_tokens: int) -> None:
        if prompt_tokens + answer_tokens > self._context_tokens:
            raise PromptTooLong(
                f"the prompt has {prompt_tokens} tokens and its answer up to {answer_tokens}, the "
                f"context of {self._model_name} {self._context_tokens}; shorten the input or "
                "configure a model with a longer context"
            )

    def _rendered(self, request: Prompted) -> tuple[str, int]:
        """The whole text up to the answer, and how many of its characters are shared."""
        *earlier, last = request.messages
        shared = self._defused(last.content[: request.shared_prefix_chars])
        rest = self._defused(last.content[request.shared_prefix_chars :])
        messages = [Message(m.role, self._defused(m.content)) for m in earlier]
        messages.append(Message(last.role, shared + rest))
        text = self._templated(messages)
        start = text.rfind(shared) if shared else -1
        boundary = start + len(shared) if start >= 0 else 0
        return text + request.assistant_prefix, boundary

    def _templated(self, messages: list[Message]) -> str:
        if self._folds_system and messages[0].role == "system" and len(messages) > 1:
            merged = f"{messages[0].content}\n\n{messages[1].content}"
            messages = [Message(messages[1].role, merged), *messages[2:]]
        turns = [{"role": m.role, "content": m.content} for m in messages]
        return str(
            self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        )

    def _renders_system(self) -> bool:
        probe = [{"role": "system", "content": "Xq"}, {"role": "user", "content": "y"}]
        try:
            text = self._tokenizer.apply_chat_template(
                probe, add_generation_prompt=True, tokenize=False
            )
        except Exception:
            # Templates refuse a role by raising whatever they like; we then fold the turn.
            return False
        return "Xq" in text

    def _defused(self, text: str) -> str:
        return self._special.sub(lambda match: match[0][0] + " " + match[0][1:], text)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _prompt(self, text: str, boundary: int) -> TokenisedPrompt:
        if not boundary or not self._tokenizer.is_fast:
            return TokenisedPrompt(tuple(self._ids(text)), 0)
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        shared = sum(end <= boundary for _, end in encoded["offset_mapping"])
        tokens = tuple(encoded["input_ids"])
        # The last shared token may still merge with what follows in a sibling's text.
        return TokenisedPrompt(tokens, max(0, min(shared, len(tokens)) - 1))


def common_length(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest common beginning of all sequences, which are of one type."""
    first = sequences[0]
    low, high = 0, min(map(len, sequences))
    # Halving compares whole slices, which is much faster than token by token.
    while low < high:
        middle = (low + high + 1) // 2
        wanted = first[low:middle]
        if all(sequence[low:middle] == wanted for sequence in sequences):
            low = middle
        else:
            high = middle - 1
    return low
