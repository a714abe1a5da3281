"""Everything that works without Slack, built once from the settings: store, memory, models, desk, runs.

The terminal uses it as it is; `bot.app` puts Slack in front of it.
"""

import asyncio
import fcntl
import os
import socket
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Self

import structlog

from bot import routing
from bot.canaries import Canaries, CanaryRules
from bot.contenders import ApiJudge, Contenders
from bot.desk import Desk, DeskRules
from bot.distilling import Distilling, DistilRules
from bot.errors import PublicError
from bot.figures import Figures
from bot.judge import RouterJudge
from bot.legal import why_nothing_is_frozen
from bot.lineup import (
    api_model,
    api_models,
    configured_apis,
    engine_of,
    file_shelves,
    has_local_model,
    meaning_of,
    usual_cost,
)
from bot.models import AnswerModel
from bot.models.engine import Engine
from bot.models.memory import Memory
from bot.models.prices import Prices
from bot.money import Ledger
from bot.panel import Panel
from bot.privacy import Privacy, PrivacyRules
from bot.refit import Refit
from bot.retention import Retention, RetentionRules
from bot.serving import Serving
from bot.settings import HANDBOOK, Settings
from bot.tuning import Capability, capabilities, finetuners
from storage.records import Evaluation, TrainingRun
from storage.store import Store
from training.beside import Beside
from training.canary import CanaryTerms
from training.evaluating import Evaluations
from training.formats.reading import read_faq
from training.method import ON_SERVERS, Adapter
from training.raters import CapRules
from training.runs import Declined, RunRules, Runs
from training.specification import Axis, Specification

LOCAL_TEAM = "T0LOCAL"
TEAM = "team"
SAMPLE = "sample-domain"

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
    engine: Engine
    serving: Serving
    apis: dict[str, AnswerModel]
    desk: Desk
    runs: Runs
    evaluations: Evaluations
    privacy: Privacy
    ledger: Ledger
    judge: RouterJudge
    worker: str
    canaries: Canaries
    contenders: Contenders
    distilling: Distilling

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
        ledger = Ledger.of(settings, store, team=team)
        memory = _memory(settings, store, team, ledger)
        engine = engine_of(settings)
        prompt, examples = settings.local_system_prompt, settings.examples_for_local
        serving = Serving(store, engine, memory, team=team, system_prompt=prompt, examples=examples)
        apis = api_models(settings)
        judge = RouterJudge(
            store, team=team, value_usd=settings.good_answer_usd, usual_cost=usual_cost(settings)
        )
        panel = _panel(settings, memory, serving, apis, ledger)
        desk = Desk(store, memory=memory, panel=panel, rules=_desk_rules(settings), judge=judge)
        worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        contenders = _contenders(settings, store, team, memory, ledger)
        serving.contenders = contenders
        evaluations = Evaluations(
            store,
            team=team,
            folder=settings.data_dir,
            bench=serving,
            contenders=contenders,
            beside=_beside(settings, store, team, ledger),
            limit=settings.evaluation_limit,
            worker=worker,
            report=report_evaluation,
            terms=Specification(axis=Axis(settings.promote_axis)),
        )
        runs = _runs(settings, store, team, evaluations, report_run, worker)
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
            privacy=_privacy(settings, store, team, memory, serving, runs, worker),
            ledger=ledger,
            judge=judge,
            worker=worker,
            canaries=Canaries(store, serving, team=team, worker=worker, rules=_canary_rules(settings)),
            contenders=contenders,
            distilling=_distilling(settings, store, team, memory, ledger, contenders, worker),
        )
        await shop.judge.refresh()
        await shop.learn_sample_domain()
        await shop.remember()
        return shop

    @property
    def figures(self) -> Figures:
        """What routing saved, in words."""
        return Figures(self.store, team=self.team, usual_api_usd=self._first_price)

    @property
    def retention(self) -> Retention:
        """What is kept how long."""
        settings = self.settings
        rules = RetentionRules(
            raw_days=settings.retain_raw_days,
            days=settings.retain_days,
            rated_days=settings.retain_rated_days,
            datasets=settings.retain_datasets,
        )
        return Retention(self.store, team=self.team, folder=settings.data_dir.resolve(), rules=rules)

    @property
    def refit(self) -> Refit:
        """The router's fit."""
        apis = [kind for kind in routing.APIS if kind in self.apis]
        return Refit(self.store, self.judge, team=self.team, apis=apis)

    def _first_price(self) -> float | None:
        """What an answer of the API model that would be asked first costs; None where there is none."""
        first = next((kind for kind in routing.APIS if kind in self.apis), None)
        return self.judge.prices(first).cost_api_usd if first else None

    async def capabilities(self) -> list[Capability]:
        """Where runs can be trained, and until when."""
        return await capabilities(self.settings, self.runs.finetuners)

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
        """Let memory take over what changed in the store, here or in another process such as `apprentice import`."""
        await self.memory.refresh()

    async def close(self) -> None:
        """Stop what runs; a trainer goes on by itself and is found again."""
        await self.privacy.stop()
        await self.distilling.close()
        await self.runs.close()
        await self.evaluations.stop()
        await self.engine.stop()
        await self.contenders.close()
        await self.memory.close()
        for model in self.apis.values():
            close = getattr(model, "close", None)
            if close is not None:
                await close()
        await self.ledger.close()
        await self.store.close()


