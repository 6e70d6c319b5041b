"""Engine on any OpenAI-compatible server: vLLM's, llama.cpp's, a vendor's.

Text comes from chat completions. A distribution comes from the log-probabilities of the first
token where the server offers them, and otherwise from a strictly read word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.errors import EngineError, OutputError
from workers.engines import (
    ChooseRequest,
    Distribution,
    GenerateRequest,
    Generation,
    Prompted,
    Snapshot,
    Usage,
)
from workers.engines.chosen_words import from_text, from_tokens, have_beginnings
from workers.engines.openai_server import OpenAIServer
from workers.engines.options import read_options
from workers.engines.request_loop import RequestLoop

#: Kinds of server that go on with a begun assistant turn when asked to.
_CONTINUING = frozenset({"vllm", "sglang"})
#: Most alternatives that the protocol gives for a token.
_TOP = 20
#: What some model takes for the end or the beginning of a turn. The server's tokenizer is not
#: here, so that the usual marks are broken up in what it is sent to judge.
_MARKS = re.compile(
    r"<\|[^<>|\n]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad)>"
)
#: Where neither the server nor the configuration says how long a context is.
_UNSAID_CONTEXT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """Settings of this engine.

    Attributes:
        base_url: Address up to and with ``/v1``; None for the vendor's own.
        api_key_env: Name of the environment variable that holds the key.
        prefill: ``continue``: the server goes on with a begun assistant turn. ``instruct``: the
            beginning is asked for in words. ``auto``: by what kind of server it says it is.
        logprobs: ``auto``: log-probabilities where the server gives them, else words.
            ``require``: an answer without them is an error. ``off``: words.
        answer_tokens: Most tokens of an answer in words; more for a model that reasons first.
        request_timeout_s: Seconds after which one try is given up.
        tries: Tries of one request.
        max_tokens_key: Name of the limit: ``max_tokens`` or ``max_completion_tokens``.
        max_context_tokens: Longest prompt plus completion; None for what the server says.
        max_batch_rows: Most requests at once; fewer while the server does not keep up.
    """

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    prefill: Literal["auto", "continue", "instruct"] = "auto"
    logprobs: Literal["auto", "require", "off"] = "auto"
    answer_tokens: int = 16
    request_timeout_s: float = 120.0
    tries: int = 5
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    max_context_tokens: int | None = None
    max_batch_rows: int = 32


class OpenAIEngine:
    """The engine protocol on a server elsewhere. Its device's seconds are not known here."""

    def __init__(self, model_name: str, options: OpenAIOptions) -> None:
        """Ask the server whether it has the model.

        Raises:
            ConfigError: It has not, it refuses the key, or there is no key.
            EngineUnavailable: It does not answer.
        """
        self._model_name = model_name
        self._options = options
        self._requests = RequestLoop(options.max_batch_rows, divides_time=False)
        try:
            self._requests.call(self._open())
        except BaseException:
            self._requests.close()
            raise

    async def _open(self) -> None:
        options = self._options
        # On the loop's thread, where its connections live.
        self._server = OpenAIServer(
            self._model_name,
            base_url=options.base_url,
            api_key_env=options.api_key_env,
            most_in_flight=options.max_batch_rows,
            request_timeout_s=options.request_timeout_s,
            tries=options.tries,
        )
        try:
            served = await self._server.probe()
        except BaseException:
            await self._server.close()
            raise
        self._context_tokens = (
            options.max_context_tokens or served.context_tokens or _UNSAID_CONTEXT
        )
        self._continues = options.prefill == "continue" or (
            options.prefill == "auto" and served.owner in _CONTINUING
        )
        self._reads_words = options.logprobs == "off"

    @property
    def model_name(self) -> str:
        """The configured model."""
        return self._model_name

    @property
    def context_tokens(self) -> int:
        """Longest prompt plus completion, in tokens, as far as it is known."""
        return self._context_tokens

    @property
    def most_at_once(self) -> int:
        """Requests that may be in flight now."""
        return self._server.most_at_once

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """Write one completion per request."""
        return self._requests.answer(requests, requests, self._write)

    def choose(self, requests: Sequence[ChooseRequest]) -> list[Distribution]:
        """Weigh each request's choices."""
        return self._requests.answer(requests, requests, self._weigh)

    def abort(self, owner: str, reason: str) -> int:
        """End one owner's requests with EngineAborted; the others go on."""
        return self._requests.abort(owner, reason)

    def abort_all(self, reason: str) -> None:
        """End everything in flight with EngineAborted and refuse new requests."""
        self._requests.abort_all(reason)

    def last_progress_s(self) -> float:
        """0, since to start this worker again would help no server; infinity when broken."""
        return 0.0 if self._requests.is_alive else float("inf")

    def snapshot(self) -> Snapshot:
        """Counters for metrics; steps and rows are the server's and not known."""
        return self._requests.snapshot(self._server.waiting)

    def close(self) -> None:
        """Close the connections."""
        self._requests.close(self._server.close)

    async def _write(self, request: GenerateRequest) -> Generation:
        body: dict[str, Any] = {
            "messages": self._messages(request),
            self._options.max_tokens_key: request.max_tokens,
            "temperature": request.temperature,
        }
        if request.temperature > 0:
            body |= {"top_p": request.top_p, "seed": request.seed}
        if request.stop:
            body["stop"] = list(request.stop)
        completion = await self._complete(body, bool(request.assistant_prefix))
        choice = completion.choices[0]
        text = choice.message.content or ""
        if not self._continues:
            text = _without_beginning(text, request.assistant_prefix)
        if choice.finish_reason not in ("stop", "length"):
            raise OutputError(f"the server ended the answer: {choice.finish_reason}", raw=text)
        return Generation(text, choice.finish_reason, _usage(completion))

    async def _weigh(self, request: ChooseRequest) -> Distribution:
        if not self._reads_words:
            distribution = await self._weigh_tokens(request)
            if distribution is not None:
                return distribution
        return await self._weigh_words(request)

    async def _weigh_tokens(self, request: ChooseRequest) -> Distribution | None:
        """From the first token's alternatives; None where the server gives none."""
        body = {
            "messages": self._messages(request, request.choices),
            # A second token tells apart what the first one leaves open.
            self._options.max_tokens_key: 2 if have_beginnings(request.choices) else 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": _TOP,
        }
        try:
            completion = await self._complete(body, bool(request.assistant_prefix))
        except EngineError as error:
            if self._options.logprobs == "auto" and "logprobs" in str(error):
                self._reads_words = True
                return None
            raise
        logprobs = completion.choices[0].logprobs
        if logprobs is None or not logprobs.content:
            if self._options.logprobs == "require":
                raise EngineError(
                    "the server gives no log-probabilities; set options.logprobs to 'auto' to "
                    "read its words instead"
                )
            self._reads_words = True
            return None
        first, *later = logprobs.content
        tops = [[(each.token, each.logprob) for each in at.top_logprobs] for at in (first, *later)]
        second = tops[1] if later else []
        probabilities, outside_mass = from_tokens(request.choices, tops[0], first.token, second)
        text = completion.choices[0].message.content
        return Distribution(probabilities, outside_mass, _usage(completion), text)

    async def _weigh_words(self, request: ChooseRequest) -> Distribution:
        body = {
            "messages": self._messages(request, request.choices),
            self._options.max_tokens_key: self._options.answer_tokens,
            "temperature": 0,
        }
        completion = await self._complete(body, bool(request.assistant_prefix))
        text = completion.choices[0].message.content or ""
        probabilities, outside_mass = from_text(
            request.choices, _without_beginning(text, request.assistant_prefix)
        )
        return Distribution(probabilities, outside_mass, _usage(completion), text)

    async def _complete(self, body: dict[str, Any], is_begun: bool) -> Any:
        if self._continues and is_begun:
            body["extra_body"] = {"continue_final_message": True, "add_generation_prompt": False}
        completion = await self._server.chat(body)
        if not completion.choices or completion.usage is None:
            raise EngineError(
                f"the server's answer has no {'usage' if completion.choices else 'choices'}; "
                "without it nothing can be read or accounted"
            )
        return completion

    def _messages(self, request: Prompted, choices: Sequence[str] = ()) -> list[dict[str, str]]:
        messages = [{"role": m.role, "content": defused(m.content)} for m in request.messages]
        if self._continues:
            if request.assistant_prefix:
                messages.append({"role": "assistant", "content": request.assistant_prefix})
            return messages
        messages[-1]["content"] += _in_words(request.assistant_prefix, choices)
        return messages


def build(model_name: str, settings: Mapping[str, Any]) -> OpenAIEngine:
    """Engine from plain settings, as the factory hands them over.

    Raises:
        ConfigError: A setting is not known here.
    """
    options = read_options("openai", model_name, OpenAIOptions, settings)
    return OpenAIEngine(model_name, options)


def defused(text: str) -> str:
    """The text with the usual marks of turns broken up, so that it cannot end its own."""
    return _MARKS.sub(lambda match: match[0][0] + " " + match[0][1:], text)


def _in_words(beginning: str, choices: Sequence[str]) -> str:
    if choices:
        offered = ", ".join(choice.strip() for choice in choices)
        return f"\n\nReply with exactly one of these and nothing else: {offered}"
    return f'\n\nBegin your reply with "{beginning.strip()}"' if beginning.strip() else ""


def _without_beginning(text: str, beginning: str) -> str:
    """The completion alone, where the server wrote the asked beginning as well."""
    wanted = beginning.strip()
    return text.lstrip().removeprefix(wanted) if wanted else text


def _usage(completion: Any) -> Usage:
    usage = completion.usage
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details else 0
    return Usage(usage.prompt_tokens, usage.completion_tokens, cached)
