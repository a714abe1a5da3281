"""Google's Gemini, through the Gemini API with a key, as a model that answers.

The SDK is google-genai, imported when the first question is asked. Nothing here tunes (the Gemini API has no model that
can be), and a Vertex project in the environment is not picked up.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from bot.errors import ModelUnavailable
from bot.models import Meter, OnText
from bot.models.patience import Patience, Refused
from bot.models.prices import Prices
from storage.values import Message, Proposal

if TYPE_CHECKING:
    from google.genai import Client
    from google.genai.errors import APIError
    from google.genai.types import GenerateContentConfig, GenerateContentResponse

_FINISHED = {"STOP": "stop", "MAX_TOKENS": "length"}


@dataclass
class _Heard:
    """What a stream has told so far. Thoughts are billed as output, so they count as such."""

    pieces: list[str] = field(default_factory=list)
    finish: str | None = None
    blocked: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0

    def take(self, chunk: "GenerateContentResponse") -> str:
        """Remember a chunk; its new text, without thoughts, is returned."""
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason is not None:
            self.blocked = chunk.prompt_feedback.block_reason.name
        if (usage := chunk.usage_metadata) is not None:
            self.tokens_in = usage.prompt_token_count or 0
            self.tokens_out = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
            self.tokens_cached = usage.cached_content_token_count or 0
        if not chunk.candidates:
            return ""
        candidate = chunk.candidates[0]
        if candidate.finish_reason is not None:
            self.finish = candidate.finish_reason.name
        parts = (candidate.content.parts if candidate.content else None) or []
        return "".join(part.text for part in parts if part.text and not part.thought)


class GeminiModel:
    """One model of the Gemini API."""

    kind = "gemini"

    def __init__(
        self,
        *,
        api_key: str,
        model: str,
        base_url: str | None = None,
        timeout_s: float = 60.0,
        max_output_tokens: int = 1024,
        prices: Prices | None = None,
    ) -> None:
        self._api_key = api_key
        self._model = model
        self._base_url = base_url or None
        self._timeout_s = timeout_s
        self._max_output_tokens = max_output_tokens
        self._prices = prices or Prices.read()
        self._patience = Patience("Gemini", timeout_s)
        self._made: Client | None = None

    @property
    def label(self) -> str:
        return self._model

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Reply to the conversation, within `timeout_s`. Raises `ModelUnavailable`, also for a broken stream."""
        since = time.monotonic()
        heard = await self._patience.answer(lambda: self._attempt(messages, on_text))
        text = "".join(heard.pieces).strip()
        self._check_whole(heard, text)
        cost = self._prices.cost(self._model, heard.tokens_in, heard.tokens_cached, heard.tokens_out)
        return Proposal(
            text=text,
            kind=self.kind,
            model=self._model,
            seconds=time.monotonic() - since,
            tokens_in=heard.tokens_in,
            tokens_out=heard.tokens_out,
            tokens_cached=heard.tokens_cached,
            cost_usd=cost or 0.0,
            finish=_FINISHED[heard.finish or "STOP"],
        )

    async def check(self) -> str:
        """One sentence for `apprentice doctor`: the key works and the model exists. Raises `ModelUnavailable`."""
        await self._patience.answer(self._look_up)
        price = (
            ""
            if self._prices.known(self._model)
            else f" The price of {self._model} is not known, so its costs are counted as 0: add it to "
            "bot/models/prices.json."
        )
        return f"Gemini accepts the key and offers {self._model}.{price}"

    async def close(self) -> None:
        """Close the connections, if there are any."""
        made, self._made = self._made, None
        if made is not None:
            await made.aio.aclose()
            made.close()

    def _client(self) -> "Client":
        if self._made is None:
            from google.genai import Client
            from google.genai.types import HttpOptions, HttpRetryOptions

            once = HttpRetryOptions(attempts=1)
            milliseconds = round(self._timeout_s * 1000)
            options = HttpOptions(base_url=self._base_url, timeout=milliseconds, retry_options=once)
            self._made = Client(api_key=self._api_key, vertexai=False, http_options=options)
        return self._made

    async def _attempt(self, messages: Sequence[Message], on_text: OnText | None) -> _Heard:
        client = self._client()
        import httpx2
        from google.genai import errors

        heard = _Heard()
        try:
            await self._listen(client, messages, heard, on_text)
        except errors.APIError as error:
            raise (self._broken(heard) if heard.pieces else _refused(error, self._model)) from error
        except (httpx2.HTTPError, aiohttp.ClientError, errors.UnknownApiResponseError) as error:
            raise self._broken(heard) from error
        if heard.finish is None and heard.blocked is None:
            raise self._broken(heard)
        return heard

    def _broken(self, heard: _Heard) -> Refused:
        if heard.pieces:
            return Refused("Gemini broke off in the middle of its answer.")
        return Refused("Gemini cannot be reached. Check the network and GEMINI_BASE_URL.", again=True)

    async def _listen(
        self, client: "Client", messages: Sequence[Message], heard: _Heard, on_text: OnText | None
    ) -> None:
        stream: Any = await client.aio.models.generate_content_stream(
            model=self._model, contents=_contents(messages), config=self._config(messages)
        )
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                piece = heard.take(chunk)
                if piece:
                    heard.pieces.append(piece)
                    if on_text is not None:
                        await on_text(piece)

    async def _look_up(self) -> None:
        client = self._client()
        import httpx2
        from google.genai import errors

        try:
            await client.aio.models.get(model=self._model)
        except errors.APIError as error:
            raise _refused(error, self._model) from error
        except (httpx2.HTTPError, aiohttp.ClientError) as error:
            raise self._broken(_Heard()) from error

    def _config(self, messages: Sequence[Message]) -> "GenerateContentConfig":
        from google.genai.types import GenerateContentConfig

        system = "\n\n".join(message.content for message in messages if message.role == "system")
        return GenerateContentConfig(
            system_instruction=system or None, max_output_tokens=self._max_output_tokens, temperature=0.0
        )

    def _check_whole(self, heard: _Heard, text: str) -> None:
        if heard.blocked is not None:
            raise ModelUnavailable(f"Gemini's safety filter refused the question ({heard.blocked}).")
        if heard.finish not in _FINISHED:
            raise ModelUnavailable(f"Gemini's safety filter withheld the answer ({heard.finish}).")
        if not text and heard.finish == "MAX_TOKENS":
            raise ModelUnavailable(
                f"{self._model} spent all {self._max_output_tokens} tokens on thinking. Raise API_MAX_OUTPUT_TOKENS."
            )
        if not text:
            raise ModelUnavailable(f"{self._model} gave an empty answer.")


