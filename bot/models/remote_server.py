"""The wire to a server that speaks OpenAI's Chat Completions and, as vLLM does, loads adapters at run time.

It sends one request at a time and says what came of it; what to do about a refusal is decided in `bot.models.remote`.
The SDK is imported when the first request is sent. Nothing is repeated here.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from bot.errors import ModelUnavailable
from bot.models import OnText
from bot.models.remote_text import Complaint
from storage.values import Message

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionChunk

_CONNECT_S = 5.0
_TOP = 2  # alternatives per token: enough for how much likelier the first was than the second
_OPTIONAL = (
    "stop_token_ids",
    "stream_options",
    "top_logprobs",
    "logprobs",
)  # given up where a server refuses them
_TOO_LONG = re.compile(
    r"maximum context length|maximum model length|context_length_exceeded|context (length|window|size)"
    r"|input_tokens|input is too long|too many tokens",
    re.IGNORECASE,
)
_TAIL = re.compile(r"[\s\ufffd]+$")
_MARK = re.compile(r"<.+>|\[.+\]")  # how tokenizers write a token that is no text: <|im_end|>, </s>, [/INST]


class NotServed(Exception):
    """The server knows no model of that name, or answered as another one."""


class PromptTooLong(Exception):
    """The server says that the conversation does not fit."""


@dataclass(frozen=True, slots=True)
class Card:
    """What the server tells about a model that it serves; `root` is where it was loaded from, `context` 0 if unsaid."""

    name: str
    root: str
    context: int
    is_adapter: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A question in the server's words."""

    model: str
    messages: Sequence[Message]
    max_tokens: int
    is_adapter: bool = False
    stop_token_ids: Sequence[int] = ()


@dataclass
class Heard:
    """What a stream has told so far."""

    text: str = ""
    logprobs: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    finish: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    _held_back: str = ""

    def take(self, chunk: "ChatCompletionChunk") -> str:
        """Remember a chunk; the new text that can be shown is returned. Pieces joined are `text`."""
        if chunk.usage is not None:
            self.tokens_in = chunk.usage.prompt_tokens
            self.tokens_out = chunk.usage.completion_tokens
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish = choice.finish_reason or self.finish
        if choice.logprobs and choice.logprobs.content:
            for token in choice.logprobs.content:
                self._weigh(token.logprob, [other.logprob for other in token.top_logprobs or []])
        return self._show(choice.delta.content or "")

    def _show(self, new: str) -> str:
        """Space and half a character are held back until something follows; at the start and the end nobody sees them."""
        piece = self._held_back + new if self.text else new.lstrip()
        shown = _TAIL.sub("", piece)
        self._held_back = piece[len(shown) :]
        self.text += shown
        return shown

    def _weigh(self, logprob: float, likeliest: list[float]) -> None:
        self.logprobs.append(logprob)
        if len(likeliest) > 1:
            first, second, *_ = sorted(likeliest, reverse=True)
            self.margins.append(first - second)


