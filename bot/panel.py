"""The models that may be asked: each with what it reads, who watches its costs, its breaker and its share of the time.

It asks one model and says what came of it; in which order they are asked is the desk's business.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from bot import prompts, routing
from bot.breaker import Breaker
from bot.errors import ModelUnavailable
from bot.models import AnswerModel, Meter, OnText
from bot.models.memory import Match, Memory
from bot.serving import Serving, thread_of
from storage.records import ChannelSettings, Question
from storage.values import STOPPED, Message, Proposal

NEAREST = 5

log = structlog.get_logger(__name__)


class Stopped(Exception):
    """A person stopped the answer before anything of it was written."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Somebody watches the answer being written, and may stop it.

    `on_text` gets each new piece of what is going to be the answer, `on_restart` is told when what was written so far is
    not: a model failed in the middle, and another one begins.
    """

    on_text: OnText
    on_restart: Callable[[], Awaitable[None]]
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Case:
    """A question as it is put to the models: the conversation, what holds where it was asked, what memory has near it."""

    question: Question
    turns: tuple[Message, ...]
    channel: ChannelSettings
    near: tuple[Match, ...] = ()

    @property
    def text(self) -> str:
        """What was asked last."""
        return self.turns[-1].content


@dataclass(frozen=True, slots=True)
class Said:
    """What a model proposes, and the messages it read."""

    proposal: Proposal
    messages: tuple[Message, ...]


class Treasury(Protocol):
    """Who pays."""

    def meter(self, *, question_id: str, channel: str, purpose: str, most_usd: float | None) -> Meter:
        """Watches the billed calls for one question; `most_usd` is the channel's own budget for a month."""


class Panel:
    """Who may be asked, besides memory."""

    def __init__(
        self,
        *,
        memory: Memory,
        serving: Serving,
        apis: Mapping[str, AnswerModel],
        treasury: Treasury | None = None,
        system_prompt: str = "",
        local_available: bool = True,
    ) -> None:
        self._memory = memory
        self._serving = serving
        self._apis = apis
        self._treasury = treasury
        self._system_prompt = system_prompt
        self._local_available = local_available
        self.breakers = {kind: Breaker() for kind in apis}

    @property
    def configured(self) -> list[str]:
        """The kinds of models that there are."""
        return [*self._apis, *([routing.LOCAL] if self._local_available else [])]

    @property
    def asks_apis(self) -> bool:
        """Whether words may leave this machine at all."""
        return bool(self._apis)

    @property
    def available(self) -> list[str]:
        """The kinds that can be asked now: those whose breaker is open rest."""
        return [kind for kind in self.configured if kind not in self.breakers or not self.breakers[kind].open]

    def resting(self, kind: str) -> str:
        """Why a kind is not asked now; "" where it is."""
        breaker = self.breakers.get(kind)
        if breaker is None or not breaker.open:
            return ""
        return f"it failed {breaker.faults} times in a row and is asked again in {breaker.rest_s:.0f} s"

    async def near(self, question: Question, text: str, *, private: bool) -> tuple[Match, ...]:
        """What memory has near a question, nearest first. The words of a private one go to nobody who measures meaning."""
        if private or self._treasury is None:
            return tuple(await self._memory.nearest(text, NEAREST))
        meter = self._treasury.meter(
            question_id=question.id, channel=question.channel, purpose="memory", most_usd=None
        )
        return tuple(await self._memory.nearest(text, NEAREST, may_leave=True, meter=meter))

    async def ask(
        self,
        kind: str,
        case: Case,
        *,
        watch: Watch | None = None,
        shown: bool = False,
        time_s: float | None = None,
        purpose: str = "answer",
    ) -> Said:
        """What one kind of model proposes within `time_s`; with `shown`, the watcher sees it being written.

        Raises ModelUnavailable, and Stopped.
        """
        breaker = self.breakers.get(kind)
        if breaker is not None and not breaker.enter():
            raise ModelUnavailable(self.resting(kind), fault=False)
        try:
            said = await self._ask(kind, case, watch, shown=shown, time_s=time_s, purpose=purpose)
        except ModelUnavailable as error:
            if breaker is not None and error.fault:
                breaker.failed()
            elif breaker is not None:
                breaker.left()
            raise
        except BaseException:
            if breaker is not None:
                breaker.left()
            raise
        if breaker is not None:
            breaker.answered()
        return said

    async def _ask(
        self, kind: str, case: Case, watch: Watch | None, *, shown: bool, time_s: float | None, purpose: str
    ) -> Said:
        messages = self.messages(kind, case)
        model = await self._model(kind, case)
        meter = self._meter(kind, case, purpose)
        try:
            async with asyncio.timeout(time_s):
                if watch is None:
                    return Said(await model.answer(messages, meter=meter), tuple(messages))
                proposal = await _watched(model, messages, watch, meter, shown=shown)
                return Said(proposal, tuple(messages))
        except TimeoutError:
            raise ModelUnavailable(f"it did not answer within {time_s:.0f} s") from None

    async def _model(self, kind: str, case: Case) -> AnswerModel:
        """A promoted fine-tune of a provider's answers in place of its usual model."""
        if kind == routing.LOCAL:
            return await self._local(case)
        thread = thread_of(case.question.channel, case.question.thread_ts)
        return await self._serving.api(kind, self._apis[kind], thread=thread)

    async def _local(self, case: Case) -> AnswerModel:
        thread = thread_of(case.question.channel, case.question.thread_ts)
        return await self._serving.local(thread=thread)

    def messages(self, kind: str, case: Case) -> list[Message]:
        """What a kind of model reads of a case."""
        known = [(match.entry.question, match.entry.answer) for match in case.near]
        instructions = case.channel.instructions
        if kind == routing.LOCAL:
            return self._serving.prompt(case.turns, verified=known, instructions=instructions)
        return prompts.for_api(
            case.turns, system=self._system_prompt, instructions=instructions, verified=known
        )

    def _meter(self, kind: str, case: Case, purpose: str) -> Meter | None:
        if self._treasury is None or kind == routing.LOCAL:
            return None
        return self._treasury.meter(
            question_id=case.question.id,
            channel=case.question.channel,
            purpose=purpose,
            most_usd=case.channel.budget_month_usd,
        )


async def _watched(
    model: AnswerModel, messages: Sequence[Message], watch: Watch, meter: Meter | None, *, shown: bool
) -> Proposal:
    """The model's proposal, or what was written of it when somebody pressed Stop. Raises ModelUnavailable, Stopped."""
    pieces: list[str] = []
    since = time.monotonic()

    async def on_text(piece: str) -> None:
        pieces.append(piece)
        await watch.on_text(piece)

    asking = asyncio.ensure_future(model.answer(messages, on_text=on_text if shown else None, meter=meter))
    stopping = asyncio.ensure_future(watch.stopped.wait())
    try:
        await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            return asking.result()
    finally:
        for task in (asking, stopping):
            task.cancel()
        await asyncio.gather(asking, stopping, return_exceptions=True)
    if not "".join(pieces).strip():
        raise Stopped
    return Proposal(
        "".join(pieces),
        model.kind,
        model.label,
        version_id=getattr(model, "version_id", None),
        seconds=time.monotonic() - since,
        finish=STOPPED,
    )
