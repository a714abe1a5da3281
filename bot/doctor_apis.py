"""What the doctor says of API models, their prices and the budgets. It looks at settings and files, and asks nobody."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from bot.errors import PublicError
from bot.findings import Finding, Mark
from bot.logs import struck_out
from bot.models.prices import Prices
from bot.settings import Settings

if TYPE_CHECKING:
    from storage.store import Store

KEYS = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
EITHER_KEY = " or ".join(KEYS.values())
NAMES = {"openai": "OpenAI", "gemini": "Gemini"}


def has_api(settings: Settings) -> bool:
    """Whether any API model is configured."""
    return any(_configured(settings).values())


def api_findings(settings: Settings) -> Iterator[Finding]:
    """One for each kind of API model, and one for the budgets where there are any."""
    try:
        prices = Prices.chosen(settings.prices_file)
    except PublicError as error:
        yield Finding(Mark.PROBLEM, "prices", str(error))
        return
    for kind, there in _configured(settings).items():
        if there:
            yield _priced(kind, settings, prices)
        else:
            yield Finding(Mark.NOTE, NAMES[kind], f"{KEYS[kind]} is not set, so it is not asked.")
    if limits := _limits(settings):
        yield Finding(Mark.OK, "budget", f"{', '.join(limits)}; no call is made that could pass it.")


async def tuning_findings(settings: Settings, store: "Store", team: str) -> list[Finding]:
    """One for each place where runs may be trained; what the operator's settings name and cannot be had is a problem."""
    from bot.tuning import capabilities, finetuners

    found = []
    for each in await capabilities(settings, finetuners(settings, store, team)):
        lacking = Mark.PROBLEM if each.wanted else Mark.NOTE
        found.append(Finding(Mark.OK if each.available else lacking, f"train on {each.name}", each.words))
    if settings.ray_address:
        found.append(await _ray(settings))
    return found


async def _ray(settings: Settings) -> Finding:
    """The one place to train that is asked: it is the operator's own, and costs nothing."""
    from bot.tuning import ray_cluster
    from training.finetuners import NotYet
    from training.finetuners.ray import RayFineTuner

    cluster = RayFineTuner(replace(ray_cluster(settings), timeout_s=5.0), home=settings.data_dir)
    where = struck_out(settings.ray_address)
    try:
        version = await cluster.version()
    except (NotYet, PublicError) as error:
        return Finding(Mark.PROBLEM, "Ray", f"{struck_out(str(error))} Check RAY_ADDRESS and RAY_TOKEN.")
    finally:
        await cluster.close()
    workers = f"{settings.ray_workers} worker{'s' if settings.ray_workers > 1 else ''}"
    return Finding(Mark.OK, "Ray", f"{where} answers with Ray {version}; {workers} for a run.")


def _configured(settings: Settings) -> dict[str, bool]:
    return {
        "openai": bool(settings.openai_api_key or settings.openai_base_url),
        "gemini": bool(settings.gemini_api_key or settings.gemini_vertex_project),
    }


def _priced(kind: str, settings: Settings, prices: Prices) -> Finding:
    openai = kind == "openai"
    model = settings.openai_model if openai else settings.gemini_model
    where = settings.openai_base_url if openai else settings.gemini_base_url
    at = f" at {struck_out(where)}" if where else ""
    if not openai and settings.gemini_vertex_project:
        at += f" on Vertex AI, project {settings.gemini_vertex_project}"
    if prices.known(model):
        return Finding(Mark.OK, NAMES[kind], f"{model}{at}, with the price of {prices.as_of}.")
    free = openai and settings.openai_free and bool(settings.openai_base_url)
    if _limits(settings) and not free:
        words = (
            f"{model}{at} is not asked: there is a budget and its price is not known. Write the price into a file and name "
            "that in PRICES_FILE."
        )
        return Finding(Mark.PROBLEM, NAMES[kind], words)
    words = f"{model}{at}; no price is known for it, so what it costs is counted as $0."
    return Finding(Mark.OK if where else Mark.NOTE, NAMES[kind], words)


def _limits(settings: Settings) -> list[str]:
    named = {
        "a day": settings.budget_day_usd,
        "a month": settings.budget_month_usd,
        "a month in each channel": settings.budget_channel_month_usd,
    }
    return [f"${most:,.2f} {when}" for when, most in named.items() if most is not None]
