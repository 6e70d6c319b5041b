"""Talk with an OpenAI-compatible server: pooled connections, adaptive concurrency, retries.

What a request asks and what its answer means is the engine's; what is known here is when to send,
when to send again, and which error a failure is. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from schemas.errors import (
    ConfigError,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    PromptTooLong,
)
from workers.engines.adaptive_limit import AdaptiveLimit, Gate

_FIRST_PAUSE_S = 0.5
_MOST_PAUSE_S = 20.0
_TOO_LONG = re.compile(
    r"context.{0,12}length|context.{0,12}window|too (?:long|many tokens)|exceeds? .{0,40}tokens",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of the model.

    Attributes:
        owner: Its kind, e.g. ``vllm``; "" where it does not say.
        context_tokens: Longest prompt plus completion; None where it does not say.
    """

    owner: str = ""
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A failure that another try may mend."""

    error: EngineError
    retry_after_s: float | None = None


class OpenAIServer:
    """One server, one key, one model."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None,
        api_key_env: str,
        most_in_flight: int,
        request_timeout_s: float,
        tries: int,
    ) -> None:
        """Make the client; nothing is sent yet.

        Args:
            model: The model's name on the server.
            base_url: Address up to and with ``/v1``; None for the vendor's own.
            api_key_env: Name of the environment variable that holds the key. A server of one's
                own may need none.
            most_in_flight: Most requests at once.
            request_timeout_s: Seconds after which one try is given up.
            tries: Tries of one request, >= 1.

        Raises:
            ConfigError: The vendor's own address and no key.
        """
        key = os.environ.get(api_key_env)
        if key is None and base_url is None:
            raise ConfigError(
                f"model {model!r}: the environment has no {api_key_env}; set it to the key, or "
                "set options.base_url to a server of your own"
            )
        self._model = model
        self._tries = tries
        self._limit = AdaptiveLimit(most_in_flight)
        self._gate = Gate(self._limit)
        self._client = openai.AsyncOpenAI(
            api_key=key or "none", base_url=base_url, timeout=request_timeout_s, max_retries=0
        )

    @property
    def waiting(self) -> int:
        """Requests that wait to be sent."""
        return self._gate.waiting

    @property
    def most_at_once(self) -> int:
        """Requests that may be in flight now."""
        return self._limit.value

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def probe(self) -> Served:
        """Ask the server for the model.

        Raises:
            ConfigError: The server answers, and refuses the key or does not have the model.
            EngineUnavailable: The server does not answer.
        """
        try:
            models = {model.id: model async for model in self._client.models.list()}
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ConfigError(f"{self._where} refuses the key: {_said(error)}") from error
        except openai.NotFoundError:
            # Some servers list no models; the first request will show.
            return Served()
        except openai.APIError as error:
            raise EngineUnavailable(f"{self._where} does not answer: {_said(error)}") from error
        if self._model not in models:
            known = ", ".join(sorted(models)[:10]) or "none"
            raise ConfigError(f"{self._where} has no model {self._model!r}; it has: {known}")
        model = models[self._model]
        context = (model.model_extra or {}).get("max_model_len")
        return Served(model.owned_by or "", int(context) if context else None)

    async def chat(self, body: Mapping[str, Any]) -> Any:
        """Ask for one chat completion.

        Raises:
            PromptTooLong: The server says so.
            EngineTimeout: The last try took too long.
            EngineUnavailable: The server refused every try, or cannot be reached.
            EngineError: It refused this request for good.
        """
        create = self._client.chat.completions.create
        return await self._until_answered(lambda: create(model=self._model, **body))

    async def _until_answered(self, send: Callable[[], Awaitable[Any]]) -> Any:
        tries = 0
        while True:
            tries += 1
            async with self._gate.entered() as epoch:
                try:
                    answer = await send()
                except openai.APIError as error:
                    trouble = self._trouble(error)
                    self._limit.overloaded(epoch)
                else:
                    self._limit.succeeded()
                    return answer
            if tries >= self._tries:
                raise trouble.error
            await asyncio.sleep(_pause_s(tries, trouble.retry_after_s))

    def _trouble(self, error: openai.APIError) -> Trouble:
        """What another try may mend; everything else is raised."""
        said = f"{self._where}: {_said(error)}"
        if isinstance(error, openai.APITimeoutError):
            return Trouble(EngineTimeout(f"{said}; allow more by options.request_timeout_s"))
        if isinstance(error, openai.APIConnectionError):
            return Trouble(EngineUnavailable(f"{said}; is the server up?"))
        if not isinstance(error, openai.APIStatusError):
            raise EngineError(said) from error
        wait_s = _retry_after_s(error.response.headers)
        if error.status_code in (401, 403, 404) or error.code == "insufficient_quota":
            raise EngineUnavailable(said, wait_s) from error
        if error.status_code in (408, 409, 429) or error.status_code >= 500:
            return Trouble(EngineUnavailable(said, wait_s), wait_s)
        if error.code == "context_length_exceeded" or _TOO_LONG.search(str(error)):
            raise PromptTooLong(f"{said}; shorten the input or choose another model") from error
        raise EngineError(said) from error

    @property
    def _where(self) -> str:
        return f"model {self._model!r} at {self._client.base_url}"


def _said(error: openai.APIError) -> str:
    cause = f" ({error.__cause__})" if isinstance(error, openai.APIConnectionError) else ""
    return f"{error.message}{cause}"[:500]


def _pause_s(tries: int, asked_s: float | None) -> float:
    """Seconds before the next try: as asked, or a random part of a growing time."""
    if asked_s is not None:
        return min(asked_s, _MOST_PAUSE_S)
    growing_s = min(_MOST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (tries - 1))
    return random.uniform(0.5, 1.0) * growing_s


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header (RFC 9110, section 10.2.3) or its millisecond kin."""
    if (milliseconds := headers.get("retry-after-ms")) is not None:
        return _seconds(milliseconds, 0.001)
    said = headers.get("retry-after")
    if said is None:
        return None
    if (seconds := _seconds(said, 1.0)) is not None:
        return seconds
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _seconds(text: str, unit_s: float) -> float | None:
    try:
        return max(0.0, float(text) * unit_s)
    except ValueError:
        return None
