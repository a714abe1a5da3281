"""The desk answers questions: conversation so far, memory, local model, API models, in the order the policy gives.

It decides who is asked and stores the Answer; it posts nothing and knows nothing of Slack.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from bot import prompts, routing
from bot.errors import ModelUnavailable, PublicError
from bot.models import AnswerModel, OnText
from bot.models.memory import Memory, MemoryModel
from bot.serving import Serving
from bot.settings import Policy
from storage.asking import Answered
from storage.records import ChannelSettings, Question
from storage.store import Store
from storage.values import STOPPED, Message, Proposal

NOBODY = "No model could answer just now. Please ask again in a minute; an admin can run `apprentice doctor`."
TOO_SLOW = "No model answered in time. Please ask again in a minute."
NEAREST = 5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeskRules:
    """What the operator decided about answering."""

    policy: Policy
    deadline_s: float
    question_limit: int
    api_system_prompt: str = ""


class Stopped(Exception):
    """A person stopped the answer before anything of it was written."""


class QuestionDeleted(PublicError):
    """The question went away while it was being answered; there is nobody to tell."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Somebody watches the answer being written, and may stop it.

    `on_text` gets each new piece of what is going to be the answer, `on_restart` is told when what was written so far is
    not: a model failed in the middle, and another one begins.
    """

    on_text: OnText
    on_restart: Callable[[], Awaitable[None]]
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


class Desk:
    """Answers questions with memory, the local model and API models."""

    def __init__(
        self,
        store: Store,
        *,
        memory: Memory,
        serving: Serving,
        apis: Mapping[str, AnswerModel],
        rules: DeskRules,
        local_available: bool = True,
    ) -> None:
        self._store = store
        self._memory = memory
        self._serving = serving
        self._apis = apis
        self._rules = rules
        self._local_available = local_available

    def refusal(self, text: str) -> str | None:
        """Why a question cannot be asked, in words for its asker; None if it can."""
        if not text.strip():
            return "I am listening. Write your question after my name, for example: what can you do?"
        if len(text) > self._rules.question_limit:
            return (
                f"That question has {len(text):,} characters; I read up to {self._rules.question_limit:,}. "
                "Please shorten it, or paste only the part that matters."
            )
        return None

    async def answer(
        self,
        question: Question,
        *,
        watch: Watch | None = None,
        channel: ChannelSettings | None = None,
        first: bool = False,
    ) -> Answered:
        """Answer a question and store the Answer; one that has an answer keeps it.

        `channel` is what holds where it was asked; with `first`, nobody can have answered it yet. Raises PublicError for the
        asker, QuestionDeleted where there is none any more, and Stopped.
        """
        if not first:
            known = await self._store.answer_to(question.id)
            if known is not None:
                return known
        turns = await self.turns(question)
        try:
            async with asyncio.timeout(self._rules.deadline_s):
                proposals, messages = await self._propose(turns, watch, channel)
        except TimeoutError:
            raise PublicError(TOO_SLOW) from None
        try:
            return await self._store.answer(question, proposals, messages=messages)
        except PublicError as error:
            if await self._store.question(question.id) is not None:
                raise
            raise QuestionDeleted(str(error)) from None

    async def turns(self, question: Question) -> list[Message]:
        """The conversation up to the question, as a model should see it."""
        if question.ts == question.thread_ts:
            return [Message("user", question.text)]
        earlier = await self._store.conversation(
            question.team, question.channel, question.thread_ts, before=question.ts
        )
        return [*earlier, Message("user", question.text)]

    @property
    def available(self) -> list[str]:
        """The kinds of models that can be asked, besides memory."""
        return [*self._apis, *([routing.LOCAL] if self._local_available else [])]

    async def _propose(
        self, turns: Sequence[Message], watch: Watch | None, channel: ChannelSettings | None
    ) -> tuple[list[Proposal], list[Message]]:
        with_memory = await self._from_memory(turns)
        if with_memory is not None:
            return [with_memory], list(turns)
        policy = Policy(channel.policy) if channel is not None and channel.policy else self._rules.policy
        instructions = channel.instructions if channel is not None else ""
        plan = routing.plan(policy, self.available)
        if plan.together:
            return await self._ask_together(plan, turns, instructions)
        return await self._ask_in_order(plan, turns, watch, instructions)

    async def _from_memory(self, turns: Sequence[Message]) -> Proposal | None:
        # A follow-up such as "and on Windows?" means nothing without its thread, so memory answers first questions only.
        if len(turns) > 1:
            return None
        try:
            return await MemoryModel(self._memory).answer(turns)
        except ModelUnavailable:
            return None

    async def _ask_in_order(
        self, plan: routing.Plan, turns: Sequence[Message], watch: Watch | None, instructions: str
    ) -> tuple[list[Proposal], list[Message]]:
        unsure: list[tuple[Proposal, list[Message]]] = []
        for place, kind in enumerate(plan.order):
            last = place == len(plan.order) - 1
            # What may yet be replaced by a second opinion is not shown while it is written.
            shown = last or kind in routing.APIS
            try:
                proposal, messages = await self.ask_one(
                    kind, turns, watch=watch, shown=shown, instructions=instructions
                )
            except ModelUnavailable as error:
                log.warning("model unavailable", kind=kind, why=str(error))
                if watch is not None and shown:
                    await watch.on_restart()
                continue
            if proposal.finish == STOPPED:
                return [proposal, *(kept for kept, _ in unsure)], messages
            if routing.sure_enough(proposal) or last:
                others = [kept for kept, _ in unsure]
                return self._best(proposal, messages, others, unsure)
            unsure.append((proposal, messages))
        if not unsure:
            raise PublicError(NOBODY)
        proposal, messages = unsure[0]
        return [proposal, *(kept for kept, _ in unsure[1:])], messages

    def _best(
        self,
        proposal: Proposal,
        messages: list[Message],
        others: list[Proposal],
        unsure: list[tuple[Proposal, list[Message]]],
    ) -> tuple[list[Proposal], list[Message]]:
        ranked = routing.better_first([proposal, *others])
        seen = next((read for kept, read in unsure if kept is ranked[0]), messages)
        return ranked, seen

    async def _ask_together(
        self, plan: routing.Plan, turns: Sequence[Message], instructions: str
    ) -> tuple[list[Proposal], list[Message]]:
        asked = await asyncio.gather(
            *(self.ask_one(kind, turns, instructions=instructions) for kind in plan.order),
            return_exceptions=True,
        )
        read: dict[str, list[Message]] = {}
        proposals: list[Proposal] = []
        for kind, result in zip(plan.order, asked, strict=True):
            if isinstance(result, ModelUnavailable):
                log.warning("model unavailable", kind=kind, why=str(result))
            elif isinstance(result, BaseException):
                raise result
            else:
                proposals.append(result[0])
                read[result[0].kind] = result[1]
        if not proposals:
            raise PublicError(NOBODY)
        ranked = routing.better_first(proposals)
        return ranked, read[ranked[0].kind]

    async def ask_one(
        self,
        kind: str,
        turns: Sequence[Message],
        *,
        watch: Watch | None = None,
        shown: bool = False,
        instructions: str = "",
    ) -> tuple[Proposal, list[Message]]:
        """What one kind of model proposes, and the messages it read; with `shown`, the watcher sees it being written.

        Raises ModelUnavailable, and Stopped.
        """
        if kind == routing.LOCAL:
            messages = self._serving.prompt(turns, instructions=instructions)
            model: AnswerModel = await self._serving.local()
        else:
            messages = prompts.for_api(
                turns,
                system=self._rules.api_system_prompt,
                instructions=instructions,
                verified=self._verified(turns[-1].content),
            )
            model = self._apis[kind]
        if watch is None:
            return await model.answer(messages), messages
        return await _watched(model, messages, watch, shown=shown), messages

    def _verified(self, question: str) -> list[tuple[str, str]]:
        near = self._memory.nearest(question, NEAREST)
        return [(match.entry.question, match.entry.answer) for match in near]


async def _watched(model: AnswerModel, messages: Sequence[Message], watch: Watch, *, shown: bool) -> Proposal:
    """The model's proposal, or what was written of it when somebody pressed Stop. Raises ModelUnavailable, Stopped."""
    pieces: list[str] = []
    since = time.monotonic()

    async def on_text(piece: str) -> None:
        pieces.append(piece)
        await watch.on_text(piece)

    asking = asyncio.ensure_future(model.answer(messages, on_text=on_text if shown else None))
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