def _memory(settings: Settings, store: Store, team: str, ledger: Ledger) -> Memory:
    folder = settings.data_dir / "memory"
    meaning = meaning_of(settings, store, team, folder / team, ledger.meter(purpose="memory"))
    return Memory(store, team=team, folder=folder, meaning=meaning)


def _privacy(
    settings: Settings,
    store: Store,
    team: str,
    memory: Memory,
    serving: Serving,
    runs: Runs,
    worker: str,
) -> Privacy:
    async def retrain(work: str) -> str:
        asked = await runs.request(by="the forgetting", occasion=f"forget:{work}")
        return asked.reason if isinstance(asked, Declined) else ""

    rules = PrivacyRules(
        folder=settings.data_dir.resolve(),
        shared=settings.ray_storage,
        worker=worker,
        switch=settings.forget_switch,
        remember=memory.refresh_wholly,
        retrain=retrain,
        serving=serving,
        shelves=file_shelves(settings),
    )
    return Privacy(store, team=team, rules=rules)


def _runs(
    settings: Settings,
    store: Store,
    team: str,
    evaluations: Evaluations,
    report: Callable[[TrainingRun], Awaitable[None]],
    worker: str,
) -> Runs:
    return Runs(
        store,
        team=team,
        folder=settings.data_dir.resolve(),
        finetuners=finetuners(settings, store, team),
        evaluations=evaluations,
        rules=_run_rules(settings),
        report=report,
        worker=worker,
        why_not=partial(why_nothing_is_frozen, store, team, on_slack=settings.on_slack),
    )


def _panel(
    settings: Settings, memory: Memory, serving: Serving, apis: dict[str, AnswerModel], ledger: Ledger
) -> Panel:
    return Panel(
        memory=memory,
        serving=serving,
        apis=apis,
        treasury=ledger,
        system_prompt=settings.api_system_prompt,
        local_available=has_local_model(settings),
    )


def _canary_rules(settings: Settings) -> CanaryRules:
    """Where two admins have to agree, nothing is promoted by itself."""
    asks = settings.promote == "auto" and settings.promotion_approvals > 1
    return CanaryRules(
        share=settings.canary_share,
        promote="canary" if asks else settings.promote,
        terms=CanaryTerms(days=settings.canary_days),
    )


def _contenders(settings: Settings, store: Store, team: str, memory: Memory, ledger: Ledger) -> Contenders:
    """The API models that evaluations may ask; those of every evaluation where EVAL_API says so."""
    names = {"openai": settings.openai_model, "gemini": settings.gemini_model}
    usual = [f"{kind}:{names[kind]}" for kind in configured_apis(settings)] if settings.eval_api else []
    return Contenders(
        store,
        team=team,
        memory=memory,
        ledger=ledger,
        make=partial(api_model, settings),
        system_prompt=settings.api_system_prompt,
        usual=usual,
    )


def _distilling(
    settings: Settings,
    store: Store,
    team: str,
    memory: Memory,
    ledger: Ledger,
    contenders: Contenders,
    worker: str,
) -> Distilling:
    prices = Prices.chosen(settings.prices_file)
    rules = DistilRules(
        policy=settings.answer_policy,
        private_stays_local=settings.private_channels == "local",
        price=lambda model: prices.cost(model, 1000, 0, 250),
        system_prompt=settings.api_system_prompt,
        free=ledger.free,
        review_required=settings.review_required,
    )
    return Distilling(
        store,
        team=team,
        memory=memory,
        ledger=ledger,
        contenders=contenders,
        rules=rules,
        worker=worker,
    )


def _beside(settings: Settings, store: Store, team: str, ledger: Ledger) -> Beside:
    """A judge without its key is none: evaluations say so and go on."""
    judge, why = None, ""
    if settings.judge_model:
        kind, _, model = settings.judge_model.partition(":")
        try:
            judge = ApiJudge(settings.judge_model, api_model(settings, kind, model), ledger)
        except PublicError as error:
            why = str(error)
    return Beside(
        store,
        team=team,
        folder=settings.data_dir,
        stays_here=lambda where: routing.is_private(
            where.place,
            chosen=bool(where.policy),
            private_stays_local=settings.private_channels == "local",
        ),
        judge=judge,
        why_no_judge=why,
        judge_limit=settings.judge_limit,
    )


def _desk_rules(settings: Settings) -> DeskRules:
    return DeskRules(
        policy=settings.answer_policy,
        deadline_s=settings.answer_deadline_s,
        question_limit=settings.question_limit,
        private_stays_local=settings.private_channels == "local",
        explore_rate=settings.explore_rate,
    )


def _run_rules(settings: Settings) -> RunRules:
    return RunRules(
        base_model=settings.base_to_train,
        quantization=settings.train_quantization,
        min_examples=settings.train_min_examples,
        timeout_s=settings.train_timeout_s,
        epochs=settings.train_epochs,
        train_with=settings.train_with,
        system_prompt=settings.local_system_prompt,
        allow_downloads=settings.allow_downloads and not settings.with_starter,
        review_required=settings.review_required,
        caps=CapRules(rater=settings.rater_cap, author=settings.author_cap),
        languages=settings.dataset_languages,
        adapters=ON_SERVERS if settings.on_a_server else tuple(Adapter),
    )
