"""Which local model serves: the base or the promoted adapter, swapped without a restart; and a canary in some threads.

The newest promotion and the canary in the store are the truth and are looked up for every question, so a promotion takes
effect at once, on every replica, and a crash can lose none. A version's files are checked against their hash before it
answers; where they are gone or changed, what served before answers, and the admins are told once (`bot.canaries`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from bot import draws, prompts
from bot.errors import ModelUnavailable, PublicError
from bot.models import AnswerModel, Meter, OnText
from bot.models.engine import Engine
from bot.models.local import LocalModel
from bot.models.memory import Memory, NearestMemory
from bot.tuned import TunedModel
from storage.records import Canary, ModelVersion, Promotion
from storage.store import Store
from storage.values import Message, Proposal
from training.evaluating import BASE, CHALLENGER, CURRENT, MEMORY
from training.evaluation import Arm
from training.kept_adapters import why_damaged

LOCAL = "local"
Answering = Callable[[Sequence[Message]], Awaitable[Proposal]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fallen:
    """The promoted version cannot answer: who does, and why."""

    version: ModelVersion
    answers: str
    why: str


class ApiArms(Protocol):
    """Makes arms of API models (`bot.contenders`)."""

    def arm(self, title: str, name: str, hidden: Collection[str]) -> Arm:
        """The model called `name` ("openai:ft:...") as the arm `title`; it reads nothing of `hidden`."""

    def model(self, name: str) -> AnswerModel:
        """The model called `name`. Raises PublicError where it cannot be asked."""


class CanaryModel(LocalModel):
    """A canary, which is held responsible for every question that it does not answer."""

    def __init__(self, engine: Engine, version: ModelVersion, failed: Callable[[], Awaitable[None]]) -> None:
        super().__init__(engine, version.id, version.name)
        self._failed = failed

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Reply to the conversation. Raises `ModelUnavailable`, and counts it where it speaks against the model."""
        try:
            return await super().answer(messages, on_text=on_text, meter=meter)
        except ModelUnavailable as error:
            if error.fault and not error.again:
                await self._failed()
            raise


def thread_of(channel: str, thread_ts: str) -> str:
    """The name of a thread, by which a canary is drawn."""
    return f"{channel}/{thread_ts}"


