"""The desk answers questions: conversation so far, memory, local model, API models, in the order the policy gives.

It decides who is asked and stores the Answer; it posts nothing and knows nothing of Slack.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from bot import prompts, routing
from bot.errors import ModelUnavailable, PublicError
from bot.models import AnswerModel, OnText
from bot.models.memory import Memory, MemoryModel
from bot.serving import Serving
from bot.settings import Policy
from storage.asking import Answered
from storage.records import Question
from storage.store import Store
from storage.values import Message, Proposal

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

    async def answer(self, question: Question, *, on_text: OnText | None = None) -> Answered:
        """Answer a question and store the Answer; one that has an answer keeps it. Raises PublicError for the asker."""
        known = await self._store.answer_to(question.id)
        if known is not None:
            return known
        turns = await self._turns(question)
        try:
            async with asyncio.timeout(self._rules.deadline_s):
                proposals, messages = await self._propose(turns, on_text)
        except TimeoutError:
            raise PublicError(TOO_SLOW) from None
        await self._store.answer(question, proposals, messages=messages)
        stored = await self._store.answer_to(question.id)
        if stored is None:
            raise PublicError("The question was deleted while I was answering it.")
        return stored

    async def _turns(self, question: Question) -> list[Message]:
        earlier = await self._store.conversation(
            question.team, question.channel, question.thread_ts, before=question.ts
        )
        return [*earlier, Message("user", question.text)]

    async def _propose(
        self, turns: Sequence[Message], on_text: OnText | None
    ) -> tuple[list[Proposal], list[Message]]:
        with_memory = await self._from_memory(turns)
        if with_memory is not None:
            return [with_memory], list(turns)
        available = [*self._apis, *([routing.LOCAL] if self._local_available else [])]
        plan = routing.plan(self._rules.policy, available)
        if plan.together:
            return await self._ask_together(plan, turns)
        return await self._ask_in_order(plan, turns, on_text)

    async def _from_memory(self, turns: Sequence[Message]) -> Proposal | None:
        # A follow-up such as "and on Windows?" means nothing without its thread, so memory answers first questions only.
        if len(turns) > 1:
            return None
        try:
            return await MemoryModel(self._memory).answer(turns)
        except ModelUnavailable:
            return None

    async def _ask_in_order(
        self, plan: routing.Plan, turns: Sequence[Message], on_text: OnText | None
    ) -> tuple[list[Proposal], list[Message]]:
        unsure: list[tuple[Proposal, list[Message]]] = []
        for place, kind in enumerate(plan.order):
            try:
                proposal, messages = await self._ask(kind, turns, on_text)
            except ModelUnavailable as error:
                log.warning("model unavailable", kind=kind, why=str(error))
                continue
            last = place == len(plan.order) - 1
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
        self, plan: routing.Plan, turns: Sequence[Message]
    ) -> tuple[list[Proposal], list[Message]]:
        asked = await asyncio.gather(
            *(self._ask(kind, turns, None) for kind in plan.order), return_exceptions=True
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

    async def _ask(
        self, kind: str, turns: Sequence[Message], on_text: OnText | None
    ) -> tuple[Proposal, list[Message]]:
        if kind == routing.LOCAL:
            messages = self._serving.prompt(turns)
            return await (await self._serving.local()).answer(messages, on_text=on_text), messages
        messages = prompts.for_api(
            turns, system=self._rules.api_system_prompt, verified=self._verified(turns[-1].content)
        )
        return await self._apis[kind].answer(messages, on_text=on_text), messages

    def _verified(self, question: str) -> list[tuple[str, str]]:
        near = self._memory.nearest(question, NEAREST)
        return [(match.entry.question, match.entry.answer) for match in near]
