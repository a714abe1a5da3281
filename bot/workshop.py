"""Everything that works without Slack, built once from the settings: store, memory, models, desk, runs.

The terminal uses it as it is; `bot.app` puts Slack in front of it.
"""

import asyncio
import fcntl
import importlib.util
import os
import socket
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import structlog

from bot.desk import Desk, DeskRules
from bot.errors import PublicError
from bot.faq import read_faq
from bot.models import AnswerModel
from bot.models.local import LocalEngine
from bot.models.memory import Entry as MemoryEntry
from bot.models.memory import Memory
from bot.privacy import Privacy
from bot.serving import Serving
from bot.settings import HANDBOOK, Settings, child_environment
from storage.records import Entry, Evaluation, TrainingRun
from storage.store import Store
from training.evaluating import Evaluations
from training.finetuners.local import LocalFineTuner
from training.runs import RunRules, Runs

LOCAL_TEAM = "T0LOCAL"
TEAM = "team"
SAMPLE = "sample-domain"
HELD_OUT = "test"

log = structlog.get_logger(__name__)


class DataLock:
    """The data directory belongs to one bot at a time; held until the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "apprentice.lock"
        self._held: IO[str] | None = None

    def take(self) -> bool:
        """True if it is ours now (or was already)."""
        if self._held is not None:
            return True
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            file = self._file.open("a+", encoding="utf-8")
        except OSError as error:
            raise PublicError(
                f"The data directory {self._file.parent} cannot be used ({error.strerror}). "
                "Free some space, correct its permissions, or set DATA_DIR."
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        os.set_inheritable(file.fileno(), False)
        self._held = file
        return True

    def release(self) -> None:
        """Let somebody else have it."""
        if self._held is not None:
            self._held.close()
            self._held = None


@dataclass
class Workshop:
    """What answers and learns."""

    settings: Settings
    store: Store
    team: str
    memory: Memory
    engine: LocalEngine
    serving: Serving
    apis: dict[str, AnswerModel]
    desk: Desk
    runs: Runs
    evaluations: Evaluations
    privacy: Privacy
    worker: str
    remembered: str = ""

    @classmethod
    async def open(
        cls,
        settings: Settings,
        store: Store,
        *,
        team: str,
        report_run: Callable[[TrainingRun], Awaitable[None]],
        report_evaluation: Callable[[Evaluation], Awaitable[None]],
    ) -> Self:
        """Build everything; no model is loaded and no network is touched yet."""
        memory = Memory()
        engine = _engine(settings)
        serving = Serving(store, engine, memory, team=team, system_prompt=settings.local_system_prompt)
        apis = api_models(settings)
        worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        evaluations = Evaluations(
            store,
            team=team,
            folder=settings.data_dir,
            bench=serving,
            limit=settings.evaluation_limit,
            worker=worker,
            report=report_evaluation,
        )
        runs = Runs(
            store,
            team=team,
            folder=settings.data_dir.resolve(),
            finetuners={"local": LocalFineTuner(environment=child_environment())},
            evaluations=evaluations,
            rules=_run_rules(settings),
            report=report_run,
            worker=worker,
        )
        desk = Desk(
            store,
            memory=memory,
            serving=serving,
            apis=apis,
            local_available=has_local_extra(),
            rules=_desk_rules(settings),
        )
        shop = cls(
            settings=settings,
            store=store,
            team=team,
            memory=memory,
            engine=engine,
            serving=serving,
            apis=apis,
            desk=desk,
            runs=runs,
            evaluations=evaluations,
            privacy=Privacy(store, team=team),
            worker=worker,
        )
        await shop.learn_sample_domain()
        await shop.remember()
        return shop

    async def learn_sample_domain(self) -> None:
        """Import the handbook once, into a workspace that has nothing of its own."""
        if not self.settings.sample_domain:
            return
        if await self.store.keepsake(f"{SAMPLE}:{self.team}", lambda: "due") != "due":
            return
        if (await self.store.tally(self.team)).entries == 0:
            faq = await asyncio.to_thread(read_faq, HANDBOOK, source="the handbook")
            await self.store.add_entries(self.team, faq.entries)
        await self.store.change_keepsake(f"{SAMPLE}:{self.team}", "done")

    async def remember(self) -> None:
        """Read memory anew from the verified entries. Held-out questions are never served."""
        stamp = await self.store.entries_stamp(self.team)
        entries = [
            _remembered(row)
            async for page in self.store.entries(self.team)
            for row in page
            if row.split != HELD_OUT
        ]
        await asyncio.to_thread(self.memory.replace, entries)
        self.remembered = stamp

    async def refresh_memory(self) -> None:
        """Take over what another process changed since, such as `apprentice import`. Cheap where nothing changed."""
        if await self.store.entries_stamp(self.team) != self.remembered:
            await self.remember()

    async def learn(self, entry: Entry) -> None:
        """Let memory know one more entry."""
        if entry.split != HELD_OUT:
            await asyncio.to_thread(self.memory.add, _remembered(entry))

    async def close(self) -> None:
        """Stop what runs; a trainer goes on by itself and is found again."""
        await self.runs.stop()
        await self.evaluations.stop()
        await self.engine.stop()
        for model in self.apis.values():
            close = getattr(model, "close", None)
            if close is not None:
                await close()
        await self.store.close()


def _remembered(row: Entry) -> MemoryEntry:
    return MemoryEntry(row.id, row.question, row.answer, row.source, row.topic)


def has_local_extra() -> bool:
    """Whether the packages of the local model are installed (without importing them)."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers", "peft"))


def api_models(settings: Settings) -> dict[str, AnswerModel]:
    """The API models that are configured, by kind."""
    models: dict[str, AnswerModel] = {}
    if settings.openai_api_key is not None or settings.openai_base_url:
        from bot.models.openai import OpenAIModel

        key = settings.openai_api_key
        models["openai"] = OpenAIModel(
            api_key=key.get_secret_value() if key else "none",
            model=settings.openai_model,
            base_url=settings.openai_base_url or None,
            timeout_s=settings.api_timeout_s,
            max_output_tokens=settings.api_max_output_tokens,
            reasoning_effort=settings.openai_reasoning_effort,
        )
    if settings.gemini_api_key is not None:
        from bot.models.gemini import GeminiModel

        models["gemini"] = GeminiModel(
            api_key=settings.gemini_api_key.get_secret_value(),
            model=settings.gemini_model,
            base_url=settings.gemini_base_url or None,
            timeout_s=settings.api_timeout_s,
            max_output_tokens=settings.api_max_output_tokens,
        )
    return models


def _engine(settings: Settings) -> LocalEngine:
    return LocalEngine(
        model=settings.base_model,
        label=settings.base_label,
        max_new_tokens=settings.local_max_new_tokens,
        allow_downloads=settings.allow_downloads and not settings.with_starter,
        log_file=settings.data_dir / "local-model.log",
    )


def _desk_rules(settings: Settings) -> DeskRules:
    return DeskRules(
        policy=settings.answer_policy,
        deadline_s=settings.answer_deadline_s,
        question_limit=settings.question_limit,
        api_system_prompt=settings.api_system_prompt,
    )


def _run_rules(settings: Settings) -> RunRules:
    return RunRules(
        base_model=settings.base_model,
        quantization=settings.train_quantization,
        min_examples=settings.train_min_examples,
        timeout_s=settings.train_timeout_s,
        epochs=settings.train_epochs,
        system_prompt=settings.local_system_prompt,
        allow_downloads=settings.allow_downloads and not settings.with_starter,
    )
