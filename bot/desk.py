"""The desk answers questions: conversation so far, memory, local model, API models, in the order the policy gives.

It decides who is asked and stores the Answer with its route; it posts nothing and knows nothing of Slack.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from bot import draws, routing
from bot.errors import BudgetSpent, ModelUnavailable, PublicError, ToldToAsker
from bot.models.memory import Memory, MemoryModel
from bot.panel import Case, Panel, Said, Stopped, Watch
from bot.routing import Judgement, Route
from bot.settings import Policy
from storage.asking import Answered
from storage.records import ChannelSettings, Question
from storage.store import Store
from storage.values import STOPPED, Message, Proposal

__all__ = ["Desk", "DeskRules", "Judge", "QuestionDeleted", "Stopped", "Threshold", "Watch"]

NOBODY = "No model could answer just now. Please ask again in a minute; an admin can run `apprentice doctor`."
TOO_SLOW = "No model answered in time. Please ask again in a minute."
NOT_LAST_SHARE = 0.6
"""The share of the time that is left which one model may take while others could still be asked."""
TOGETHER_SHARE = 0.9
"""... and which models may take that are asked together, so that one who hangs does not cost the other's answer."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeskRules:
    """What the operator decided about answering."""

    policy: Policy
    deadline_s: float
    question_limit: int
    private_stays_local: bool = True
    explore_rate: float = 0.0


class QuestionDeleted(PublicError):
    """The question went away while it was being answered; there is nobody to tell."""


class Judge(Protocol):
    """Says how good a local answer probably is, and whether an API model should be asked as well."""

    def seen(self, case: Case, proposal: Proposal) -> Proposal:
        """A local answer with what a later fit can learn from: numbers, no words."""

    async def judge(self, case: Case, proposal: Proposal, api: str | None) -> tuple[Proposal, Judgement]:
        """The proposal with its features and chance of being good, and the decision; `api` is who could be asked."""


class Threshold:
    """The judge until a router is fitted: the mean log-probability of the tokens, and a conservative limit."""

    def seen(self, case: Case, proposal: Proposal) -> Proposal:
        """As it is."""
        return proposal

    async def judge(self, case: Case, proposal: Proposal, api: str | None) -> tuple[Proposal, Judgement]:
        """Nothing is known of chances yet."""
        return proposal, Judgement(escalate=api is not None and not routing.sure_enough(proposal))


@dataclass
class _Hearing:
    """One question while it is answered: what was said so far, and by when it has to be over (`ends`, monotonic)."""

    case: Case
    route: Route
    watch: Watch | None
    ends: float
    unsure: list[Said] = field(default_factory=list)
    refusals: list[ModelUnavailable] = field(default_factory=list)

    def passed(self, kind: str, error: ModelUnavailable) -> None:
        """This kind gave no answer."""
        log.warning("model unavailable", kind=kind, why=str(error))
        self.route.passed.append((kind, type(error).__name__))
        self.refusals.append(error)
        if isinstance(error, BudgetSpent):
            self.route.notice = str(error)

    def nobody(self) -> PublicError:
        """What the asker reads where nobody answered."""
        for error in self.refusals:
            if isinstance(error, ToldToAsker | BudgetSpent):
                return PublicError(str(error))
        return PublicError(NOBODY)


