"""OpenAI, or any server that speaks its Chat Completions, as a model that answers.

The SDK is imported when the first question is asked. Nothing here fine-tunes, keeps keys, or retries what was paid for
and already shown.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from bot.errors import ModelUnavailable, Withheld
from bot.models import Meter, OnText
from bot.models.bills import Tab, Till
from bot.models.openai_parameters import is_azure, parameters, without_refused
from bot.models.openai_refusals import Fault, Refusals
from bot.models.openai_stream import BROKEN, FILTER, LENGTH, TOOL, OpenAIHeard, ToldInStream
from bot.models.patience import Listening, Patience, Refused, Silence, Waits, Work
from bot.models.prices import Prices, unpriced
from storage.values import Message, Proposal

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI


class _Learned(Exception):
    """The server does not know a parameter; the next request goes without it."""


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
        reasoning_effort: str | None = "none",
        prices: Prices | None = None,
        waits: Waits | None = None,
    ) -> None:
        self._api_key = api_key
        self._model = model
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._waits = waits or Waits.within(timeout_s)
        self._max_output_tokens = max_output_tokens
        self._parameters = parameters(model, reasoning_effort, max_output_tokens, base_url)
        self._renamed = False
        self._prices = prices or Prices.read()
        self._till = Till(self.kind, model, self._prices, max_output_tokens)
        self._azure = is_azure(base_url)
        self._provider = f"The server at {base_url}" if base_url else "OpenAI"
        self._refusals = Refusals(self._provider, model, own_server=base_url is not None, azure=self._azure)
        self._patience = Patience(self._provider, timeout_s)
        self._made: AsyncOpenAI | None = None
        self._making = asyncio.Lock()

    @property
    def label(self) -> str:
        return self._model

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Reply to the conversation, within `timeout_s`. Raises `ModelUnavailable`, also for a stream that breaks off."""
        since = time.monotonic()
        heard, tab = await self._patience.answer(lambda: self._attempt(messages, on_text, meter))
        self._check_whole(heard)
        assert tab.bill is not None
        return Proposal(
            text=heard.text,
            kind=self.kind,
            model=self._model,
            seconds=time.monotonic() - since,
            tokens_in=tab.bill.tokens_in,
            tokens_out=tab.bill.tokens_out,
            tokens_cached=tab.bill.tokens_cached,
            cost_usd=tab.bill.cost_usd or 0.0,
            logprobs=tuple(heard.logprobs),
            finish="length" if heard.end == LENGTH else "stop",
        )

    async def check(self) -> str:
        """One sentence for `apprentice doctor`: the key works and the model exists. Raises `ModelUnavailable`."""
        models = await self._patience.answer(self._models)
        price = "" if self._prices.known(self._model) else f" {unpriced(self._model)}"
        if self._azure and self._model not in models:
            # Azure lists its models, and not the deployments by whose names they are asked.
            shows = f"whether it has a deployment {self._model} shows when it is asked"
            return f"{self._provider} accepts the key; {shows}.{price}"
        if self._model not in models:
            raise ModelUnavailable(self._refusals.no_model)
        ends = models[self._model]
        until = f" It is switched off on {ends}: set OPENAI_MODEL to another one before." if ends else ""
        return f"{self._provider} accepts the key and offers {self._model}.{until}{price}"

    async def ends_on(self) -> date | None:
        """The day on which the model is switched off; None where the server does not tell. Raises `ModelUnavailable`."""
        models = await self._patience.answer(self._models)
        base = self._model.split(":")[1] if self._model.startswith("ft:") else None
        day = models.get(self._model) or (models.get(base) if base else None)
        try:
            return date.fromisoformat(day[:10]) if day else None
        except ValueError:
            return None

    async def close(self) -> None:
        """Close the connections, if there are any."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    async def _client(self) -> "AsyncOpenAI":
        """Made for the first question, in a thread: importing the SDK takes as long as many clicks may wait."""
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
            return self._made

    def _make(self) -> "AsyncOpenAI":
        import httpx2
        from openai import AsyncOpenAI

        limits = httpx2.Timeout(self._timeout_s, connect=self._waits.connect_s)
        return AsyncOpenAI(api_key=self._api_key, base_url=self._base_url, timeout=limits, max_retries=0)

    async def _attempt(
        self, messages: Sequence[Message], on_text: OnText | None, meter: Meter | None
    ) -> tuple[OpenAIHeard, Tab]:
        while True:
            with contextlib.suppress(_Learned):
                return await self._ask(messages, on_text, meter)

    async def _ask(
        self, messages: Sequence[Message], on_text: OnText | None, meter: Meter | None
    ) -> tuple[OpenAIHeard, Tab]:
        client = await self._client()
        heard = OpenAIHeard()
        learned = False
        try:
            async with self._till.attempt(messages, heard, meter) as tab:
                async with contextlib.aclosing(self._pieces(client, messages, heard)) as pieces:
                    async for piece in pieces:
                        if on_text is not None:
                            await on_text(piece)
                tab.whole = True
        except Refused as refused:
            learned = self._learn(refused)
            if not learned:
                raise
        if learned:
            raise _Learned
        return heard, tab

    async def _pieces(
        self, client: "AsyncOpenAI", messages: Sequence[Message], heard: OpenAIHeard
    ) -> AsyncGenerator[str, None]:
        """The answer's text as it comes. Raises `Refused` for everything that a server can do wrong."""
        import httpx2
        import openai

        listening = Listening(self._waits)
        begun = False
        try:
            async with contextlib.aclosing(self._chunks(client, messages, listening)) as chunks:
                async for chunk in chunks:
                    piece = heard.take(chunk)
                    if piece:
                        begun = listening.begun = True
                        yield piece
        except Silence as silence:
            after_s = self._waits.between_s if silence.begun else self._waits.first_s
            raise self._refusals.silent(begun=silence.begun, after_s=after_s) from silence
        except openai.APIStatusError as error:
            raise self._refusals.of(_fault(error)) from error
        except openai.APIConnectionError as error:
            never_sent = (
                httpx2.ConnectError,
                httpx2.ConnectTimeout,
                httpx2.PoolTimeout,
                httpx2.UnsupportedProtocol,
            )
            if isinstance(error.__cause__, never_sent):
                raise self._refusals.unreachable from error
            raise self._refusals.broken(begun=begun) from error
        except httpx2.HTTPError as error:
            raise self._refusals.broken(begun=begun) from error
        except (openai.APIError, ToldInStream) as error:
            raise self._refusals.of(Fault.of(0, error.body, str(error)), begun=begun) from error
        except ValueError as error:
            raise self._refusals.broken(begun=begun, why=" with something that cannot be read") from error
        if heard.end is None or heard.end == BROKEN:
            raise self._refusals.broken(begun=begun)

    async def _chunks(
        self, client: "AsyncOpenAI", messages: Sequence[Message], listening: Listening
    ) -> AsyncGenerator[object, None]:
        """Each chunk as JSON; the whole answer at once where a server does not stream."""
        from openai import AsyncStream

        turns: Any = [{"role": message.role, "content": message.content} for message in messages]
        asking = client.chat.completions.with_raw_response.create(
            model=self._model, messages=turns, stream=True, **self._parameters
        )
        reply = await listening.next(asking)
        if "json" in reply.headers.get("content-type", ""):
            yield json.loads(await listening.next(reply.http_response.aread()))
            return
        stream = reply.parse(to=AsyncStream[object])
        async with stream:
            chunks = aiter(stream)
            while (chunk := await listening.next(anext(chunks, stream))) is not stream:
                yield chunk

    def _learn(self, refused: Refused) -> bool:
        """Whether a refusal is about a parameter that can be done without, or called something else."""
        import openai

        error = refused.__cause__
        about_request = isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)
        if not about_request or refused.work is not Work.NONE:
            return False
        assert isinstance(error, openai.APIStatusError)
        told = _fault(error)
        accepted = without_refused(self._parameters, told.param, told.words, renamed=self._renamed)
        if accepted is None:
            return False
        self._renamed = self._renamed or len(accepted) == len(self._parameters)
        self._parameters = accepted
        return True

    async def _models(self) -> dict[str, str | None]:
        """Names of the models that the key may use, with the day on which each is switched off."""
        client = await self._client()
        import openai

        try:
            page = await client.models.list()
        except openai.APIStatusError as error:
            raise self._refusals.of(_fault(error)) from error
        except openai.APIError as error:
            raise self._refusals.unreachable from error
        days = {model.id: getattr(model, "shutdown_date", None) for model in page.data}
        return {name: str(day) if day else None for name, day in days.items()}

    def _check_whole(self, heard: OpenAIHeard) -> None:
        if heard.end == FILTER:
            raise self._refusals.withheld("answer").unavailable()
        if heard.end == TOOL:
            raise ModelUnavailable(
                f"{self._model} wanted to call a tool instead of answering, and has none here.", fault=False
            )
        if heard.text:
            return
        if heard.refusal:
            raise Withheld(f"{self._model} declined to answer: {heard.refusal}")
        if heard.end == LENGTH:
            raise ModelUnavailable(
                f"{self._model} spent all {self._max_output_tokens} tokens on thinking. Raise API_MAX_OUTPUT_TOKENS or "
                "lower OPENAI_REASONING_EFFORT.",
                fault=False,
            )
        raise ModelUnavailable(f"{self._model} gave an empty answer.")


def _fault(error: "APIStatusError") -> Fault:
    return Fault.of(error.status_code, error.body, str(error), error.response.headers)
