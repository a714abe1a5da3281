"""Fine-tuning of Gemini on Vertex AI: the files go to a bucket, the job reads them there, its endpoint is the model.

The objects' names and the job's labels carry the run's id; a job is found by either before anything is ordered again.
The rest is `provider`'s.
"""

import asyncio
import re
import warnings
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from storage.errors import PublicError
from storage.store import Store
from training.finetuners import Broken, Done, NotYet, Order, Pending, Standing
from training.finetuners.bucket import PREFIX, STORAGE, Buckets, Pass, StorageRefusal, parts
from training.finetuners.provider import Forbidden, NotThere, ProviderFineTuner, Tuning, file_name
from training.finetuners.shipment import DPO, Shipment

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.genai import Client
    from google.genai.types import CreateTuningJobConfig, TuningJob

GEMINI, VERTEX = "gemini", "vertex"
STATE = "JOB_STATE_"
SUCCEEDED = frozenset({"SUCCEEDED", "PARTIALLY_SUCCEEDED"})
FAILED, CANCELLED, EXPIRED = "FAILED", "CANCELLED", "EXPIRED"
WAITING = frozenset({"QUEUED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "UPDATING"})
NO_PROJECT = (
    "Gemini is trained on Vertex AI only, in a Google Cloud project; a key of AI Studio is not enough."
)
NO_REGION = "Name the region in which Vertex AI is to train, such as europe-west4; `global` is none."
NO_BUCKET = "Vertex AI reads examples from a bucket of Cloud Storage: make one in {} and name it there."
NO_MODEL = "Name the model that Google is to train, such as gemini-3.5-flash-lite."
RUN = "apprentice-run"
MOST_JOBS = 5_000
"""More jobs than this are not looked through; nothing is ordered then."""
NO_LONGER_THAN_A_MINUTE = re.compile(r"per.?minute|per.?second", re.IGNORECASE)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiTuning(Tuning):
    """What the operator decided about Vertex AI. `credentials`: None finds those of the machine."""

    project: str
    location: str
    bucket: str
    credentials: "Credentials | None" = field(default=None, repr=False)
    base_url: str | None = None
    storage_url: str = STORAGE


class GeminiFineTuner(ProviderFineTuner[GeminiTuning]):
    """The jobs of one project in one region."""

    provider, vendor, shape = GEMINI, "Google", VERTEX
    price_setting = "TRAIN_GEMINI_USD_PER_1M"

    def __init__(self, store: Store, *, team: str, rules: GeminiTuning) -> None:
        account = f"{rules.project} {rules.location} {rules.bucket} {rules.model}"
        super().__init__(store, team=team, rules=rules, account=account)
        self._pass = Pass(rules.credentials)
        self._buckets = Buckets(self._pass, url=rules.storage_url, timeout_s=rules.timeout_s)
        self._made: Client | None = None

    def _settled(self) -> Standing:
        """A missing project, region, bucket or model."""
        rules = self._rules
        region = rules.location if rules.location != "global" else ""
        lacking = (
            (rules.project, "GEMINI_VERTEX_PROJECT", NO_PROJECT),
            (region, "TRAIN_GEMINI_LOCATION", NO_REGION),
            (rules.bucket, "TRAIN_GEMINI_BUCKET", NO_BUCKET.format(region)),
            (rules.model, "TRAIN_GEMINI_MODEL", NO_MODEL),
        )
        for value, setting, why in lacking:
            if not value:
                return Standing(f"{setting} is not set. {why}", f"{setting} is set")
        return Standing()

    async def close(self) -> None:
        """Close the connections, if there are any."""
        await self._buckets.close()
        made, self._made = self._made, None
        if made is not None:
            await made.aio.aclose()
            made.close()

    async def _file(self, order: Order, side: str, content: bytes) -> str:
        """Written each time: its name is known before, and the content of a run's file never differs."""
        name = file_name(order.run_id, side)
        uri = f"{PREFIX}{self._rules.bucket.removeprefix(PREFIX).strip('/')}/apprentice/{name}"
        row, _ = await self._row(order, name, file_id=uri)
        await self._buckets.write(row.file_id, content)
        return row.file_id

    async def _create(self, order: Order, shipment: Shipment, files: Sequence[str]) -> str:
        from google.genai.types import TuningDataset

        client = await self._client()
        job = await client.aio.tunings.tune(
            base_model=self._rules.model,
            training_dataset=TuningDataset(gcs_uri=files[0]),
            config=_config(order, shipment, files[1] if len(files) > 1 else ""),
        )
        if not job.name:
            raise NotYet("Google took the job and does not say its name; I look again.")
        return str(job.name)

    async def _job_of(self, run_id: str) -> str:
        """By its label, or by the name of its training file."""
        from google.genai.types import ListTuningJobsConfig

        label, name = _label(run_id), file_name(run_id, "train")
        client, seen = await self._client(), 0
        async for job in await client.aio.tunings.list(config=ListTuningJobsConfig(page_size=100)):
            if (job.labels or {}).get(RUN) == label or any(f.endswith(f"/{name}") for f in _files(job)):
                return str(job.name or "")
            seen += 1
            if seen >= MOST_JOBS:
                raise PublicError(
                    f"The project {self._rules.project} has more than {MOST_JOBS:,} tuning jobs in {self._rules.location}, "
                    "too many to see whether this run has one. Use another region or project."
                )
        return ""

    async def _told(self, handle: str) -> tuple[Pending | Done | Broken, Collection[str]]:
        job = await (await self._client()).aio.tunings.get(name=handle)
        state, files = _state(job), _files(job)
        endpoint = job.tuned_model.endpoint if job.tuned_model else None
        if state in SUCCEEDED and endpoint:
            return Done(None, "", self._card(job), endpoint, job.base_model or self._rules.model), files
        if state == CANCELLED:
            return Broken("It was cancelled at Google.", cancelled=True), files
        if state in {FAILED, EXPIRED}:
            return Broken(_why_failed(job, state)), files
        if state not in WAITING | SUCCEEDED:
            log.warning("a tuning job is in a state that is not known", job=handle, state=state)
        return Pending(_progress(job, state)), files

    async def _stop(self, handle: str) -> None:
        await (await self._client()).aio.tunings.cancel(name=handle)

    async def _delete_file(self, file_id: str) -> None:
        try:
            await self._buckets.delete(file_id)
        except StorageRefusal as refusal:
            if refusal.status == 404:
                raise NotThere from refusal
            raise

    def _card(self, job: "TuningJob") -> dict[str, Any]:
        """What is worth remembering of the job."""
        tokens, price = _billed(job), self._rules.usd_per_1m
        found = (job.tuned_model.checkpoints if job.tuned_model else None) or []
        return {
            "provider": GEMINI,
            "job": job.name,
            "method": "dpo" if job.preference_optimization_spec else "supervised",
            "base_model": job.base_model or self._rules.model,
            "location": self._rules.location,
            "trained_tokens": tokens,
            "cost_usd": tokens * price / 1e6 if tokens is not None and price is not None else None,
            "checkpoints": [{"model": each.endpoint, "step": each.step} for each in found],
        }

    async def _client(self) -> "Client":
        if self._made is None:
            credentials = await self._pass.credentials()
            self._made = await asyncio.to_thread(self._make, credentials)
        return self._made

    def _make(self, credentials: "Credentials") -> "Client":
        from google.genai import Client
        from google.genai.types import HttpOptions, HttpRetryOptions

        warnings.filterwarnings("ignore", message="The SDK's tuning implementation is experimental")
        warnings.filterwarnings("ignore", message=".* is not a valid (JobState|TuningJobState)")
        rules = self._rules
        once = HttpRetryOptions(attempts=1)
        options = HttpOptions(
            base_url=rules.base_url, timeout=round(rules.timeout_s * 1000), retry_options=once
        )
        return Client(
            vertexai=True,
            project=rules.project,
            location=rules.location,
            credentials=credentials,
            http_options=options,
        )

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[None]:
        import httpx2
        from google.auth.exceptions import GoogleAuthError
        from google.genai.errors import APIError

        try:
            yield
        except APIError as error:
            raise self._refusal(what, error.code or 0, str(error.message or error)[:300]) from error
        except StorageRefusal as error:
            raise self._refusal(what, error.status, str(error), of_bucket=True) from error
        except GoogleAuthError as error:
            if getattr(error, "retryable", False):
                raise NotYet("Google's credentials cannot be renewed now; I look again.") from error
            raise Forbidden(
                "Google's credentials cannot be used. Run `gcloud auth application-default login`, or name the key file of "
                "a service account in GOOGLE_APPLICATION_CREDENTIALS."
            ) from error
        except (aiohttp.ClientError, httpx2.HTTPError, TimeoutError) as error:
            raise NotYet(f"Google did not answer ({type(error).__name__}); I look again.") from error
        except ValueError as error:
            raise NotYet(f"Google's answer to {what} cannot be read; I look again.") from error

    def _refusal(self, what: str, status: int, said: str, *, of_bucket: bool = False) -> Exception:
        rules = self._rules
        if status in {401, 403} and of_bucket:
            bucket, _ = parts(rules.bucket)
            return Forbidden(
                f"Google does not let this account use the bucket {bucket} ({said}). "
                "Give it the role Storage Object User there."
            )
        if status in {401, 403}:
            return Forbidden(
                f"Google does not let this account train in the project {rules.project} ({said}). Give it the role "
                "Vertex AI User, or train with=local."
            )
        if status == 404 and of_bucket:
            bucket, _ = parts(rules.bucket)
            return PublicError(
                f"There is no bucket {bucket} ({said}). Make one in {rules.location}, or correct TRAIN_GEMINI_BUCKET."
            )
        if status == 429 and "quota exceeded" in said.lower() and not NO_LONGER_THAN_A_MINUTE.search(said):
            return PublicError(
                f"Google says that the quota is used up ({said}). Ask for more in the Google Cloud console, "
                "then start again."
            )
        if status >= 500 or status in {408, 409, 425, 429}:
            return NotYet(f"Google answered {status} to {what}; I look again.")
        return PublicError(f"Google refuses {what}: {said}")


def _config(order: Order, shipment: Shipment, validation: str) -> "CreateTuningJobConfig":
    from google.genai.types import CreateTuningJobConfig, TuningMethod, TuningValidationDataset

    preference = shipment.method == DPO
    return CreateTuningJobConfig(
        method=TuningMethod.PREFERENCE_TUNING if preference else TuningMethod.SUPERVISED_FINE_TUNING,
        validation_dataset=TuningValidationDataset(gcs_uri=validation) if validation else None,
        tuned_model_display_name=f"apprentice-{order.number}",
        epoch_count=shipment.epochs,
        labels={RUN: _label(order.run_id), "apprentice-dataset": _label(order.dataset_id)},
    )


def _label(text: str) -> str:
    """What Google takes as a label: up to 63 small letters, digits, underscores and dashes."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


def _state(job: "TuningJob") -> str:
    """As Google calls it, without what all of them begin with; also one that the SDK does not know."""
    state: Any = job.state
    return str(getattr(state, "value", state) or "UNSPECIFIED").removeprefix(STATE)


def _files(job: "TuningJob") -> set[str]:
    spec = job.supervised_tuning_spec or job.preference_optimization_spec
    found = (spec.training_dataset_uri, spec.validation_dataset_uri) if spec else ()
    return {each for each in found if each}


def _stats(job: "TuningJob") -> Any:
    stats = job.tuning_data_stats
    return (stats.supervised_tuning_data_stats or stats.preference_optimization_data_stats) if stats else None


def _billed(job: "TuningJob") -> int | None:
    """Google counts the tokens of the dataset, and each epoch is paid."""
    count = getattr(_stats(job), "total_billable_token_count", None)
    spec: Any = job.supervised_tuning_spec or job.preference_optimization_spec
    epochs = getattr(getattr(spec, "hyper_parameters", None), "epoch_count", None)
    return int(count) * int(epochs or 1) if count is not None else None


def _progress(job: "TuningJob", state: str) -> dict[str, Any]:
    """As the report knows it; a state that nobody told us of is shown as it is called."""
    detail: Any = job.tuning_job_state
    more = str(getattr(detail, "value", detail) or "").removeprefix("TUNING_").removeprefix(STATE)
    shown = [state, more] if more and more != "UNSPECIFIED" else [state]
    told: dict[str, Any] = {"provider": f"Google says: {', '.join(map(_plain, shown))}"}
    if (steps := getattr(_stats(job), "tuning_step_count", None)) is not None:
        told["max_steps"] = int(steps)
    return told


def _plain(state: str) -> str:
    return state.lower().replace("_", " ")


def _why_failed(job: "TuningJob", state: str) -> str:
    said = (job.error.message if job.error else "") or "it gave no reason"
    name = (job.name or "").rpartition("/")[2]
    return f"Google's tuning job {name} {'expired' if state == EXPIRED else 'failed'}: {said}"[:500]
