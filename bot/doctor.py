"""What is configured, what is missing, what is used instead, and the remedy: one plain sentence each.

It looks and changes nothing; it calls nobody outside this machine unless it is asked to (`online`). It never shows a
secret: of a key it says that it is set, and of a token what it should begin with.
"""

import asyncio
import importlib.util
import platform
import re
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from bot.doctor_apis import EITHER_KEY, NAMES, api_findings, has_api, tuning_findings
from bot.doctor_privacy import kept_and_forgotten, legal_basis
from bot.errors import ModelUnavailable, PublicError
from bot.findings import Finding, Mark
from bot.logs import struck_out
from bot.settings import Policy, Settings

if TYPE_CHECKING:
    from bot.models import AnswerModel
    from storage.store import Store

GB = 1024**3
LITTLE_DISK, NO_DISK = 2 * GB, GB // 4
LOCAL_EXTRA = "pip install -e '.[local]'"
PERSON, CHANNEL = re.compile(r"[UW][A-Z0-9]{2,}"), re.compile(r"[CG][A-Z0-9]{2,}")


async def examine(read: Callable[[], Settings], *, online: bool = False) -> list[Finding]:
    """Look at everything. `read` reads the settings; where it cannot, that is the last finding."""
    found = [python()]
    try:
        settings = read()
    except PublicError as error:
        return [*found, Finding(Mark.PROBLEM, "settings", _one_line(str(error)))]
    database = await _database(settings)
    found += [_settings(settings), _data_dir(settings), _disk(settings), database]
    found += [*_configuration(settings), *api_findings(settings), _port(settings)]
    found += [finding async for finding in _installation(settings, database)]
    if online:
        found += [finding async for finding in _online(settings)]
    return found


def missing(settings: Settings) -> list[Finding]:
    """What is worth a line when the bot starts."""
    schedule = _schedule(settings.train_cron, settings.timezone, enabled=True)
    return [finding for finding in [*_configuration(settings), schedule] if finding.mark is not Mark.OK]


def _configuration(settings: Settings) -> list[Finding]:
    return [*_slack(settings), _local_model(settings), _policy(settings), _quantization(settings)]


def python() -> Finding:
    """The interpreter that runs this."""
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(Mark.OK, "python", f"{found}.")


def _settings(settings: Settings) -> Finding:
    named = sorted(name.upper() for name in settings.model_fields_set)
    if not named:
        words = "nothing is set, so the embedded defaults are used. Copy .env.example to .env to change them."
        return Finding(Mark.NOTE, "settings", words)
    return Finding(Mark.OK, "settings", f"set are {', '.join(named)}; the rest has its default.")


def _data_dir(settings: Settings) -> Finding:
    folder = settings.data_dir
    there = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        words = f"{folder} cannot be written ({error.strerror}). Correct its permissions, or set DATA_DIR."
        return Finding(Mark.PROBLEM, "data directory", words)
    if there != folder.absolute():
        return Finding(Mark.OK, "data directory", f"{folder} is made at the first start.")
    return Finding(Mark.OK, "data directory", f"{folder} can be written.")


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(_nearest(settings.data_dir)).free
    words = f"{free / GB:.1f} GB are free"
    if free < NO_DISK:
        return Finding(Mark.PROBLEM, "disk", f"{words}; a training run needs more. Free some space.")
    if free < LITTLE_DISK:
        return Finding(Mark.NOTE, "disk", f"{words}; that is little for adapters and checkpoints.")
    return Finding(Mark.OK, "disk", f"{words}.")


def _nearest(folder: Path) -> Path:
    """The folder, or the one above it that is there."""
    whole = folder.absolute()
    return next(each for each in [whole, *whole.parents] if each.exists())


async def _database(settings: Settings) -> Finding:
    from storage.database import Database, sqlite_file
    from storage.migrate import is_current

    try:
        file = sqlite_file(settings.database)
        if file is not None and not file.exists():
            return Finding(Mark.OK, "database", f"SQLite; {file} is made at the first start.")
        database = Database(settings.database)
        try:
            await database.ping()
            current = await is_current(database)
        finally:
            await database.close()
    except PublicError as error:
        return Finding(Mark.PROBLEM, "database", _one_line(str(error)))
    shown = f"SQLite, {file}" if file is not None else f"PostgreSQL, {database.engine.url}"
    if not current:
        return Finding(
            Mark.NOTE, "database", f"{shown}; its tables are brought up to date at the next start."
        )
    return Finding(Mark.OK, "database", f"{shown}; reachable and up to date.")


def _slack(settings: Settings) -> Iterator[Finding]:
    if not settings.on_slack:
        yield from _local_workspace(settings)
        return
    yield _token("SLACK_BOT_TOKEN", settings.slack_bot_token, "xoxb-", "OAuth & Permissions")
    yield _mode(settings)
    yield _admins(settings)
    yield _admin_channel(settings)


