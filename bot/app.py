"""The bot in front of Slack: built once, started, stopped. `apprentice serve` and `apprentice rehearse` run this.

With no Slack token it starts the local workspace and talks to that, over the same protocol.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.clockwork import Clockwork
from bot.dueling import Dueling
from bot.errors import ModelUnavailable, PublicError
from bot.lineup import has_local_model
from bot.money_limits import Budgets
from bot.redacting import install_rules
from bot.restriking import Restriking
from bot.schedule import Clock
from bot.settings import MANIFEST, Policy, Settings, forget_proxies
from bot.slack import unclaimed
from bot.slack.access import Access, access_lost
from bot.slack.admin import Admin, AdminRules
from bot.slack.admin_notes import AdminNotes
from bot.slack.answering import Answering
from bot.slack.canaries import CanaryReports
from bot.slack.catchup import CatchUp
from bot.slack.connection import Receiver, SocketMode
from bot.slack.digests import Digests
from bot.slack.distils import Distils
from bot.slack.duels import DuelRules, Duels
from bot.slack.guards import Guards
from bot.slack.home import HomeRules
from bot.slack.http_mode import DOWN, FINE, HttpMode
from bot.slack.identity import Identity, identity_of
from bot.slack.listeners import hear, listen
from bot.slack.members import Members
from bot.slack.people import People
from bot.slack.questions import Questions
from bot.slack.reports import ReportRules, Reports
from bot.slack.service import SlackService
from bot.slack.shutdowns import Shutdowns
from bot.slack.solicit import Solicitor
from bot.slack.spending import BudgetNotices
from bot.slack.trouble import retry_handlers
from bot.slack.tuning_notices import TuningNotices
from bot.workshop import LOCAL_TEAM, TEAM, DataLock, Workshop
from bot.workspace import LocalWorkspace
from bot.workspace.manifest import read_manifest
from bot.workspace.seed import APP_TOKEN, BOT_TOKEN
from storage.names import install_names
from storage.records import now
from storage.store import Store

LOCAL_ADMINS, LOCAL_ADMIN_CHANNEL = ("U0ANN",), "C0ADMIN"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bot works: tokens and address of Slack, or of the local workspace."""

    bot_token: str
    app_token: str
    signing_secret: str
    api_url: str
    admins: tuple[str, ...]
    admin_channel: str
    url: str = ""


@dataclass
class Bot:
    """A running bot."""

    workshop: Workshop
    place: Place
    clock: Clock
    clockwork: Clockwork
    questions: Questions
    duels: Duels
    reports: Reports
    people: People
    workspace: LocalWorkspace | None
    session: aiohttp.ClientSession
    lock: DataLock
    service: SlackService
    warming: asyncio.Task[None] | None = None
    url: str = ""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self) -> None:
        """Finish answers in progress, let go of runs, close everything. Trainers go on."""
        await self.clock.stop()
        await self.clockwork.stop()
        await self.service.stop()
        await self.questions.stop()
        await self.duels.stop()
        await self.reports.stop()
        if self.warming is not None:
            self.warming.cancel()
            await asyncio.gather(self.warming, return_exceptions=True)
        await self.workshop.close()
        await self.session.close()
        if self.workspace is not None:
            await self.workspace.stop()
        self.lock.release()
        self.stopped.set()


