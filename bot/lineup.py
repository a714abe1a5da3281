"""Who answers, by the settings: the local model's engine, the API models, and what measures meaning for memory.

Nothing is loaded and no network is touched here.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from bot.errors import PublicError
from bot.models import AnswerModel, Meter
from bot.models.engine import Engine
from bot.models.files import FileShelf
from bot.models.gemini_files import GeminiFiles
from bot.models.local import LocalEngine
from bot.models.memory_meaning import OPENAI_URL, Embedder, EmbeddingModel, Meaning
from bot.models.openai_files import OpenAIFiles
from bot.models.prices import Prices
from bot.models.remote import RemoteEngine
from bot.models.remote_text import AdapterFolder
from bot.settings import Settings
from storage.store import Store


def has_local_extra() -> bool:
    """Whether the packages of the local model are installed (without importing them)."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers", "peft"))


def has_local_model(settings: Settings) -> bool:
    """Whether there is a local model to ask: its packages are here, or a server runs it."""
    return settings.on_a_server or has_local_extra()


def api_models(settings: Settings) -> dict[str, AnswerModel]:
    """The API models that are configured, by kind. Raises `PublicError` where the file of prices cannot be used."""
    return {kind: api_model(settings, kind) for kind in configured_apis(settings)}


def configured_apis(settings: Settings) -> list[str]:
    """The kinds of API models that there are keys or addresses for."""
    openai = settings.openai_api_key is not None or bool(settings.openai_base_url)
    gemini = settings.gemini_api_key is not None or bool(settings.gemini_vertex_project)
    return [kind for kind, there in (("openai", openai), ("gemini", gemini)) if there]


def api_model(settings: Settings, kind: str, name: str = "") -> AnswerModel:
    """One API model; `name` is another than the settings', such as a fine-tune's.

    Raises `PublicError` where its key is missing or the file of prices cannot be used.
    """
    if kind not in configured_apis(settings):
        raise PublicError(f"No {kind} model can be asked: {MISSING_KEYS[kind]}.")
    prices = Prices.chosen(settings.prices_file)
    if kind == "openai":
        from bot.models.openai import OpenAIModel

        key = settings.openai_api_key
        return OpenAIModel(
            api_key=key.get_secret_value() if key else "none",
            model=name or settings.openai_model,
            base_url=settings.openai_base_url or None,
            timeout_s=settings.api_timeout_s,
            max_output_tokens=settings.api_max_output_tokens,
            reasoning_effort=settings.openai_reasoning_effort,
            prices=prices,
        )
    from bot.models.gemini import GeminiModel

    key = settings.gemini_api_key
    return GeminiModel(
        api_key=key.get_secret_value() if key else "",
        project=settings.gemini_vertex_project,
        location=region_of(name) or settings.gemini_vertex_location,
        model=name or settings.gemini_model,
        base_url=settings.gemini_base_url or None,
        timeout_s=settings.api_timeout_s,
        max_output_tokens=settings.api_max_output_tokens,
        prices=prices,
    )


def region_of(model: str) -> str:
    """Where a tuned model's endpoint stands ("projects/P/locations/europe-west4/endpoints/1"): only there it can be asked.

    "" for any other name.
    """
    parts = model.split("/")
    return parts[3] if len(parts) == 6 and parts[::2] == ["projects", "locations", "endpoints"] else ""


MISSING_KEYS = {
    "openai": "set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own",
    "gemini": "set GEMINI_API_KEY, or GEMINI_VERTEX_PROJECT",
}


def file_shelves(settings: Settings) -> dict[str, FileShelf]:
    """Where files of ours may lie that a forgetting has to delete, by provider."""
    shelves: dict[str, FileShelf] = {}
    if settings.openai_api_key is not None:
        key, url = settings.openai_api_key.get_secret_value(), settings.openai_base_url or None
        shelves["openai"] = OpenAIFiles(api_key=key, base_url=url, timeout_s=settings.api_timeout_s)
    if settings.gemini_vertex_project:
        shelves["gemini"] = GeminiFiles(timeout_s=settings.api_timeout_s)
    return shelves


def meaning_of(settings: Settings, store: Store, team: str, folder: Path, meter: Meter) -> Meaning | None:
    """None where the operator named no model for embeddings. Raises `PublicError` where it cannot be used.

    `meter` watches what it costs to measure verified answers.
    """
    if not settings.memory_embeddings:
        return None
    if importlib.util.find_spec("usearch") is None:
        raise PublicError(
            "MEMORY_EMBEDDINGS needs a package that is not installed. Install it: pip install -e '.[embeddings]'."
        )
    of_its_own = bool(settings.memory_embeddings_url)
    key = settings.memory_embeddings_key if of_its_own else settings.openai_api_key
    url = settings.memory_embeddings_url or settings.openai_base_url or OPENAI_URL
    model = EmbeddingModel(
        settings.memory_embeddings, url, key.get_secret_value() if key else "", settings.api_timeout_s
    )
    embedder = Embedder(model, Prices.chosen(settings.prices_file))
    return Meaning(store, embedder, team=team, folder=folder, meter=meter)


def engine_of(settings: Settings) -> Engine:
    """A process of ours, or a server."""
    return server_engine(settings) if settings.on_a_server else local_engine(settings)


def local_engine(settings: Settings) -> LocalEngine:
    """The model in a process of ours."""
    return LocalEngine(
        model=settings.base_model,
        label=settings.base_label,
        max_new_tokens=settings.local_max_new_tokens,
        allow_downloads=settings.allow_downloads and not settings.with_starter,
        log_file=settings.data_dir / "local-model.log",
        precision=settings.local_precision,
        verdicts=settings.data_dir / "local-precision.json",
    )


def server_engine(settings: Settings) -> RemoteEngine:
    """The model on the server of LOCAL_ENGINE_URL, which sees our adapters at LOCAL_ADAPTERS_PATH."""
    models = settings.data_dir.resolve() / "models"
    key = settings.local_engine_key
    return RemoteEngine(
        url=settings.local_engine_url,
        model=settings.local_model,
        label=settings.base_label,
        key=key.get_secret_value() if key else None,
        max_new_tokens=settings.local_max_new_tokens,
        timeout_s=settings.api_timeout_s,
        adapters=AdapterFolder(models, settings.local_adapters_path or str(models)),
    )


def usual_cost(settings: Settings) -> Callable[[str], float]:
    """What one answer costs by the table of prices, until there are bills: a question with examples, a short answer."""
    prices = Prices.chosen(settings.prices_file)
    models = {"openai": settings.openai_model, "gemini": settings.gemini_model}
    return lambda kind: prices.cost(models[kind], 1000, 0, 250) or 0.0