def in_canary(salt: str, canary: Canary, thread: str) -> bool:
    """Whether a canary answers in a thread: always the same for one thread, and drawn anew for each canary."""
    return draws.share(salt, "canary", canary.id, thread) < canary.share


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
        self.contenders: ApiArms | None = None
        """Who makes arms of providers' fine-tunes; None where no API model may be asked."""
        self._fallen: dict[str, Fallen] = {}

    @property
    def fallen(self) -> Fallen | None:
        """What answers in place of a promoted version that cannot; None while all is well."""
        return next(iter(self._fallen.values()), None)

    async def local(self, *, thread: str = "") -> LocalModel:
        """The local model as it serves now in a thread ("channel/ts"). Raises ModelUnavailable where it cannot."""
        canary, version = await self._drawn(thread, LOCAL)
        if canary is not None and version is not None:
            model = await self._canary(canary, version)
            if model is not None:
                return model
        return await self._current()

    async def _drawn(self, thread: str, kind: str) -> tuple[Canary | None, ModelVersion | None]:
        """The canary that answers in a thread in place of the other models of its kind, and its version."""
        canary = await self._store.canary(self._team) if thread else None
        if canary is None or not in_canary(await self._store.draw_salt(), canary, thread):
            return None, None
        version = await self._store.model(canary.version_id or "")
        return (
            canary,
            version if version is not None and version.kind == kind and not version.tainted else None,
        )

    async def _canary(self, canary: Canary, version: ModelVersion) -> LocalModel | None:
        """The canary; None where it cannot answer, which counts against it: what serves beside it answers then."""
        try:
            await self._load(version)
        except PublicError as error:
            log.warning("the canary cannot be loaded", version=version.name, why=str(error))
            await self._store.canary_failed(canary.id)
            return None
        return CanaryModel(self._engine, version, partial(self._store.canary_failed, canary.id))

    async def _current(self) -> LocalModel:
        """The promoted version; where its files are gone or changed, the one promoted before it, at last the base."""
        current = await self.serves(LOCAL)
        if current is None:
            return LocalModel(self._engine)
        try:
            await self._load(current)
        except PublicError as error:
            return await self._before(current, str(error))
        self._fallen.pop(LOCAL, None)
        return LocalModel(self._engine, current.id, current.name)

    async def _newest_local(self) -> ModelVersion | None:
        """What the local model serves while a provider's fine-tune is the current version: what was promoted before."""
        for promotion in reversed(await self._store.promotions(self._team)):
            version = await self._store.model(promotion.version_id or "")
            if promotion.version_id is None or (version is not None and version.kind == LOCAL):
                return version
        return None

    async def serves(self, kind: str) -> ModelVersion | None:
        """The version that answers for a kind of model, canaries aside; None: the untuned base, or the settings' model."""
        current = await self._store.current(self._team)
        if kind == LOCAL:
            return current if current is None or current.kind == LOCAL else await self._newest_local()
        return current if current is not None and current.kind == kind and not current.tainted else None

    async def tuned_models(self) -> list[tuple[str, AnswerModel]]:
        """The fine-tune of a provider that is promoted, with its version's name, where it can be asked."""
        current = await self._store.current(self._team)
        if current is None or current.kind == LOCAL or current.tainted or self.contenders is None:
            return []
        try:
            return [(current.name, self.contenders.model(f"{current.kind}:{current.model}"))]
        except PublicError:
            return []

    async def api(self, kind: str, usual: AnswerModel, *, thread: str = "") -> AnswerModel:
        """The model of a provider that answers in a thread: a canary, the promoted fine-tune, or the `usual` one."""
        canary, version = await self._drawn(thread, kind)
        if version is None:
            canary, version = None, await self.serves(kind)
        fallen = self._fallen.get(kind)
        if fallen is not None and (version is None or version.id != fallen.version.id):
            del self._fallen[kind]
        if version is None or self.contenders is None:
            return usual
        try:
            model = self.contenders.model(f"{kind}:{version.model}")
        except PublicError as error:
            self._fell(version, usual.label, str(error))
            return usual
        failed = (
            partial(self._canary_failed, canary.id) if canary else partial(self._gone, version, usual.label)
        )
        return TunedModel(model, version, usual=usual, failed=failed)

    async def _canary_failed(self, canary_id: str, why: str) -> None:
        log.warning("the canary did not answer", why=why)
        await self._store.canary_failed(canary_id)

    async def _gone(self, version: ModelVersion, answers: str, why: str) -> None:
        self._fell(version, answers, why)

    async def _before(self, current: ModelVersion, why: str) -> LocalModel:
        tried = {current.id}
        for promotion in reversed(await self._store.promotions(self._team)):
            if promotion.version_id is None:
                break
            version = await self._store.model(promotion.version_id)
            if version is None or version.id in tried or version.tainted or version.kind != LOCAL:
                continue
            tried.add(version.id)
            try:
                await self._load(version)
            except PublicError:
                continue
            self._fell(current, version.name, why)
            return LocalModel(self._engine, version.id, version.name)
        self._fell(current, "the base", why)
        return LocalModel(self._engine)

    def _fell(self, current: ModelVersion, name: str, why: str) -> None:
        fallen = self._fallen.get(current.kind)
        if fallen is None or fallen.version.id != current.id:
            log.error("the current model cannot answer", version=current.name, answers=name, why=why)
        self._fallen[current.kind] = Fallen(current, name, why)

    async def version(self, version: ModelVersion | None) -> LocalModel:
        """One version of the local model, its adapter loaded; None is the untuned base."""
        if version is None:
            return LocalModel(self._engine)
        try:
            await self._load(version)
        except PublicError as error:
            raise ModelUnavailable(str(error)) from error
        return LocalModel(self._engine, version.id, version.name)

    async def ready(self, version: ModelVersion) -> None:
        """Load a version, so that it can answer in some threads. Raises PublicError naming the cause and the remedy."""
        await self._load(version)

    async def _load(self, version: ModelVersion) -> None:
        if version.kind != LOCAL:
            if self.contenders is None:
                raise PublicError(f"{version.name} is {version.kind}'s, and no API model can be asked here.")
            self.contenders.model(f"{version.kind}:{version.model}")
            return
        async with self._loading:
            if version.id not in self._loaded:
                if why := await asyncio.to_thread(why_damaged, Path(version.path), version.sha256):
                    raise PublicError(f"{version.name} cannot answer: {why}")
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
                    arms.append(await self._arm(name, version, hidden))
                except PublicError as error:
                    raise PublicError(f"{version.name} cannot be evaluated: {error}") from error
        if len(self._memory):
            arms.append(Arm(MEMORY, self._remembering(hidden)))
        return arms

    async def _arm(self, name: str, version: ModelVersion, hidden: Collection[str]) -> Arm:
        if version.kind == LOCAL:
            await self._load(version)
            return Arm(name, self._asking(await self.version(version), hidden))
        if self.contenders is None:
            raise PublicError(f"it is a fine-tune of {version.kind}'s, and no API model can be asked here.")
        return self.contenders.arm(name, f"{version.kind}:{version.model}", hidden)

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
