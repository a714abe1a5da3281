"""Which local model serves: the base or the promoted adapter, swapped without a restart.

The newest promotion in the store is the truth and is looked up for every question, so a promotion takes effect at once, on
every replica, and a crash can lose none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

import structlog

from bot import prompts
from bot.errors import ModelUnavailable, PublicError
from bot.models.engine import Engine
from bot.models.local import LocalModel
from bot.models.memory import Memory, NearestMemory
from storage.records import ModelVersion, Promotion
from storage.store import Store
from storage.values import Message, Proposal
from training.evaluating import BASE, CHALLENGER, CURRENT, MEMORY
from training.evaluation import Arm

Answering = Callable[[Sequence[Message]], Awaitable[Proposal]]

log = structlog.get_logger(__name__)


class Serving:
    """The engine, and which version answers."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        memory: Memory,
        *,
        team: str,
        system_prompt: str = "",
        examples: int = 0,
    ) -> None:
        """`examples` is how many verified answers the local model reads before a question."""
        self._store = store
        self._engine = engine
        self._memory = memory
        self._team = team
        self._system_prompt = system_prompt
        self._examples = examples
        self._loaded: set[str] = set()
        self._loading = asyncio.Lock()

    async def local(self) -> LocalModel:
        """The local model as it serves now. Raises ModelUnavailable where it cannot."""
        return await self.version(await self._store.current(self._team))

    async def version(self, version: ModelVersion | None) -> LocalModel:
        """One version of the local model, its adapter loaded; None is the untuned base."""
        if version is None:
            return LocalModel(self._engine)
        try:
            await self._load(version)
        except PublicError as error:
            raise ModelUnavailable(str(error)) from error
        return LocalModel(self._engine, version.id, version.name)

    async def _load(self, version: ModelVersion) -> None:
        async with self._loading:
            if version.id not in self._loaded:
                await self._engine.load(version.id, Path(version.path))
                self._loaded.add(version.id)

    async def promote(
        self, version: ModelVersion | None, *, by: str, decision: str, reason: str
    ) -> tuple[Promotion, bool]:
        """Make a version the current one. It is loaded first: what cannot answer is not promoted (PublicError)."""
        if version is not None:
            await self._load(version)
        promotion, new = await self._store.promote(
            team=self._team,
            decision=decision,
            version_id=version.id if version else None,
            by=by,
            reason=reason,
        )
        if new:
            await self._store.decide(
                team=self._team,
                actor=by,
                action="promote",
                subject=version.name if version else "base",
                detail=reason,
            )
            log.info("promoted", version=version.name if version else "base")
        return promotion, new

    async def roll_back(self, *, by: str) -> str:
        """Serve again what served before the newest promotion; its name. Raises PublicError if there is nothing."""
        newest = await self._store.newest_promotion(self._team)
        if newest is None:
            raise PublicError("Nothing was promoted yet, so there is nothing to roll back.")
        before = await self._store.model(newest.previous_id) if newest.previous_id else None
        if newest.previous_id and before is None:
            raise PublicError(
                "The model that served before is gone. `apprentice models` lists what there is."
            )
        await self.promote(before, by=by, decision=f"rollback:{newest.id}", reason="rolled back")
        return before.name if before else "The base"

    async def arms(
        self,
        *,
        challenger: ModelVersion | None,
        current: ModelVersion | None,
        held_out: Collection[str],
    ) -> Sequence[Arm]:
        """The arms of an evaluation: base, what serves, the challenger, and memory as if it had not seen `held_out`."""
        hidden = await self._entries_of(held_out)
        arms = [Arm(BASE, self._asking(await self.version(None), hidden))]
        for name, version in ((CURRENT, current), (CHALLENGER, challenger)):
            if version is not None:
                try:
                    await self._load(version)
                except PublicError as error:
                    raise PublicError(f"{version.name} cannot be evaluated: {error}") from error
                arms.append(Arm(name, self._asking(await self.version(version), hidden)))
        if len(self._memory):
            arms.append(Arm(MEMORY, self._remembering(hidden)))
        return arms

    async def _entries_of(self, held_out: Collection[str]) -> frozenset[str]:
        """The entries whose very question is held out: with them memory would be asked what it was told."""
        return frozenset(await self._store.entry_ids(self._team, held_out))

    def _remembering(self, exclude: Collection[str]) -> Answering:
        """The nearest verified answer. Knowing nothing near is an empty answer, not an arm that failed."""
        memory = NearestMemory(self._memory, exclude=exclude)

        async def answer(messages: Sequence[Message]) -> Proposal:
            try:
                return await memory.answer(messages)
            except ModelUnavailable:
                return Proposal("", memory.kind, memory.label)

        return answer

    def _asking(self, model: LocalModel, exclude: Collection[str]) -> Answering:
        """A version as it serves people, with the examples that it reads; none of them is what it is asked."""

        async def answer(messages: Sequence[Message]) -> Proposal:
            if not self._examples:
                return await model.answer(messages)
            near = await self._memory.nearest(messages[-1].content, self._examples, exclude=exclude)
            known = [(match.entry.question, match.entry.answer) for match in near]
            return await model.answer(prompts.with_examples(messages, known))

        return answer

    def prompt(
        self,
        turns: Sequence[Message],
        *,
        verified: Sequence[tuple[str, str]] = (),
        instructions: str = "",
    ) -> list[Message]:
        """What the local model reads for this conversation; `instructions` are those of the channel.

        Of `verified`, the nearest questions and answers, it reads as many as the operator wants.
        """
        return prompts.for_local(
            turns,
            system=self._system_prompt,
            verified=verified[: self._examples],
            instructions=instructions,
        )