async def start(
    settings: Settings,
    *,
    say: Callable[[str], None] = lambda _words: None,
    people: int = 0,
    warm: bool = True,
) -> Bot:
    """Start the bot. `say` hears about long steps; `people` adds simulated ones to the local workspace.

    With `warm` the local model is loaded while people already see the page, else by the first question that needs it.

    Raises PublicError, naming the thing and the remedy, where it cannot start; nothing is left running then.
    """
    lock = DataLock(settings.data_dir)
    if not lock.take():
        raise PublicError(
            f"Another Apprentice is running on {settings.data_dir}. Stop it first, or set DATA_DIR to another folder."
        )
    undo: list[Any] = [_release(lock)]
    try:
        install_rules(settings)
        store = await Store.open(settings.database)
        undo.append(store.close())
        if store.is_embedded:  # nobody else can hold a claim: the lock on the data directory is ours
            await store.release_claims()
            await store.estimate_abandoned(now())
        workspace = await _local_workspace(settings, people)
        if workspace is not None:
            undo.append(workspace.stop())
        place = _place(settings, workspace)
        access = Access(tell=say)
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), middlewares=(access.guard,))
        undo.append(session.close())
        client = _client(place, session)
        identity = await identity_of(client)
        await _remember_team(store, identity.team)
        await install_names(store, identity.team)
        parts = _Parts(settings, place, identity, client, session, access)
        bot = await _build(parts, store, workspace, lock)
        await bot.service.start()
    except BaseException:
        for step in reversed(undo):
            await step
        raise
    for step in undo:
        step.close()
    await bot.clock.start()
    bot.url = place.url
    if warm and has_local_model(settings):
        bot.warming = asyncio.create_task(_warm(bot.workshop, say))
    return bot


async def _release(lock: DataLock) -> None:
    lock.release()


async def _local_workspace(settings: Settings, people: int) -> LocalWorkspace | None:
    if settings.on_slack or settings.slack_api_url:
        return None
    forget_proxies()
    workspace = LocalWorkspace(
        port=settings.workspace_port,
        state_file=settings.data_dir / "workspace.sqlite",
        extra_people=people,
        manifest=read_manifest(MANIFEST),
    )
    await workspace.start()
    return workspace


def _place(settings: Settings, workspace: LocalWorkspace | None) -> Place:
    secret = settings.slack_signing_secret
    if settings.slack_bot_token is not None:
        return Place(
            bot_token=settings.slack_bot_token.get_secret_value(),
            app_token=settings.slack_app_token.get_secret_value() if settings.slack_app_token else "",
            signing_secret=secret.get_secret_value() if secret else "",
            api_url=settings.slack_api_url or AsyncWebClient.BASE_URL,
            admins=settings.admin_users,
            admin_channel=settings.admin_channel,
        )
    forget_proxies()
    base = workspace.url if workspace is not None else settings.slack_api_url.rstrip("/").removesuffix("/api")
    return Place(
        bot_token=BOT_TOKEN,
        app_token=APP_TOKEN,
        signing_secret="",
        api_url=f"{base}/api/",
        admins=settings.admin_users or LOCAL_ADMINS,
        admin_channel=settings.admin_channel or LOCAL_ADMIN_CHANNEL,
        url=base,
    )


def _client(place: Place, session: aiohttp.ClientSession) -> AsyncWebClient:
    url = place.api_url if place.api_url.endswith("/") else place.api_url + "/"
    return AsyncWebClient(
        token=place.bot_token,
        base_url=url,
        session=session,
        retry_handlers=retry_handlers(),
    )


async def who_we_are(settings: Settings) -> Identity:
    """Ask real Slack which workspace the tokens belong to, without starting a bot. Raises PublicError where it refuses."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        return await identity_of(_client(_place(settings, None), session))


async def _remember_team(store: Store, team: str) -> None:
    if await store.keepsake(TEAM, lambda: team) != team:
        await store.change_keepsake(TEAM, team)


async def lost_access(store: Store) -> str:
    """Why Slack did not let the last bot on this database in, with the remedy; "" where it did."""
    lost = await access_lost(store)
    return lost.words() if lost is not None else ""


async def team_of(store: Store) -> str:
    """The workspace that the terminal speaks for: the one served last."""
    return await store.keepsake(TEAM, lambda: LOCAL_TEAM)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What everything in front of Slack is built from."""

    settings: Settings
    place: Place
    identity: Identity
    client: AsyncWebClient
    session: aiohttp.ClientSession
    access: Access


