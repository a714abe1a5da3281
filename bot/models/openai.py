"""OpenAI, or any server that speaks its Chat Completions, as a model that answers.

The SDK is imported when the first question is asked. Nothing here fine-tunes, keeps keys, or retries what was paid for
and already shown.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bot.errors import ModelUnavailable
from bot.models import Meter, OnText
from bot.models.patience import Patience, Refused, seconds_to_wait
from bot.models.prices import Prices
from storage.values import Message, Proposal

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionChunk

_REASONS = re.compile(r"^(ft:)?(gpt-([5-9]|\d\d)|o\d)")
_OPTIONAL = (
    "temperature",
    "logprobs",
    "reasoning_effort",
)  # a server that refuses one of these is asked without it


def parameters(model: str, effort: str | None, max_output_tokens: int) -> dict[str, Any]:
    """What a request says besides model and messages.

    A model that reasons accepts neither temperature nor log-probabilities; one that cannot reason knows no effort.
    None leaves the effort to the vendor, whose default is to reason where the model can.
    """
    can_reason = _REASONS.match(model) is not None
    reasons = effort != "none" if effort is not None else can_reason
    chosen: dict[str, Any] = {"max_completion_tokens": max_output_tokens}
    if effort is not None and (reasons or can_reason):
        chosen["reasoning_effort"] = effort
    if not reasons:
        chosen |= {"temperature": 0.0, "logprobs": True}
    return chosen


@dataclass
class _Heard:
    """What a stream has told so far."""

    pieces: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    refusal: str = ""
    finish: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_cache_written: int = 0

    def take(self, chunk: "ChatCompletionChunk") -> str:
        """Remember a chunk; its new text is returned."""
        if chunk.usage is not None:
            details = chunk.usage.prompt_tokens_details
            self.tokens_in = chunk.usage.prompt_tokens
            self.tokens_out = chunk.usage.completion_tokens
            self.tokens_cached = (details.cached_tokens if details else 0) or 0
            self.tokens_cache_written = getattr(details, "cache_write_tokens", 0) or 0
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish = choice.finish_reason or self.finish
        self.refusal += choice.delta.refusal or ""
        if choice.logprobs and choice.logprobs.content:
            self.logprobs += [token.logprob for token in choice.logprobs.content]
        return choice.delta.content or ""


class OpenAIModel:
    """One model of OpenAI's, or of a server at `base_url` that speaks the same language."""

    kind = "openai"

    def __init__(
        self,
        *,
        api_key: str,
        model: str,
        base_url: str | None = None,
        timeout_s: float = 60.0,
        max_output_tokens: int = 1024,
        reasoning_effort: str | None = None,
        prices: Prices | None = None,
    ) -> None:
        self._api_key = api_key
        self._model = model
        self._base_url = base_url or None
        self._timeout_s = timeout_s
        self._parameters = parameters(model, reasoning_effort, max_output_tokens)
        self._max_output_tokens = max_output_tokens
        self._prices = prices or Prices.read()
        self._provider = f"The server at {base_url}" if base_url else "OpenAI"
        self._patience = Patience(self._provider, timeout_s)
        self._made: AsyncOpenAI | None = None

    @property
    def label(self) -> str:
        return self._model

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Reply to the conversation, within `timeout_s`. Raises `ModelUnavailable`, also for a stream that breaks off."""
        since = time.monotonic()
        heard = await self._patience.answer(lambda: self._attempt(messages, on_text))
        text = "".join(heard.pieces).strip()
        self._check_whole(heard, text)
        cost = self._prices.cost(
            self._model,
            heard.tokens_in,
            heard.tokens_cached,
            heard.tokens_out,
            tokens_cache_written=heard.tokens_cache_written,
        )
        return Proposal(
            text=text,
            kind=self.kind,
            model=self._model,
            seconds=time.monotonic() - since,
            tokens_in=heard.tokens_in,
            tokens_out=heard.tokens_out,
            tokens_cached=heard.tokens_cached,
            cost_usd=cost or 0.0,
            logprobs=tuple(heard.logprobs),
            finish="length" if heard.finish == "length" else "stop",
        )

    async def check(self) -> str:
        """One sentence for `apprentice doctor`: the key works and the model exists. Raises `ModelUnavailable`."""
        models = await self._patience.answer(self._models)
        if self._model not in models:
            raise ModelUnavailable(self._no_model())
        ends = models[self._model]
        until = f" It is switched off on {ends}: set OPENAI_MODEL to another one before." if ends else ""
        price = "" if self._prices.known(self._model) else f" {_no_price(self._model)}"
        return f"{self._provider} accepts the key and offers {self._model}.{until}{price}"

    async def close(self) -> None:
        """Close the connections, if there are any."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    def _client(self) -> "AsyncOpenAI":
        if self._made is None:
            from openai import AsyncOpenAI

            self._made = AsyncOpenAI(
                api_key=self._api_key, base_url=self._base_url, timeout=self._timeout_s, max_retries=0
            )
        return self._made

    async def _attempt(self, messages: Sequence[Message], on_text: OnText | None) -> _Heard:
        client = self._client()
        import httpx2
        import openai

        heard = _Heard()
        try:
            await self._listen(client, messages, heard, on_text)
        except openai.BadRequestError as error:
            if error.param not in self._parameters or error.param not in _OPTIONAL:
                raise self._refused(error) from error
            del self._parameters[error.param]
            raise Refused(f"{self._provider} does not know {error.param}.", again=True, wait_s=0.0) from error
        except (openai.APIError, httpx2.HTTPError) as error:
            if heard.pieces:
                raise Refused(f"{self._provider} broke off in the middle of its answer.") from error
            raise self._refused(error) from error
        if heard.finish is None:
            raise Refused(f"{self._provider} broke off in the middle of its answer.", again=not heard.pieces)
        return heard

    async def _listen(
        self, client: "AsyncOpenAI", messages: Sequence[Message], heard: _Heard, on_text: OnText | None
    ) -> None:
        turns: Any = [{"role": message.role, "content": message.content} for message in messages]
        stream = await client.chat.completions.create(
            model=self._model,
            messages=turns,
            stream=True,
            stream_options={"include_usage": True},
            **self._parameters,
        )
        async with stream:
            async for chunk in stream:
                piece = heard.take(chunk)
                if piece:
                    heard.pieces.append(piece)
                    if on_text is not None:
                        await on_text(piece)

    async def _models(self) -> dict[str, str | None]:
        """Names of the models that the key may use, with the day on which each is switched off."""
        client = self._client()
        import openai

        try:
            page = await client.models.list()
        except openai.APIError as error:
            raise self._refused(error) from error
        days = {model.id: getattr(model, "shutdown_date", None) for model in page.data}
        return {name: str(day) if day else None for name, day in days.items()}

    def _check_whole(self, heard: _Heard, text: str) -> None:
        if heard.finish == "content_filter":
            raise ModelUnavailable(f"{self._provider}'s content filter withheld the answer.")
        if not text and heard.refusal:
            raise ModelUnavailable(f"{self._provider}'s model declined: {heard.refusal}")
        if not text and heard.finish == "length":
            raise ModelUnavailable(
                f"{self._model} spent all {self._max_output_tokens} tokens on thinking. Raise API_MAX_OUTPUT_TOKENS or "
                "lower OPENAI_REASONING_EFFORT."
            )
        if not text:
            raise ModelUnavailable(f"{self._model} gave an empty answer.")

    def _no_model(self) -> str:
        return f"{self._provider} offers no model {self._model} to this key. Set OPENAI_MODEL to one that it has."

    def _refused(self, error: Exception) -> Refused:
        """The vendor's error in words, and whether it may pass."""
        import openai

        code = getattr(error, "code", None)
        if isinstance(error, openai.APITimeoutError):
            return Refused(f"{self._provider} did not answer within {self._timeout_s:g} s.")
        if not isinstance(error, openai.APIStatusError):
            if isinstance(error, openai.APIConnectionError):
                return Refused(
                    f"{self._provider} cannot be reached. Check the network and OPENAI_BASE_URL.", again=True
                )
            return Refused(f"{self._provider} could not finish the answer: {_message(error)}", again=True)
        wait_s = _wait_s(error.response.headers)
        status = error.status_code
        if status == 401:
            return Refused(f"{self._provider} refuses the key. Set OPENAI_API_KEY to a valid one.")
        if code in ("insufficient_quota", "billing_hard_limit_reached"):
            return Refused(
                f"{self._provider} says that the quota is used up. Add credit to the account, or wait for the next month."
            )
        if status == 429:
            return Refused(f"{self._provider} limits how fast it may be asked.", again=True, wait_s=wait_s)
        if code == "model_not_found" or status == 404:
            return Refused(self._no_model())
        if status == 403:
            return Refused(f"{self._provider} does not let this key use {self._model}: {_message(error)}")
        if code in ("content_filter", "content_policy_violation"):
            return Refused(f"{self._provider}'s content filter refused the question.")
        if code == "context_length_exceeded":
            return Refused(f"The question is too long for {self._model}. Please shorten it.")
        if status in (408, 409) or status >= 500:
            return Refused(f"{self._provider} is out of order (HTTP {status}).", again=True, wait_s=wait_s)
        return Refused(f"{self._provider} does not accept the question: {_message(error)}")


def _wait_s(headers: Any) -> float | None:
    exact = seconds_to_wait(headers.get("retry-after-ms"))
    return exact / 1000 if exact is not None else seconds_to_wait(headers.get("retry-after"))


def _message(error: Exception) -> str:
    """The vendor's own sentence, which may not be shown whole: some of them repeat the key."""
    body = getattr(error, "body", None)
    told = body.get("message") if isinstance(body, dict) else None
    return re.sub(r"\bsk-\S+", "sk-...", str(told or error))[:300]


def _no_price(model: str) -> str:
    return (
        f"The price of {model} is not known, so its costs are counted as 0: add it to bot/models/prices.json."
    )