def _contents(messages: Sequence[Message]) -> Any:
    """The turns as Gemini knows them: roles user and model, and neighbours of one role in one turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"].append({"text": message.content})
        else:
            turns.append({"role": role, "parts": [{"text": message.content}]})
    return turns


def _refused(error: "APIError", model: str) -> Refused:
    """The vendor's error in words, and whether it may pass."""
    reasons = {str(detail.get("reason", "")) for detail in _details(error)}
    code = error.code or 0
    if "API_KEY_INVALID" in reasons or code == 401:
        return Refused("Gemini refuses the key. Set GEMINI_API_KEY to a valid one from Google AI Studio.")
    if code == 403:
        return Refused(f"Gemini does not let this key use {model}: {error.message}")
    if code == 404:
        return Refused(f"Gemini offers no model {model} to this key. Set GEMINI_MODEL to one that it has.")
    if code == 429 and _daily_quota(error):
        return Refused(
            "Gemini's quota for today is used up. Enable billing in Google AI Studio, or wait for tomorrow."
        )
    if code == 429:
        return Refused("Gemini limits how fast it may be asked.", again=True, wait_s=_retry_delay_s(error))
    if code >= 500:
        return Refused(f"Gemini is out of order (HTTP {code}).", again=True, wait_s=_retry_delay_s(error))
    return Refused(f"Gemini does not accept the question: {str(error.message)[:300]}")


def _details(error: "APIError") -> list[dict[str, Any]]:
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error", body)
    details = inner.get("details", []) if isinstance(inner, dict) else []
    return [detail for detail in details if isinstance(detail, dict)]


def _daily_quota(error: "APIError") -> bool:
    broken = [limit for detail in _details(error) for limit in detail.get("violations", [])]
    return any("PerDay" in str(limit.get("quotaId", "")) for limit in broken)


def _retry_delay_s(error: "APIError") -> float | None:
    """Google puts its Retry-After into the body: {"retryDelay": "37s"}."""
    for detail in _details(error):
        delay = str(detail.get("retryDelay", "")).removesuffix("s")
        if delay:
            try:
                return float(delay)
            except ValueError:
                return None
    return None
