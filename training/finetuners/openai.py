"""Fine-tuning at OpenAI, and at who copies its API (Azure): upload, create, look, delete.

Both files carry the run's id in their names and the job carries it in its metadata; what is there already is found by these
before anything is sent again. The rest is `provider`'s.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import structlog

from storage.errors import PublicError
from storage.records import now
from storage.store import Store
from training.finetuners import Broken, Done, NotYet, Order, Pending, Standing
from training.finetuners.provider import Forbidden, NotThere, ProviderFineTuner, Tuning, file_name
from training.finetuners.shipment import DPO, Shipment

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.fine_tuning import FineTuningJob

OPENAI = "openai"
NO_NEW_JOBS_FROM = date(2027, 1, 6)
"""OpenAI takes no fine-tuning jobs from this day on (its deprecations page, read in November 2026)."""
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
WAITING = frozenset({"validating_files", "queued", "running", "paused"})
FILES_LIVE_S = 30 * 24 * 3600
PAGES = 10
BOM = b"\xef\xbb\xbf"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAITuning(Tuning):
    """What the operator decided about OpenAI, or about the server at `base_url`."""

    api_key: str = field(repr=False)
    base_url: str | None = None
    azure: bool = False


class OpenAIFineTuner(ProviderFineTuner[OpenAITuning]):
    """The jobs of one key."""

    provider, vendor, shape = OPENAI, "OpenAI", OPENAI

    def __init__(self, store: Store, *, team: str, rules: OpenAITuning) -> None:
        super().__init__(
            store, team=team, rules=rules, account=f"{rules.api_key} {rules.base_url} {rules.model}"
        )
        self._made: AsyncOpenAI | None = None

    def _settled(self) -> Standing:
        """Its closing date, or a missing model."""
        rules = self._rules
        ends = rules.base_url is None
        if ends and now().date() >= NO_NEW_JOBS_FROM:
            why = (
                f"OpenAI takes no fine-tuning jobs since {NO_NEW_JOBS_FROM:%-d %B %Y}. Train with=local, or set "
                "OPENAI_BASE_URL to a server that still does."
            )
            return Standing(why, "OPENAI_BASE_URL names a server that still does")
        if not rules.model:
            why = (
                "TRAIN_OPENAI_MODEL is not set. Name the model that OpenAI is to train, such as gpt-4.1-mini."
            )
            return Standing(why, "TRAIN_OPENAI_MODEL is set")
        return Standing(until=f"{NO_NEW_JOBS_FROM:%-d %B %Y}, when OpenAI takes no more jobs" if ends else "")

    async def close(self) -> None:
        """Close the connections, if there are any."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    async def _file(self, order: Order, side: str, content: bytes) -> str:
        """The file's id: of the one that is there already, or uploaded now."""
        client, name = await self._client(), file_name(order.run_id, side)
        row, known = await self._row(order, name)
        if row.file_id:
            return row.file_id
        there = (
            [file async for file in client.files.list(purpose="fine-tune") if file.filename == name]
            if known
            else []
        )
        if there:
            await self._store.provider_file_is(row.id, there[0].id)
            return there[0].id
        expiry: Any = (
            {} if self._rules.azure else {"expires_after": {"anchor": "created_at", "seconds": FILES_LIVE_S}}
        )
        sent = (BOM if self._rules.azure else b"") + content
        file = await client.files.create(file=(name, sent), purpose="fine-tune", **expiry)
        await self._store.provider_file_is(row.id, file.id)
        return file.id

    async def _create(self, order: Order, shipment: Shipment, files: Sequence[str]) -> str:
        client = await self._client()
        taught: Any = {"hyperparameters": {"n_epochs": shipment.epochs}}
        dpo = shipment.method == DPO
        method: Any = {"type": "dpo", "dpo": taught} if dpo else {"type": "supervised", "supervised": taught}
        validation: Any = {"validation_file": files[1]} if len(files) > 1 else {}
        azure: Any = {"extra_body": {"trainingType": "GlobalStandard"}} if self._rules.azure else {}
        job = await client.fine_tuning.jobs.create(
            model=self._rules.model,
            training_file=files[0],
            method=method,
            suffix=f"apprentice-{order.number}",
            seed=order.seed,
            metadata={"run_id": order.run_id, "dataset": order.dataset_id[:64]},
            **validation,
            **azure,
        )
        return job.id

    async def _job_of(self, run_id: str) -> str:
        """By its metadata, or by its training file where a server keeps no metadata."""
        mine = {row.file_id for row in await self._files_of(run_id)}
        page = await (await self._client()).fine_tuning.jobs.list(limit=100)
        for _ in range(PAGES):
            for job in page.data:
                if (job.metadata or {}).get("run_id") == run_id or job.training_file in mine:
                    return job.id
            if not page.has_next_page():
                break
            page = await page.get_next_page()
        return ""

    async def _told(self, handle: str) -> tuple[Pending | Done | Broken, Collection[str]]:
        client = await self._client()
        job = await client.fine_tuning.jobs.retrieve(handle)
        files = {each for each in (job.training_file, job.validation_file) if each}
        if job.status == SUCCEEDED and job.fine_tuned_model:
            card = await self._card(client, job)
            return Done(None, "", card, job.fine_tuned_model, job.model), files
        if job.status in {FAILED, CANCELLED}:
            return _broken(job), files
        return Pending(await self._progress(client, job)), files

    async def _stop(self, handle: str) -> None:
        await (await self._client()).fine_tuning.jobs.cancel(handle)

    async def _progress(self, client: "AsyncOpenAI", job: "FineTuningJob") -> dict[str, Any]:
        """As the report knows it; a state that nobody told us of is shown as it is called."""
        told: dict[str, Any] = {"provider": f"OpenAI says: {job.status}"}
        if job.status not in WAITING:
            log.warning("a fine-tuning job is in a state that is not known", job=job.id, state=job.status)
        if job.estimated_finish:
            told["eta_s"] = max(0.0, job.estimated_finish - time.time())
        events = await client.fine_tuning.jobs.list_events(job.id, limit=50)
        for event in reversed(events.data):
            facts: Any = event.data if isinstance(event.data, dict) else {}
            known = {
                "step": facts.get("step"),
                "max_steps": facts.get("total_steps"),
                "loss": facts.get("train_loss"),
                "eval_loss": facts.get("valid_loss", facts.get("full_valid_loss")),
            }
            told |= {name: value for name, value in known.items() if isinstance(value, int | float)}
            if event.type != "metrics":
                told["message"] = event.message[:200]
        return told

    async def _card(self, client: "AsyncOpenAI", job: "FineTuningJob") -> dict[str, Any]:
        """What is worth remembering of the job."""
        import openai

        try:
            found = (await client.fine_tuning.jobs.checkpoints.list(job.id)).data
        except openai.OpenAIError:
            found = []
        tokens, price = job.trained_tokens, self._rules.usd_per_1m
        return {
            "provider": OPENAI,
            "job": job.id,
            "method": job.method.type if job.method else "",
            "base_model": job.model,
            "trained_tokens": tokens,
            "cost_usd": tokens * price / 1e6 if tokens is not None and price is not None else None,
            "seed": job.seed,
            "checkpoints": [
                {"model": each.fine_tuned_model_checkpoint, "step": each.step_number} for each in found
            ],
        }

    async def _delete_file(self, file_id: str) -> None:
        import openai

        try:
            await (await self._client()).files.delete(file_id)
        except openai.NotFoundError as error:
            raise NotThere from error

    async def _client(self) -> "AsyncOpenAI":
        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        return self._made

    def _make(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI

        rules = self._rules
        return AsyncOpenAI(
            api_key=rules.api_key, base_url=rules.base_url, timeout=rules.timeout_s, max_retries=0
        )

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[None]:
        """A refusal that stays one is a PublicError; whatever may have worked, or may work later, is NotYet."""
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            raise self._refusal(what, error) from error
        except openai.OpenAIError as error:
            raise NotYet(f"OpenAI did not answer ({type(error).__name__}); I look again.") from error

    def _refusal(self, what: str, error: Any) -> Exception:
        status, code, said = error.status_code, getattr(error, "code", None) or "", _said(error)
        if status in {401, 403}:
            why = (
                f"OpenAI does not let this key train {self._rules.model} ({said}). It takes no new fine-tuning from many "
                f"organizations any more, and from nobody after {NO_NEW_JOBS_FROM:%-d %B %Y}. Train with=local."
            )
            return Forbidden(why)
        if status == 429 and code == "insufficient_quota":
            return PublicError(
                f"OpenAI says that the quota is used up ({said}). Raise it there, then start again."
            )
        if status >= 500 or status in {408, 409, 425, 429}:
            return NotYet(f"OpenAI answered {status} to {what}; I look again.")
        return PublicError(f"OpenAI refuses {what}: {said}")


def _said(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error)[:300]


def _broken(job: "FineTuningJob") -> Broken:
    if job.status == CANCELLED:
        return Broken("It was cancelled at OpenAI.", cancelled=True)
    error = job.error
    why = ": ".join(each for each in (error.code, error.message) if each) if error else "it gave no reason"
    return Broken(f"OpenAI's job {job.id} failed: {why}"[:500])