def _local_workspace(settings: Settings) -> Iterator[Finding]:
    if settings.slack_app_token or settings.slack_signing_secret:
        words = (
            "SLACK_BOT_TOKEN is not set, so the local workspace is used although other Slack settings are there. "
            "Create it under OAuth & Permissions; it starts with xoxb-."
        )
        yield Finding(Mark.PROBLEM, "Slack", words)
        return
    words = "no tokens, so the local workspace in your browser is used. Set SLACK_BOT_TOKEN and SLACK_APP_TOKEN for Slack."
    yield Finding(Mark.NOTE, "Slack", words)


def _token(name: str, secret: SecretStr | None, prefix: str, where: str) -> Finding:
    if secret is None or not secret.get_secret_value().startswith(prefix):
        words = f"{name} does not start with {prefix}. Copy it again from {where}."
        return Finding(Mark.PROBLEM, "Slack", words)
    return Finding(Mark.OK, "Slack", f"{name} is set.")


def _mode(settings: Settings) -> Finding:
    if settings.slack_app_token is not None:
        shape = _token(
            "SLACK_APP_TOKEN", settings.slack_app_token, "xapp-", "Basic Information, App-Level Tokens"
        )
        return (
            shape
            if shape.mark is not Mark.OK
            else Finding(Mark.OK, "Slack", "Socket Mode: SLACK_APP_TOKEN is set.")
        )
    if settings.slack_signing_secret is not None:
        words = f"HTTP mode: Slack must reach port {settings.http_port} at /slack/events."
        return Finding(Mark.OK, "Slack", words)
    words = (
        "neither SLACK_APP_TOKEN nor SLACK_SIGNING_SECRET is set, so nothing can reach the bot. Create an app-level token "
        "(xapp-) for Socket Mode, or set the signing secret for HTTP."
    )
    return Finding(Mark.PROBLEM, "Slack", words)


def _admins(settings: Settings) -> Finding:
    wrong = [user for user in settings.admin_users if not PERSON.fullmatch(user)]
    if wrong:
        words = f"ADMIN_USERS holds {wrong[0]!r}, which is no user id; one looks like U012ABCDEF (profile, Copy member ID)."
        return Finding(Mark.PROBLEM, "admins", words)
    if not settings.admin_users:
        words = "ADMIN_USERS is not set, so nobody can use /train in Slack. Set it to user ids such as U012ABCDEF."
        return Finding(Mark.NOTE, "admins", words)
    return Finding(Mark.OK, "admins", f"{len(settings.admin_users)} in ADMIN_USERS.")


def _admin_channel(settings: Settings) -> Finding:
    if not settings.admin_channel:
        words = "ADMIN_CHANNEL is not set, so reports are only in the log. Set it to a channel id such as C012ABCDEF."
        return Finding(Mark.NOTE, "admin channel", words)
    if not CHANNEL.fullmatch(settings.admin_channel):
        words = (
            f"ADMIN_CHANNEL is {settings.admin_channel!r}, which is no channel id; one looks like C012ABCDEF."
        )
        return Finding(Mark.PROBLEM, "admin channel", words)
    return Finding(Mark.OK, "admin channel", f"reports go to {settings.admin_channel}.")


def _local_model(settings: Settings) -> Finding:
    from bot.lineup import has_local_extra

    if settings.on_a_server:
        return _served_model(settings)
    if not has_local_extra():
        words = (
            f"its packages are not installed, so memory and APIs answer alone. Install them: {LOCAL_EXTRA}"
        )
        return Finding(Mark.NOTE, "local model", words)
    if settings.with_starter:
        words = (
            f"the starter, a demo model that shows the loop and knows little, {_device()}. "
            "Set LOCAL_MODEL to a causal language model of Hugging Face, id or folder."
        )
        return Finding(Mark.NOTE, "local model", words)
    return _chosen_model(settings)


def _served_model(settings: Settings) -> Finding:
    where, base = struck_out(settings.local_engine_url), settings.base_to_train
    words = f"{settings.local_model}, served at {where}; --online asks it."
    if not Path(base).is_dir() and base.count("/") != 1:
        words += f" Training cannot start from {base}: set TRAIN_BASE_MODEL to the id or folder of what the server has."
        return Finding(Mark.NOTE, "local model", words)
    return Finding(Mark.OK, "local model", f"{words} Training starts from {base}.")