class Server:
    """One server, by its address."""

    def __init__(self, url: str, key: str | None, timeout_s: float) -> None:
        parts = urlsplit(url)
        self.address = parts.netloc.rpartition("@")[2] or url
        self.name = f"The server at {self.address}"
        base = url.rstrip("/")
        self._base = base if parts.path.strip("/") else f"{base}/v1"
        self._root = self._base.removesuffix("/v1")  # where vLLM has what OpenAI does not
        self._key = key or "none"
        self._timeout_s = timeout_s
        self._given_up: set[str] = set()
        self._counts = True
        self._made: AsyncOpenAI | None = None

    async def close(self) -> None:
        """Close the connections, if there are any."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    async def models(self) -> dict[str, Card]:
        """What it serves, adapters included. Raises `ModelUnavailable`, or `Complaint`."""
        async with self._speaking() as client:
            page = await client.models.list()
        cards = [
            Card(
                row.id,
                root=getattr(row, "root", None) or "",
                context=getattr(row, "max_model_len", None) or 0,
                is_adapter=bool(getattr(row, "parent", None)),
            )
            for row in page.data or []
        ]
        return {card.name: card for card in cards}

    async def load_adapter(self, name: str, path: str) -> None:
        """vLLM's runtime loading. Raises `ModelUnavailable`, or `Complaint`."""
        await self._post(f"{self._base}/load_lora_adapter", {"lora_name": name, "lora_path": path})

    async def unload_adapter(self, name: str) -> None:
        """What was asked of it before is still answered. Raises `ModelUnavailable`, or `Complaint`."""
        await self._post(f"{self._base}/unload_lora_adapter", {"lora_name": name})

    async def count(self, model: str, messages: Sequence[Message]) -> int | None:
        """Tokens of a conversation, ready for the answer; None where the server does not count for us."""
        if not self._counts:
            return None
        told = await self._tokenize({"model": model, "messages": _turns(messages)})
        count = (told or {}).get("count")
        self._counts = isinstance(count, int)
        return count if isinstance(count, int) else None

    async def turn_end(self, model: str) -> int | None:
        """The token with which the chat template closes a turn, if it is one that is no text.

        A fine-tuned version ends its answers with it, and a checkpoint need not name it as its end of text.
        """
        turns = _turns([Message("user", "?"), Message("assistant", "x")])
        asked = {"model": model, "messages": turns, "add_generation_prompt": False, "return_token_strs": True}
        closed = await self._tokenize(asked)
        still_open = closed and await self._tokenize({**asked, "continue_final_message": True})
        if not closed or not still_open:
            return None
        at, tokens, words = still_open.get("count"), closed.get("tokens"), closed.get("token_strs")
        if not isinstance(at, int) or not tokens or not words or at >= min(len(tokens), len(words)):
            return None
        same = tokens[:at] == still_open.get("tokens")
        return int(tokens[at]) if same and _MARK.fullmatch(words[at]) else None

    async def ask(self, request: Request, on_text: OnText | None) -> Heard:
        """Stream an answer. Raises `NotServed`, `PromptTooLong`, `ModelUnavailable`, or `Complaint`.

        An option that the server refuses is left out from then on. Leaving closes the stream, which stops the generation.
        """
        while True:
            heard = Heard()
            try:
                await self._listen(request, heard, on_text)
            except Complaint as complaint:
                if heard.text or not self._give_up_what(complaint):
                    _sort_out(complaint)
            else:
                return heard

    async def _listen(self, request: Request, heard: Heard, on_text: OnText | None) -> None:
        async with self._speaking() as client:
            stream = await client.chat.completions.create(
                model=request.model,
                messages=_turns(request.messages),
                max_tokens=request.max_tokens,
                temperature=0.0,
                stream=True,
                **self._options(request),
            )
        async with stream:
            async for chunk in self._chunks(stream):
                if request.is_adapter and chunk.model and chunk.model != request.model:
                    raise NotServed(
                        f"{self.name} answers as {chunk.model} when it is asked for {request.model}."
                    )
                piece = heard.take(chunk)
                if piece and on_text is not None:
                    await on_text(piece)
        if heard.finish is None:
            raise ModelUnavailable(f"{self.name} broke off in the middle of its answer.")

    def _options(self, request: Request) -> dict[str, Any]:
        options: dict[str, Any] = {
            "logprobs": True,
            "top_logprobs": _TOP,
            "stream_options": {"include_usage": True},
        }
        if request.stop_token_ids and "stop_token_ids" not in self._given_up:
            options["extra_body"] = {"stop_token_ids": list(request.stop_token_ids)}
        return {name: value for name, value in options.items() if name not in self._given_up}

    def _give_up_what(self, complaint: Complaint) -> bool:
        """Leave out what the server does not take; False where it complains of something else."""
        if complaint.status not in (400, 422):
            return False
        for name in _OPTIONAL:
            if name not in self._given_up and (name == complaint.param or name in complaint.said):
                self._given_up |= {name, *(["top_logprobs"] if name == "logprobs" else [])}
                return True
        return False

    async def _chunks(self, stream: Any) -> AsyncIterator["ChatCompletionChunk"]:
        async with self._speaking(reached=True):
            async for chunk in stream:
                yield chunk

    async def _tokenize(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            response = await self._post(f"{self._root}/tokenize", body)
            told = response.json()
        except (Complaint, ValueError):
            return None
        return told if isinstance(told, dict) else None

    async def _post(self, url: str, body: Mapping[str, Any]) -> Any:
        import httpx2

        async with self._speaking() as client:
            return await client.post(url, cast_to=httpx2.Response, body=dict(body))

    @asynccontextmanager
    async def _speaking(self, *, reached: bool = False) -> AsyncIterator["AsyncOpenAI"]:
        """The SDK's errors in our words, whatever is sent or heard meanwhile; `reached` says that it has begun to answer."""
        client = self._client()
        import httpx2
        import openai

        try:
            yield client
        except openai.APITimeoutError as error:
            raise ModelUnavailable(f"{self.name} did not answer within {self._timeout_s:g} s.") from error
        except openai.APIStatusError as error:
            raise _complaint(error.status_code, error.response) from error
        except openai.APIConnectionError as error:
            if reached:
                raise ModelUnavailable(f"{self.name} broke off in the middle of its answer.") from error
            raise ModelUnavailable(
                f"{self.name} cannot be reached. Start it, or check LOCAL_ENGINE_URL and the network."
            ) from error
        except openai.APIError as error:
            raise Complaint(0, error.message) from error
        except (httpx2.HTTPError, ValueError) as error:
            raise ModelUnavailable(f"{self.name} broke off in the middle of its answer.") from error

    def _client(self) -> "AsyncOpenAI":
        if self._made is None:
            import httpx2
            from openai import AsyncOpenAI

            self._made = AsyncOpenAI(
                api_key=self._key,
                base_url=self._base,
                timeout=httpx2.Timeout(self._timeout_s, connect=min(_CONNECT_S, self._timeout_s)),
                max_retries=0,
            )
        return self._made


def _turns(messages: Sequence[Message]) -> Any:
    return [{"role": message.role, "content": message.content} for message in messages]


def _complaint(status: int, response: Any) -> Complaint:
    """The server's own sentence, in whichever of the common shapes it sends errors."""
    try:
        body = response.json()
    except ValueError:
        return Complaint(status, response.text.strip()[:300])
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return Complaint(status, str(error))
    return Complaint(status, str(error.get("message") or error.get("detail") or error), error.get("param"))


def _sort_out(complaint: Complaint) -> NoReturn:
    if complaint.status == 404:
        raise NotServed(complaint.said) from complaint
    if complaint.status in (400, 413, 422) and _TOO_LONG.search(f"{complaint.param} {complaint.said}"):
        raise PromptTooLong(complaint.said) from complaint
    raise complaint
