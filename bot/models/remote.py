"""The local model on a server elsewhere: vLLM, or another one that speaks OpenAI's Chat Completions (LOCAL_ENGINE).

A version is asked for by its id as the model's name. Adapters are loaded when they are needed, kept while they are used,
and loaded again where the server has forgotten them. Nothing is installed or started here, and such a server belongs on a
private network: whoever may load adapters into it decides what it answers.
"""

import asyncio
import bisect
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bot.errors import ModelUnavailable, PublicError, TooLongFor
from bot.models import OnText
from bot.models.engine import EngineInfo
from bot.models.local_text import TooLong
from bot.models.remote_server import Heard, NotServed, PromptTooLong, Request, Server
from bot.models.remote_text import (
    AdapterFolder,
    Complaint,
    Cut,
    not_loaded,
    not_served,
    refused,
    shorter_and_shorter,
    tokens_about,
    tokens_at_most,
)
from storage.values import Message, Proposal

log = logging.getLogger(__name__)

_KEPT = 4  # adapters that stay loaded: what serves, what served before, a challenger, and one more
_CHECK, _NOWHERE = "apprentice-check", "/nonexistent/apprentice-check"


class RemoteEngine:
    """A base model that a server has, and the adapters that it loads for us."""

    def __init__(
        self,
        *,
        url: str,
        model: str,
        label: str,
        key: str | None = None,
        max_new_tokens: int = 128,
        timeout_s: float = 60.0,
        adapters: AdapterFolder | None = None,
    ) -> None:
        """`timeout_s` is for one answer and for one adapter; without `adapters` the server sees the paths that we see."""
        self.label = label
        self._model = model
        self._max_new_tokens = max_new_tokens
        self._timeout_s = timeout_s
        self._adapters = adapters or AdapterFolder()
        self._server = Server(url, key, timeout_s)
        self._info: EngineInfo | None = None
        self._ends: tuple[int, ...] = ()
        self._paths: dict[str, Path] = {}  # by version id, the longest unused first
        self._loaded: set[str] = set()
        self._asked: Counter[str] = Counter()
        self._starting, self._loading = asyncio.Lock(), asyncio.Lock()

    @property
    def info(self) -> EngineInfo | None:
        """What the server told about the model; None before it was asked, and after it failed."""
        return self._info

    async def start(self) -> EngineInfo:
        """Ask the server what it serves. Raises `ModelUnavailable`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                card = (await self._server.models()).get(self._model)  # some list less than they serve
                end = await self._server.turn_end(self._model)
        except Complaint as complaint:
            raise refused(self._server.name, complaint) from complaint
        except TimeoutError:
            raise self._too_slow() from None
        self._ends = (end,) if end is not None else ()
        self._info = EngineInfo(
            model=self._model,
            device=self._server.address,
            dtype="as it is served there",
            context=card.context if card is not None else 0,
            parameters=0,
        )
        return self._info

    async def stop(self) -> None:
        """Close the connections; the server goes on."""
        self._info = None
        await self._server.close()

    async def load(self, version_id: str, path: Path) -> None:
        """Make the adapter in `path` answer as `version_id`, in place of what had that name.

        Raises `PublicError` naming the cause and the remedy, or `ModelUnavailable` where the server is out of reach.
        """
        async with self._loading:
            await self._load(version_id, path)
            self._use(version_id, path)
            await self._make_room()

    async def unload(self, version_id: str) -> None:
        """Forget an adapter; questions that are being answered with it are still answered."""
        async with self._loading:
            self._paths.pop(version_id, None)
            await self._drop(version_id)

    async def answer(
        self,
        messages: Sequence[Message],
        *,
        version_id: str | None,
        on_text: OnText | None = None,
        max_new_tokens: int | None = None,
    ) -> Proposal:
        """Reply with a version, or with the base where `version_id` is None; greedy. Raises `ModelUnavailable`.

        Cancelling the waiting task closes the stream, and the server stops.
        """
        since = time.monotonic()
        name = version_id or self._model
        self._asked[name] += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                info = await self._ready()
                heard = await self._answer(
                    info, messages, version_id, on_text, max_new_tokens or self._max_new_tokens
                )
        except TimeoutError:
            raise self._too_slow() from None
        except PublicError as error:
            raise ModelUnavailable(str(error), fault=False) from error
        except (Complaint, ModelUnavailable) as error:
            known = refused(self._server.name, error) if isinstance(error, Complaint) else error
            if known.fault:
                self._info = None  # it may come back with another context
            raise known from error.__cause__
        finally:
            self._asked[name] -= 1
        return self._proposal(heard, version_id, time.monotonic() - since)

    async def check(self) -> str:
        """For `apprentice doctor`: it is there, answers, and loads adapters. Raises `ModelUnavailable` or `PublicError`."""
        info = await self.start()
        await self.answer([Message("user", "?")], version_id=None, max_new_tokens=1)
        await self._check_adapters()
        reads = f", reads {info.context:,} tokens" if info.context else ""
        return f"{self._server.name} answers as {self._model}{reads}, and loads adapters while it runs."

    async def _check_adapters(self) -> None:
        """vLLM looks for the files after everything else: "no adapter there" means that it could load one."""
        try:
            await self._server.load_adapter(_CHECK, _NOWHERE)
        except Complaint as complaint:
            if _NOWHERE not in complaint.said:
                raise not_loaded(self._server.name, complaint, _NOWHERE) from complaint
        else:
            await self._server.unload_adapter(_CHECK)

    async def _ready(self) -> EngineInfo:
        async with self._starting:
            return self._info or await self.start()

    async def _answer(
        self,
        info: EngineInfo,
        messages: Sequence[Message],
        version_id: str | None,
        on_text: OnText | None,
        wanted: int,
    ) -> Heard:
        request = Request(
            model=version_id or self._model,
            messages=messages,
            max_tokens=wanted,
            is_adapter=version_id is not None,
            stop_token_ids=self._ends,
        )
        for cut in await self._cuts(messages, info.context, wanted):
            fitting = replace(request, messages=cut.messages, max_tokens=cut.max_tokens)
            try:
                if version_id is None:
                    return await self._ask_base(fitting, on_text)
                return await self._ask_version(fitting, version_id, on_text)
            except PromptTooLong:
                continue
        reads = f": this model can read {info.context} tokens" if info.context else " for this model"
        raise TooLongFor(f"The question is too long{reads}. Please shorten it.")

    async def _ask_base(self, request: Request, on_text: OnText | None) -> Heard:
        try:
            return await self._server.ask(request, on_text)
        except NotServed as error:
            cards = await self._server.models()
            names = [name for name, card in cards.items() if not card.is_adapter]
            raise not_served(self._server.name, self._model, names) from error

    async def _ask_version(self, request: Request, version_id: str, on_text: OnText | None) -> Heard:
        """Ask, and once more where the server was restarted and has forgotten its adapters."""
        await self._need(version_id)
        try:
            return await self._server.ask(request, on_text)
        except NotServed:
            log.warning("%s has forgotten the version %s; it is loaded again.", self._server.name, version_id)
            self._loaded.discard(version_id)
        await self._need(version_id)
        try:
            return await self._server.ask(request, on_text)
        except NotServed as error:
            self._loaded.discard(version_id)
            raise ModelUnavailable(
                f"{self._server.name} loads the version {version_id} and does not answer as it: {error}"
            ) from error

    async def _cuts(self, messages: Sequence[Message], context: int, wanted: int) -> list[Cut]:
        """What to ask, the longest first; the later ones are for a server that does not count and complains.

        Raises `TooLongFor` where not even the question leaves room for an answer.
        """
        shorter = shorter_and_shorter(messages)
        if not context or tokens_at_most(messages) + wanted <= context:
            return [Cut(each, wanted) for each in shorter]
        least = max(1, min(wanted, context // 4))
        room = context - least
        alone = await self._server.count(self._model, shorter[-1])
        if alone is None:
            first = bisect.bisect_left([-tokens_about(each) for each in shorter], -room)
            return [Cut(each, least) for each in shorter[min(first, len(shorter) - 1) :]]
        if alone > room:
            raise TooLongFor(str(TooLong(alone, room)))
        low, high, tokens = 0, len(shorter) - 1, alone  # the last one fits
        while low < high:
            middle = (low + high) // 2
            counted = await self._server.count(self._model, shorter[middle])
            if counted is not None and counted <= room:
                high, tokens = middle, counted
            else:
                low = middle + 1
        return [
            Cut(shorter[low], min(wanted, context - tokens)),
            *[Cut(each, least) for each in shorter[low + 1 :]],
        ]

    async def _need(self, version_id: str) -> None:
        """The adapter is there, or is loaded now."""
        if version_id not in self._loaded:
            async with self._loading:
                if version_id not in self._paths:
                    raise ModelUnavailable(f"The version {version_id} is not loaded.", fault=False)
                if version_id not in self._loaded:
                    await self._load(version_id, self._paths[version_id])
                    await self._make_room()
        self._use(version_id, self._paths[version_id])

    def _use(self, version_id: str, path: Path) -> None:
        self._paths.pop(version_id, None)
        self._paths[version_id] = path

    async def _load(self, version_id: str, path: Path) -> None:
        where = self._adapters.seen(path)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._load_or_keep(version_id, where)
        except Complaint as complaint:
            raise not_loaded(self._server.name, complaint, where) from complaint
        except TimeoutError:
            raise self._too_slow() from None
        self._loaded.add(version_id)

    async def _load_or_keep(self, version_id: str, where: str) -> None:
        """What is loaded under the name already stays if it comes from the same place."""
        try:
            await self._server.load_adapter(version_id, where)
        except Complaint as complaint:
            if "already been loaded" not in complaint.said:
                raise
            card = (await self._server.models()).get(version_id)
            if card is None or card.root != where:
                self._loaded.discard(version_id)
                await self._server.unload_adapter(version_id)
                await self._server.load_adapter(version_id, where)

    async def _make_room(self) -> None:
        idle = [each for each in self._paths if each in self._loaded and not self._asked[each]]
        for version_id in idle[: max(0, len(self._loaded) - _KEPT)]:
            await self._drop(version_id)

    async def _drop(self, version_id: str) -> None:
        if version_id not in self._loaded:
            return
        self._loaded.discard(version_id)
        try:
            await self._server.unload_adapter(version_id)
        except (Complaint, ModelUnavailable) as error:
            log.warning("%s did not unload the version %s: %s", self._server.name, version_id, error)

    def _proposal(self, heard: Heard, version_id: str | None, seconds: float) -> Proposal:
        whole = len(heard.margins) == len(heard.logprobs)
        return Proposal(
            text=heard.text,
            kind="local",
            model=self.label if version_id is None else f"{self.label} + {version_id}",
            version_id=version_id,
            seconds=seconds,
            tokens_in=heard.tokens_in,
            tokens_out=heard.tokens_out,
            logprobs=tuple(heard.logprobs),
            margins=tuple(heard.margins) if whole else (),
            finish="length" if heard.finish == "length" else "stop",
        )

    def _too_slow(self) -> ModelUnavailable:
        return ModelUnavailable(f"{self._server.name} did not finish within {self._timeout_s:g} s.")