class Desk:
    """Answers questions with memory, the local model and API models."""

    def __init__(
        self, store: Store, *, memory: Memory, panel: Panel, rules: DeskRules, judge: Judge | None = None
    ) -> None:
        self._store = store
        self._memory = memory
        self.panel = panel
        self._rules = rules
        self.judge = judge or Threshold()

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
        said, others, route = await self._heard(question, watch, channel)
        try:
            return await self._store.answer(
                question, [said.proposal, *others], messages=said.messages, route=route.stored()
            )
        except PublicError as error:
            if await self._store.question(question.id) is not None:
                raise
            raise QuestionDeleted(str(error)) from None

    async def _heard(
        self, question: Question, watch: Watch | None, channel: ChannelSettings | None
    ) -> tuple[Said, list[Proposal], Route]:
        """The answer to post, the other proposals, and why this one."""
        turns = await self.turns(question)
        remembered = await self._from_memory(turns)
        if remembered is not None:
            return Said(remembered, tuple(turns)), [], Route(rule=routing.MEMORY)
        case = await self.case(question, turns, channel)
        policy = self.policy(case.channel)
        ends = time.monotonic() + self._rules.deadline_s
        hearing = _Hearing(case, Route(policy=policy.value), watch, ends)
        try:
            async with asyncio.timeout(self._rules.deadline_s):
                said, others = await self._ask(hearing)
        except TimeoutError:
            if not hearing.unsure:
                raise PublicError(TOO_SLOW) from None
            # What was held back for a second opinion is better than nothing.
            said, others = hearing.unsure[0], [each.proposal for each in hearing.unsure[1:]]
        return said, others, hearing.route

    async def case(
        self, question: Question, turns: Sequence[Message], channel: ChannelSettings | None
    ) -> Case:
        """The question as it is put to the models."""
        settings = channel or ChannelSettings(team=question.team, channel=question.channel)
        near = await self.panel.near(question, turns[-1].content, private=self._private(question, settings))
        return Case(question, tuple(turns), settings, near=near)

    def policy(self, channel: ChannelSettings) -> Policy:
        """The policy that holds in a channel."""
        return Policy(channel.policy) if channel.policy else self._rules.policy

    def plan(self, case: Case) -> routing.Plan:
        """Who is asked about this question, in which order."""
        private = self._private(case.question, case.channel)
        return routing.plan(self.policy(case.channel), self.panel.available, private=private)

    def _private(self, question: Question, channel: ChannelSettings) -> bool:
        return self.policy(channel) is Policy.LOCAL_ONLY or routing.is_private(
            question.place,
            chosen=bool(channel.policy),
            private_stays_local=self._rules.private_stays_local,
        )

    async def turns(self, question: Question) -> list[Message]:
        """The conversation up to the question, as a model should see it."""
        if question.ts == question.thread_ts:
            return [Message("user", question.text)]
        earlier = await self._store.conversation(
            question.team, question.channel, question.thread_ts, before=question.ts
        )
        return [*earlier, Message("user", question.text)]

    async def _from_memory(self, turns: Sequence[Message]) -> Proposal | None:
        # A follow-up such as "and on Windows?" means nothing without its thread, so memory answers first questions only.
        if len(turns) > 1:
            return None
        try:
            return await MemoryModel(self._memory).answer(turns)
        except ModelUnavailable:
            return None

    async def _ask(self, hearing: _Hearing) -> tuple[Said, list[Proposal]]:
        plan = self.plan(hearing.case)
        hearing.route.rule = plan.rule
        for kind in self.panel.configured:
            if reason := self.panel.resting(kind):
                hearing.passed(kind, ModelUnavailable(reason, fault=False))
        if plan.together:
            return await self._ask_together(hearing, plan)
        return await self._ask_in_order(hearing, plan)

    async def _ask_in_order(self, hearing: _Hearing, plan: routing.Plan) -> tuple[Said, list[Proposal]]:
        for place, kind in enumerate(plan.order):
            rest = plan.order[place + 1 :]
            said = await self._try(hearing, kind, last=not rest)
            if said is None:
                continue
            others = [each.proposal for each in hearing.unsure]
            if said.proposal.finish == STOPPED or kind != routing.LOCAL:
                return said, others
            said, judgement = await self._judged(hearing, said, rest[0] if rest else None)
            if not judgement.escalate:
                return said, others
            hearing.unsure.append(said)
        if hearing.unsure:
            return hearing.unsure[0], [each.proposal for each in hearing.unsure[1:]]
        return await self._last_resort(hearing, plan), []

    async def _try(self, hearing: _Hearing, kind: str, *, last: bool) -> Said | None:
        """What this kind says; None where it is not available. What may yet be replaced is not shown while it is written."""
        shown = last or kind in routing.APIS
        left_s = max(0.0, hearing.ends - time.monotonic())
        try:
            return await self.panel.ask(
                kind,
                hearing.case,
                watch=hearing.watch,
                shown=shown,
                time_s=None if last else left_s * NOT_LAST_SHARE,
            )
        except ModelUnavailable as error:
            hearing.passed(kind, error)
            if hearing.watch is not None and shown:
                await hearing.watch.on_restart()
            return None

    async def _last_resort(self, hearing: _Hearing, plan: routing.Plan) -> Said:
        """Nobody answered: a local model whose process died is started anew and asked once more. Raises PublicError."""
        if routing.LOCAL in plan.order and any(error.again for error in hearing.refusals):
            said = await self._try(hearing, routing.LOCAL, last=True)
            if said is not None:
                return said
        raise hearing.nobody()

    async def _judged(self, hearing: _Hearing, said: Said, api: str | None) -> tuple[Said, Judgement]:
        """The local answer with what was seen of it, and whether the API model `api` is asked as well."""
        proposal, judgement = await self.judge.judge(hearing.case, said.proposal, api)
        if api is not None and said.proposal.text.strip():
            salt = await self._store.draw_salt()
            draw = draws.share(salt, "explore", hearing.case.question.id)
            judgement = routing.explored(judgement, draw=draw, rate=self._rules.explore_rate)
        hearing.route.judgement = judgement
        return replace(said, proposal=proposal), judgement

    async def _ask_together(self, hearing: _Hearing, plan: routing.Plan) -> tuple[Said, list[Proposal]]:
        """Both at the same time; the second opinion costs the same however good the first is, so no draw is made."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._try_unseen(hearing, kind)) for kind in plan.order]
        said = [each for each in (task.result() for task in tasks) if each is not None]
        if not said:
            return await self._last_resort(hearing, plan), []
        local = next((each for each in said if each.proposal.kind == routing.LOCAL), None)
        if local is None or len(said) == 1:
            return said[0], [each.proposal for each in said[1:]]
        proposal, judgement = await self.judge.judge(hearing.case, local.proposal, plan.order[-1])
        hearing.route.judgement = judgement
        judged = [replace(each, proposal=proposal) if each is local else each for each in said]
        good = not judgement.escalate and bool(proposal.text.strip())
        judged.sort(key=lambda each: (each.proposal.kind == routing.LOCAL) != good)
        return judged[0], [each.proposal for each in judged[1:]]

    async def _try_unseen(self, hearing: _Hearing, kind: str) -> Said | None:
        try:
            left_s = max(0.0, hearing.ends - time.monotonic())
            return await self.panel.ask(kind, hearing.case, time_s=left_s * TOGETHER_SHARE)
        except ModelUnavailable as error:
            hearing.passed(kind, error)
            return None