def _chosen_model(settings: Settings) -> Finding:
    name, folder = settings.local_model, Path(settings.local_model)
    if not folder.exists() and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        words = (
            f"LOCAL_MODEL={name}: there is no such folder. Write its whole path, or an id such as owner/name."
        )
        return Finding(Mark.PROBLEM, "local model", words)
    if not folder.exists():
        if settings.allow_downloads:
            words = f"{name} of Hugging Face, downloaded at the first question if it is not here yet, {_device()}."
            return Finding(Mark.OK, "local model", words)
        words = f"{name} must be in Hugging Face's cache already, because ALLOW_DOWNLOADS is off; --online tries it."
        return Finding(Mark.NOTE, "local model", words)
    if not (folder / "config.json").exists() or not any(folder.glob("*.safetensors")):
        words = f"LOCAL_MODEL={name} needs config.json and *.safetensors; other weights are not loaded. Convert them first."
        return Finding(Mark.PROBLEM, "local model", words)
    return Finding(Mark.OK, "local model", f"{name}, {_device()}.")


def _device() -> str:
    """Where it will probably run, told without loading torch."""
    if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        return "probably on the GPU in bfloat16, or in 4 bits where that is too large"
    return "probably on the processor, in float32 or in what is faster and holds up (see LOCAL_PRECISION)"


def _policy(settings: Settings) -> Finding:
    from bot.lineup import has_local_model

    policy, local, api = settings.answer_policy, has_local_model(settings), has_api(settings)
    if not local and (policy is Policy.LOCAL_ONLY or not api):
        words = f"{policy} leaves nobody but memory to answer. Install the local model ({LOCAL_EXTRA}) or set an API key."
        return Finding(Mark.PROBLEM, "policy", words)
    if not api and policy in {Policy.API_FIRST, Policy.BOTH}:
        words = f"{policy} needs an API model and no key is set, so the local model answers alone. Set {EITHER_KEY}."
        return Finding(Mark.PROBLEM, "policy", words)
    instead = "" if api or policy is Policy.LOCAL_ONLY else "; no API is asked, because no key is set"
    return Finding(Mark.OK, "policy", f"{policy}{instead}.")


def _quantization(settings: Settings) -> Finding:
    from bot.lineup import has_local_extra

    if settings.train_quantization == "none":
        return Finding(Mark.OK, "training", "LoRA without quantisation (TRAIN_QUANTIZATION=none).")
    if importlib.util.find_spec("bitsandbytes") is None:
        words = (
            f"4-bit training needs bitsandbytes. Install it ({LOCAL_EXTRA}) or set TRAIN_QUANTIZATION=none."
        )
        return Finding(Mark.PROBLEM if has_local_extra() else Mark.NOTE, "training", words)
    return Finding(Mark.OK, "training", "QLoRA in 4 bits with bitsandbytes.")


def _port(settings: Settings) -> Finding:
    from bot.workshop import DataLock

    name, port, host = "WORKSPACE_PORT", settings.workspace_port, "127.0.0.1"
    if settings.on_slack:
        if settings.slack_app_token is not None:
            return Finding(Mark.OK, "port", "none is needed in Socket Mode.")
        name, port, host = "HTTP_PORT", settings.http_port, ""
    if settings.data_dir.exists():
        lock = DataLock(settings.data_dir)
        if not lock.take():
            return Finding(Mark.OK, "port", f"an Apprentice is running on {settings.data_dir} now.")
        lock.release()
    try:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as error:
        words = (
            f"{name}={port} cannot be opened ({error.strerror}). Set another one, or stop the other program."
        )
        return Finding(Mark.PROBLEM, "port", words)
    return Finding(Mark.OK, "port", f"{port} is free." if port else "the system chooses one.")


async def _installation(settings: Settings, database: Finding) -> AsyncIterator[Finding]:
    """What the database knows; nothing where it was not made yet."""
    if not database.words.endswith("up to date.") or database.mark is not Mark.OK:
        yield _schedule(settings.train_cron, settings.timezone, enabled=True)
        return
    from bot.app import lost_access
    from bot.workshop import LOCAL_TEAM, TEAM
    from storage.store import Store

    store = await Store.open(settings.database)
    try:
        team = await store.keepsake(TEAM, lambda: LOCAL_TEAM)
        if lost := await lost_access(store):
            yield Finding(Mark.PROBLEM, "Slack access", lost)
        row = await store.schedule(team, "train")
        if row is None:
            yield _schedule(settings.train_cron, settings.timezone, enabled=True)
        else:
            yield _schedule(row.cron, row.timezone, enabled=row.enabled)
        entries = (await store.tally(team)).entries
        yield Finding(Mark.OK, "memory", f"{entries:,} verified answers.")
        for finding in await tuning_findings(settings, store, team):
            yield finding
        yield await legal_basis(store, team, settings)
        for finding in await kept_and_forgotten(store, team):
            yield finding
        router = await store.router(team)
        who = (
            f"fitted on {router.labels:,} rated answers"
            if router
            else "none yet, a cautious threshold decides"
        )
        yield Finding(Mark.OK, "router", f"{who}.")
        for finding in await _models(store, team, settings):
            yield finding
        yield await _datasets(store, team)
    finally:
        await store.close()


