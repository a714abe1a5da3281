"""Google's Gemini as a model that answers: through the Gemini API with a key, or through Vertex AI in a project.

The SDK is google-genai, imported when the first question is asked. Nothing here tunes, and a Vertex project in the
environment is not picked up: our settings say which of the two it is.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import aiohttp

from bot.models import Meter, OnText
from bot.models.bills import Tab, Till
from bot.models.gemini_refusals import Fault, Refusals
from bot.models.gemini_stream import GeminiHeard
from bot.models.patience import Listening, Patience, Refused, Silence, Waits, Work
from bot.models.prices import Prices, unpriced
from storage.values import Message, Proposal

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.genai import Client
    from google.genai.errors import APIError
    from google.genai.types import GenerateContentConfig


class _Unreadable(Exception):
    """A chunk that is no JSON, or other JSON than the SDK expects."""


class GeminiModel:
    """One model of Google's: with `api_key` of the Gemini API, with `project` of Vertex AI.

    `credentials` is for Vertex; None finds those of the machine (Application Default Credentials).
    """

    kind = "gemini"

    def __init__(
        self,
        *,
        model: str,
        api_key: str = "",
        project: str = "",
        location: str = "global",
        credentials: "Credentials | None" = None,
        base_url: str | None = None,
        timeout_s: float = 60.0,
        max_output_tokens: int = 1024,
        prices: Prices | None = None,
        waits: Waits | None = None,
    ) -> None:
        self._api_key = api_key
        self._project = project
        self._location = location
        self._credentials = credentials
        self._model = model
        self._base_url = base_url or None
        self._timeout_s = timeout_s
        self._waits = waits or Waits.within(timeout_s)
        self._max_output_tokens = max_output_tokens
        self._prices = prices or Prices.read()
        self._till = Till(self.kind, model, self._prices, max_output_tokens)
        self._refusals = Refusals(model, project, location)
        self._patience = Patience("Gemini", timeout_s)
        self._ends: date | None = None
        self._made: Client | None = None
        self._making = asyncio.Lock()

    @property
    def label(self) -> str:
        return self._model

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Reply to the conversation, within `timeout_s`. Raises `ModelUnavailable`, also for a broken stream."""
        since = time.monotonic()
        heard, tab = await self._patience.answer(lambda: self._attempt(messages, on_text, meter))
        refusal = heard.why_not(self._model, self._max_output_tokens)
        if refusal is not None:
            raise refusal
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
            finish="length" if heard.cut else "stop",
        )

    async def check(self) -> str:
        """One sentence for `apprentice doctor`: we are let in and the model exists. Raises `ModelUnavailable`."""
        await self._patience.answer(self._look_up)
        price = "" if self._prices.known(self._model) else f" {unpriced(self._model)}"
        accepts = f"lets the project {self._project} in" if self._project else "accepts the key"
        return f"Gemini {accepts} and offers {self._model}.{price}"

    async def ends_on(self) -> date | None:
        """The day on which the model is switched off, as its answers told; None as long as none did."""
        return self._ends

    async def close(self) -> None:
        """Close the connections, if there are any."""
        made, self._made = self._made, None
        if made is not None:
            await made.aio.aclose()
            made.close()

    async def _client(self) -> "Client":
        """Made for the first question, in a thread: importing the SDK takes as long as many clicks may wait."""
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
            return self._made

    def _make(self) -> "Client":
        from google.genai import Client
        from google.genai.types import HttpOptions, HttpRetryOptions

        once = HttpRetryOptions(attempts=1)
        milliseconds = round(self._timeout_s * 1000)
        options = HttpOptions(base_url=self._base_url, timeout=milliseconds, retry_options=once)
        if not self._project:
            return Client(api_key=self._api_key, vertexai=False, http_options=options)
        return Client(
            vertexai=True,
            project=self._project,
            location=self._location,
            credentials=self._credentials,
            http_options=options,
        )

    async def _attempt(
        self, messages: Sequence[Message], on_text: OnText | None, meter: Meter | None
    ) -> tuple[GeminiHeard, Tab]:
        client = await self._client()
        heard = GeminiHeard()
        async with self._till.attempt(messages, heard, meter) as tab:
            async with contextlib.aclosing(self._pieces(client, messages, heard)) as pieces:
                async for piece in pieces:
                    if on_text is not None:
                        await on_text(piece)
            tab.whole = True
        return heard, tab

    async def _pieces(
        self, client: "Client", messages: Sequence[Message], heard: GeminiHeard
    ) -> AsyncGenerator[str, None]:
        """The answer's text as it comes. Raises `Refused` for everything that a server can do wrong."""
        try:
            listening = Listening(self._waits)
            async with contextlib.aclosing(self._chunks(client, messages, listening, heard)) as chunks:
                async for piece in chunks:
                    yield piece
        except Silence as silence:
            after_s = self._waits.between_s if silence.begun else self._waits.first_s
            raise self._refusals.silent(begun=silence.begun, after_s=after_s) from silence
        except Exception as error:
            refused = self._refused(error, heard)
            if refused is None:
                raise
            raise refused from error
        if not heard.ended:
            raise self._refusals.broken(begun=bool(heard.pieces))

    async def _chunks(
        self, client: "Client", messages: Sequence[Message], listening: Listening, heard: GeminiHeard
    ) -> AsyncGenerator[str, None]:
        stream: Any = await listening.next(
            client.aio.models.generate_content_stream(
                model=self._model, contents=_contents(messages), config=self._config(messages)
            )
        )
        async with contextlib.aclosing(stream):
            while (chunk := await _next(stream, listening)) is not None:
                if chunk.model_status is not None and chunk.model_status.retirement_time is not None:
                    self._ends = chunk.model_status.retirement_time.date()
                piece = heard.take(chunk)
                if piece:
                    listening.begun = True
                    yield piece

    async def _look_up(self) -> None:
        client = await self._client()
        try:
            await client.aio.models.get(model=self._model)
        except Exception as error:
            refused = self._refused(error, GeminiHeard())
            if refused is None:
                raise
            raise refused from error

    def _refused(self, error: Exception, heard: GeminiHeard) -> Refused | None:
        """What the SDK and the libraries under it raised, in words; None for what is a bug of ours."""
        import httpx2
        from google.auth.exceptions import GoogleAuthError
        from google.genai import errors

        begun = bool(heard.pieces)
        if isinstance(error, errors.APIError):
            if begun:
                return self._refusals.broken(begun=True)
            refused = self._refusals.of(_fault(error))
            if heard.begun:
                refused.work = Work.ALL
            return refused
        if isinstance(error, GoogleAuthError):
            return self._refusals.no_credentials
        if isinstance(error, aiohttp.ClientConnectorError | httpx2.ConnectError | httpx2.ConnectTimeout):
            return self._refusals.unreachable
        if isinstance(error, httpx2.HTTPError | aiohttp.ClientError):
            return self._refusals.broken(begun=begun)
        if isinstance(error, _Unreadable):
            return self._refusals.broken(begun=begun, why=" with something that cannot be read")
        return None

    def _config(self, messages: Sequence[Message]) -> "GenerateContentConfig":
        from google.genai.types import GenerateContentConfig

        system = "\n\n".join(message.content for message in messages if message.role == "system")
        # Left to itself the SDK asks again, unbilled by us, where an answer is cut.
        return GenerateContentConfig(
            system_instruction=system or None,
            max_output_tokens=self._max_output_tokens,
            temperature=0.0,
            automatic_continuation=False,
        )


async def _next(stream: Any, listening: Listening) -> Any:
    """The next chunk; None at the end."""
    try:
        return await listening.next(anext(stream, None))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise _Unreadable from error


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


def _fault(error: "APIError") -> Fault:
    headers = getattr(error.response, "headers", None) or {}
    return Fault.of(error.code or 0, str(error.message or error), error.details, headers)
