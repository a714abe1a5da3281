"""Where runs may be trained, and which of it is available: one answer for the doctor, the channel and the nightly run."""

from collections.abc import Mapping
from dataclasses import dataclass

from bot.models.openai_parameters import is_azure
from bot.settings import Settings, child_environment
from bot.train_options import PLACES
from storage.store import Store
from training.finetuners import FineTuner, Standing
from training.finetuners.gemini import GEMINI, GeminiFineTuner, GeminiTuning
from training.finetuners.local import LocalFineTuner
from training.finetuners.openai import OPENAI, OpenAIFineTuner, OpenAITuning
from training.finetuners.provider import ProviderFineTuner
from training.finetuners.ray import RAY, Cluster, RayFineTuner

LOCAL = "local"
NAMES: Mapping[str, str] = {LOCAL: "this machine", OPENAI: "OpenAI", GEMINI: "Gemini", RAY: "Ray"}
NOT_SET_UP: Mapping[str, Standing] = {
    OPENAI: Standing("OPENAI_API_KEY is not set.", "it is"),
    GEMINI: Standing(
        "GEMINI_VERTEX_PROJECT is not set. Gemini is trained on Vertex AI only; a key of AI Studio is not enough.",
        "GEMINI_VERTEX_PROJECT is set",
    ),
    RAY: Standing("RAY_ADDRESS is not set.", "it is"),
}


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether runs can be trained at a place. `wanted`: the operator's settings name it, so its loss is news."""

    place: str
    standing: Standing
    wanted: bool

    @property
    def name(self) -> str:
        """As people call the place."""
        return NAMES.get(self.place, self.place)

    @property
    def available(self) -> bool:
        """Whether a run would be taken, as far as is known."""
        return not self.standing.because

    @property
    def words(self) -> str:
        """As people read it, after the place's name."""
        because, until = self.standing.because, self.standing.until
        if because:
            return f"not available, because: {because}" + (f" That lasts until {until}." if until else "")
        return f"available until {until}." if until else "available."


def finetuners(settings: Settings, store: Store, team: str) -> dict[str, FineTuner]:
    """Who can train: this machine, and OpenAI, Google and Ray where there is a key, a project and a cluster."""
    found: dict[str, FineTuner] = {
        LOCAL: LocalFineTuner(
            environment=child_environment(),
            memory_mb=settings.train_memory_mb,
            processes=settings.train_processes,
        )
    }
    if settings.openai_api_key is not None:
        found[OPENAI] = OpenAIFineTuner(store, team=team, rules=_openai(settings))
    if settings.gemini_vertex_project:
        found[GEMINI] = GeminiFineTuner(store, team=team, rules=_gemini(settings))
    if settings.ray_address:
        found[RAY] = RayFineTuner(ray_cluster(settings), home=settings.data_dir.resolve() / "runs")
    return found


async def capabilities(settings: Settings, places: Mapping[str, FineTuner]) -> list[Capability]:
    """Of each place that `with=` knows. Nobody is asked for it: settings, dates and what was refused before say it."""
    wanted = {
        settings.train_with,
        OPENAI if settings.train_openai_model else "",
        GEMINI if settings.train_gemini_model else "",
    }
    return [Capability(place, await _standing(place, places.get(place)), place in wanted) for place in PLACES]


async def _standing(place: str, finetuner: FineTuner | None) -> Standing:
    if finetuner is None:
        return NOT_SET_UP.get(place, Standing(f"with={place} is not set up here."))
    if isinstance(finetuner, ProviderFineTuner):
        return await finetuner.standing()
    return Standing(await finetuner.available())


def _openai(settings: Settings) -> OpenAITuning:
    assert settings.openai_api_key is not None
    return OpenAITuning(
        api_key=settings.openai_api_key.get_secret_value(),
        model=settings.train_openai_model,
        base_url=settings.openai_base_url or None,
        azure=is_azure(settings.openai_base_url),
        usd_per_1m=settings.train_usd_per_1m,
        confirm_usd=settings.train_confirm_usd,
        budget=_has_budget(settings),
        timeout_s=settings.api_timeout_s,
    )


def _gemini(settings: Settings) -> GeminiTuning:
    return GeminiTuning(
        project=settings.gemini_vertex_project,
        location=settings.train_gemini_location or settings.gemini_vertex_location,
        bucket=settings.train_gemini_bucket,
        model=settings.train_gemini_model,
        base_url=settings.gemini_base_url or None,
        usd_per_1m=settings.train_gemini_usd_per_1m,
        confirm_usd=settings.train_confirm_usd,
        budget=_has_budget(settings),
        timeout_s=settings.api_timeout_s,
    )


def ray_cluster(settings: Settings) -> Cluster:
    """The cluster of the settings."""
    return Cluster(
        address=settings.ray_address,
        token=settings.ray_token.get_secret_value() if settings.ray_token else "",
        storage=settings.ray_storage,
        workers=settings.ray_workers,
        gpus_per_worker=settings.ray_gpus_per_worker,
        python=settings.ray_python,
        timeout_s=settings.api_timeout_s,
    )


def _has_budget(settings: Settings) -> bool:
    return settings.budget_day_usd is not None or settings.budget_month_usd is not None