def _schedule(cron: str, timezone: str, *, enabled: bool) -> Finding:
    from bot.schedule import Cron, describe, next_times, parse_schedule
    from storage.records import now

    if not enabled or not cron:
        return Finding(Mark.OK, "schedule", "training happens only when somebody asks for it.")
    try:
        parse_schedule(cron, timezone)
        following = next_times(Cron(cron), timezone, now(), 1)
    except PublicError as error:
        return Finding(Mark.PROBLEM, "schedule", f"TRAIN_CRON: {_one_line(str(error))}")
    when = f", next {following[0]:%a %d %b %H:%M}" if following else ""
    return Finding(Mark.OK, "schedule", f"training {describe(Cron(cron), timezone)}{when}.")


async def _datasets(store: "Store", team: str) -> Finding:
    """Whether every frozen dataset is what it was; one whose folder is gone was deleted by somebody."""
    from training.datasets import verify

    rows = [row for row in await store.datasets() if row.team in {"", team}]
    there = [row for row in rows if await asyncio.to_thread(Path(row.path).is_dir)]
    for row in there:
        if wrong := await asyncio.to_thread(verify, Path(row.path)):
            words = f"{row.id[:12]}: {wrong[0]}. Restore {row.path}, or `apprentice train` freezes a new one."
            return Finding(Mark.PROBLEM, "datasets", words)
    return Finding(Mark.OK, "datasets", f"{len(there)} frozen, each as it was frozen.")


async def _models(store: "Store", team: str, settings: Settings) -> list[Finding]:
    current = await store.current(team)
    tainted = [version for version in await store.models(team) if version.tainted]
    name = current.name if current else "base"
    found = [Finding(Mark.OK, "current model", f"{settings.base_label}{f' + {name}' if current else ''}.")]
    if current is not None and not await asyncio.to_thread(Path(current.path).is_dir):
        words = f"{name} serves and its folder {current.path} is gone. Restore it, or `apprentice rollback`."
        found = [Finding(Mark.PROBLEM, "current model", words)]
    if tainted:
        names = ", ".join(version.name for version in tainted)
        words = (
            f"{names} learned from words that were deleted since. `apprentice train` makes one without them."
        )
        found.append(Finding(Mark.NOTE, "marked models", words))
    return found


async def _online(settings: Settings) -> AsyncIterator[Finding]:
    from bot.lineup import api_models, has_local_extra

    if settings.on_slack:
        yield await _asked_slack(settings)
    models: Mapping[str, AnswerModel] = api_models(settings)
    for kind, model in models.items():
        yield await _asked(NAMES[kind], model)
    if settings.on_a_server:
        yield await _served(settings)
    elif has_local_extra():
        yield await _loaded(settings)


async def _asked_slack(settings: Settings) -> Finding:
    from bot.app import who_we_are

    try:
        identity = await who_we_are(settings)
    except PublicError as error:
        return Finding(Mark.PROBLEM, "Slack online", _one_line(str(error)))
    return Finding(Mark.OK, "Slack online", f"workspace {identity.team}, as {identity.bot_user}.")


async def _asked(name: str, model: Any) -> Finding:
    try:
        said = str(await model.check())
    except (ModelUnavailable, PublicError) as error:
        return Finding(Mark.PROBLEM, f"{name} online", _one_line(str(error)))
    finally:
        await model.close()
    return Finding(Mark.OK, f"{name} online", _one_line(said))


async def _served(settings: Settings) -> Finding:
    from bot.lineup import server_engine

    engine = server_engine(settings)
    try:
        said = await engine.check()
    except (ModelUnavailable, PublicError) as error:
        return Finding(Mark.PROBLEM, "local model online", _one_line(str(error)))
    finally:
        await engine.stop()
    return Finding(Mark.OK, "local model online", _one_line(said))


async def _loaded(settings: Settings) -> Finding:
    from bot.models.local import LocalEngine

    engine = LocalEngine(
        model=settings.base_model,
        label=settings.base_label,
        allow_downloads=settings.allow_downloads and not settings.with_starter,
        precision=settings.local_precision,
        verdicts=settings.data_dir / "local-precision.json",
    )
    try:
        info = await engine.start()
    except ModelUnavailable as error:
        return Finding(Mark.PROBLEM, "local model online", _one_line(str(error)))
    finally:
        await engine.stop()
    words = (
        f"{settings.base_label} runs on {info.device} in {info.dtype} ({info.why}), "
        f"{info.parameters / 1e6:,.1f} million parameters."
    )
    return Finding(Mark.OK, "local model online", words)


def _one_line(words: str) -> str:
    return str(struck_out(" ".join(words.split())))