async def _build(parts: _Parts, store: Store, workspace: LocalWorkspace | None, lock: DataLock) -> Bot:
    settings, place, identity, client = parts.settings, parts.place, parts.identity, parts.client
    reports = Reports(store, client, _report_rules(settings, place, identity))
    shop = await Workshop.open(
        settings, store, team=identity.team, report_run=reports.run, report_evaluation=reports.evaluation
    )
    duels = _duels(settings, shop, client, identity)
    questions = _questions(parts, shop, duels)
    clockwork = _clockwork(parts, shop, reports, duels, questions)
    clock = await clockwork.clock()
    people = People.build(
        store,
        client,
        shop.privacy,
        _home_rules(settings, place, identity),
        bot_user=identity.bot_user,
        remember=shop.remember,
    )
    admin = _admin(parts, shop, reports, clock, clockwork)
    clockwork.notes = notes = AdminNotes.build(
        store,
        client,
        shop.privacy,
        admin.decisions,
        team=identity.team,
        channel=place.admin_channel,
        admins=place.admins,
        on_slack=settings.on_slack,
    )
    canaries = CanaryReports(store, reports, shop.canaries, admin.decisions, admins=place.admins)
    shop.canaries.teller = canaries
    app = _bolt(place, client)
    unclaimed.listen(app)
    hear(app, questions)
    people.listen(app)
    clockwork.members.listen(app)
    clockwork.guards.listen(app)
    notes.listen(app)
    canaries.listen(app)
    listen(app, questions=questions, admin=admin)
    duels.listen(app)
    parts.access.listen(app, team=identity.team, bot_user=identity.bot_user)
    service = _service(parts, app, shop, questions)
    admin.trouble = service.trouble
    reports.figures = shop.figures
    return Bot(
        workshop=shop,
        place=place,
        clock=clock,
        clockwork=clockwork,
        questions=questions,
        duels=duels,
        reports=reports,
        people=people,
        workspace=workspace,
        session=parts.session,
        lock=lock,
        service=service,
    )


def _clockwork(
    parts: _Parts, shop: Workshop, reports: Reports, duels: Duels, questions: Questions
) -> Clockwork:
    store, client, team, place = shop.store, parts.client, parts.identity.team, parts.place
    channel, timezone = place.admin_channel, parts.settings.timezone
    return Clockwork(
        shop=shop,
        questions=questions,
        duels=duels,
        reports=reports,
        notices=BudgetNotices(store, client, shop.ledger, team=team, channel=channel),
        shutdowns=Shutdowns(
            store, client, shop.apis, team=team, channel=channel, served=shop.serving.tuned_models
        ),
        tuning=TuningNotices(shop, client, channel=channel),
        members=Members(store, client, team=team),
        restriking=Restriking(store),
        digests=Digests(store, client, shop.figures, team=team, channel=channel, timezone=timezone),
        distils=Distils(store, client, shop.distilling, team=team, channel=channel),
        guards=Guards(store, client, team=team, channel=channel, admins=place.admins),
        access=parts.access,
    )


def _admin(parts: _Parts, shop: Workshop, reports: Reports, clock: Clock, clockwork: Clockwork) -> Admin:
    return Admin(
        shop.store,
        runs=shop.runs,
        evaluations=shop.evaluations,
        contenders=shop.contenders,
        serving=shop.serving,
        reports=reports,
        clock=clock,
        rules=_admin_rules(parts.settings, parts.place, parts.identity),
        ledger=shop.ledger,
        figures=shop.figures,
        guards=clockwork.guards,
        digests=clockwork.digests,
        distils=clockwork.distils,
        canaries=shop.canaries,
    )


def _questions(parts: _Parts, shop: Workshop, duels: Duels) -> Questions:
    settings, identity = parts.settings, parts.identity
    answering = Answering(
        shop.store,
        shop.desk,
        parts.client,
        team=identity.team,
        bot_user=identity.bot_user,
        deadline_s=settings.answer_deadline_s,
        duels=duels,
        solicitor=Solicitor(
            shop.store,
            parts.client,
            team=identity.team,
            rate=settings.solicit_rate,
            timezone=settings.timezone,
        ),
    )
    return Questions(
        shop.store,
        answering,
        team=identity.team,
        bot_user=identity.bot_user,
        late_limit_s=settings.late_answer_limit_s,
    )


def _bolt(place: Place, client: AsyncWebClient) -> AsyncApp:
    return AsyncApp(
        client=client,
        signing_secret=place.signing_secret or "not used in Socket Mode",
        request_verification_enabled=bool(place.signing_secret),
        raise_error_for_unhandled_request=True,
    )


def _service(parts: _Parts, app: AsyncApp, shop: Workshop, questions: Questions) -> SlackService:
    catch_up = CatchUp(
        shop.store,
        parts.client,
        team=parts.identity.team,
        bot_user=parts.identity.bot_user,
        late_limit_s=parts.settings.late_answer_limit_s,
        take=questions.take,
    )
    receiver = _receiver(app, parts.settings, parts.place, shop, parts.access, catch_up)
    return SlackService(shop.store, parts.client, receiver=receiver, access=parts.access, catch_up=catch_up)


def _duels(settings: Settings, shop: Workshop, client: AsyncWebClient, identity: Identity) -> Duels:
    dueling = Dueling(
        shop.store,
        shop.desk,
        serving=shop.serving,
        memory=shop.memory,
        deadline_s=settings.answer_deadline_s,
    )
    rules = DuelRules(votes=settings.duel_votes, hours=settings.duel_hours)
    return Duels(shop.store, dueling, client, team=identity.team, rules=rules)


def _home_rules(settings: Settings, place: Place, identity: Identity) -> HomeRules:
    return HomeRules(
        team=identity.team,
        admins=place.admins,
        base_label=settings.base_label,
        policy=settings.answer_policy.value,
        policies=tuple(policy.value for policy in Policy),
        budgets=Budgets.of(settings),
        timezone=settings.timezone,
    )


def _report_rules(settings: Settings, place: Place, identity: Identity) -> ReportRules:
    return ReportRules(
        team=identity.team,
        channel=place.admin_channel,
        base_label=settings.base_label,
        admins=place.admins,
        approvals=settings.promotion_approvals,
    )


def _admin_rules(settings: Settings, place: Place, identity: Identity) -> AdminRules:
    return AdminRules(
        team=identity.team,
        admins=place.admins,
        policy=settings.answer_policy.value,
        base_label=settings.base_label,
        timezone=settings.timezone,
        approvals=settings.promotion_approvals,
    )


def _receiver(
    app: AsyncApp, settings: Settings, place: Place, shop: Workshop, access: Access, catch_up: CatchUp
) -> Receiver:
    if place.app_token:
        return SocketMode(
            app,
            place.app_token,
            count=settings.socket_connections,
            on_gap=catch_up.after_gap,
            may_call=lambda: access.lost is None or not access.lost.final,
        )
    if not place.signing_secret:
        raise PublicError(
            "SLACK_APP_TOKEN is not set. Create an app-level token (xapp-) for Socket Mode, "
            "or set SLACK_SIGNING_SECRET to receive events over HTTP."
        )

    async def database() -> str:
        await shop.store.database.ping()
        return FINE

    async def slack() -> str:
        return FINE if access.lost is None else access.lost.reason

    async def models() -> str:
        return FINE if shop.apis or has_local_model(shop.settings) or len(shop.memory) else DOWN

    parts = {"database": database, "slack": slack, "models": models}
    return HttpMode(
        app,
        port=settings.http_port,
        signing_secret=place.signing_secret,
        parts=parts,
        vital=frozenset(parts),
    )


async def _warm(shop: Workshop, say: Callable[[str], None]) -> None:
    """Load the local model while people already see the page."""
    try:
        info = await shop.engine.start()
        await shop.serving.local()
        say(f"The local model is ready: {shop.engine.label} on {info.device} ({info.dtype}).")
    except ModelUnavailable as error:
        say(f"The local model cannot answer: {error}")
