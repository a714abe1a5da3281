"""Forgetting a person, down to the models: durable work in steps, each of which may be done twice without harm.

A row stands for it (`Forgetting`). Whoever claims it (the running bot, a terminal) goes on at the step where it stands, so
that a kill at any point loses nothing; it is finished once. What could not be done is in the receipt, with the reason.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import structlog

from bot import forgetting_files as files
from bot.errors import PublicError
from bot.models.files import FileShelf, NotDeleted
from storage.database import in_words, sqlite_file
from storage.forgetting import Holdings, is_theirs
from storage.records import Forgetting, ForgettingState, ModelVersion, ProviderFile, RunState, now
from storage.store import Store

LEASE_S = 60.0
AGAIN_S = 30.0
PATIENCE = timedelta(minutes=10)
TUNED = "tuned model"
"""What the row of a model that lies at a provider is for."""
RETRIES = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1))
"""When a provider is asked again to delete a file: after the first, the second and every later time that it did not."""
BY, END = "the forgetting", "end"
WHY_TAINTED = "learned from words that were deleted since"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a forgetting did: how much was deleted, the models that had learned from it, what could not be done, and why.

    `finished` is False while it is still going on.
    """

    work: str
    done: Mapping[str, Any]
    undone: Mapping[str, Any]
    finished: bool = True

    @property
    def held(self) -> Holdings:
        """The rows that are gone."""
        gone = {
            kind: int(self.done.get(kind, 0)) for kind in ("questions", "ratings", "corrections", "entries")
        }
        return Holdings(**gone, consent=None)

    @property
    def tainted(self) -> tuple[str, ...]:
        """The models that had learned from some of it."""
        return tuple(self.done.get("tainted", ()))

    @classmethod
    def of(cls, row: Forgetting) -> "Receipt":
        """The receipt as it stands."""
        return cls(row.id, row.done, row.undone, row.state is ForgettingState.DONE)


class Promoting(Protocol):
    """Lets a version answer (`bot.serving.Serving`)."""

    async def promote(
        self, version: ModelVersion | None, *, by: str, decision: str, reason: str
    ) -> tuple[Any, bool]:
        """Raises PublicError where it cannot answer."""


class NotYet(Exception):
    """A step waits for something; it is looked at again after so many seconds."""

    def __init__(self, after_s: float) -> None:
        super().__init__(after_s)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class PrivacyRules:
    """What the operator decided, and what is at hand.

    `remember` brings memory's index up to date; True once nothing of what was deleted is in it. `retrain` asks for a run
    without the person: "" where it is queued, else why not. `switch` says what happens when a marked model serves; runs
    on a cluster share the folder `shared` with us.
    """

    folder: Path | None = None
    shared: Path | None = None
    worker: str = "here"
    switch: Literal["ask", "auto"] = "ask"
    remember: Callable[[], Awaitable[bool]] | None = None
    retrain: Callable[[str], Awaitable[str]] | None = None
    serving: Promoting | None = None
    shelves: Mapping[str, FileShelf] = field(default_factory=dict)


class Privacy:
    """What a person may ask of us. `tell_person` gives them the receipt where nobody waits for it here."""

    def __init__(self, store: Store, *, team: str, rules: PrivacyRules | None = None) -> None:
        self._store = store
        self._team = team
        self._rules = rules or PrivacyRules()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._answered_here: set[str] = set()
        self._begun = False
        self.tell_person: Callable[[str, Receipt], Awaitable[bool]] | None = None
        self._steps: Mapping[str, Callable[[Forgetting], Awaitable[None]]] = {
            "copies": self._copies,
            "quotes": self._quotes,
            "rows": self._rows,
            "identity": self._identity,
            "memory": self._memory,
            "models": self._models,
            "providers": self._providers,
            "database": self._database,
            "receipt": self._receipt,
        }

    async def ask(self, person: str, *, by: str) -> Forgetting:
        """Write down that somebody is to be forgotten; a tick, here or in the running bot, does it."""
        return await self._store.ask_to_forget(self._team, person, by=by)

    async def forget(self, person: str, *, by: str, wait_s: float | None = None) -> Receipt:
        """Forget somebody and wait for the receipt, at most `wait_s`; what takes longer goes on, and is told by itself."""
        work = (await self.ask(person, by=by)).id
        self._answered_here.add(work)
        try:
            task = self._own(work)
            await asyncio.wait({task}, timeout=wait_s)
        finally:
            self._answered_here.discard(work)
        row = await self._store.forgetting(work)
        if row is None:
            raise PublicError("The forgetting is gone; ask for it again.")
        return Receipt.of(row)

    async def tick(self) -> None:
        """Take up what is owed, one person after the other. Cheap where nothing is."""
        if self._tasks:
            return
        if not self._begun:  # whoever was killed at the very end left the id in the log of the database
            self._begun = True
            await self._store.database.empty_log()
            for row in await self._store.forgettings(self._team, limit=3):
                if row.state is ForgettingState.DONE:
                    await self._back_up_again(row)
        for row in (await self._store.owed_forgettings(self._team))[:1]:
            self._own(row.id)

    async def stop(self) -> None:
        """Let go; the next start goes on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for shelf in self._rules.shelves.values():
            await shelf.close()

    def _own(self, work: str) -> asyncio.Task[None]:
        if work not in self._tasks:
            task = asyncio.create_task(self.carry_out(work), name=f"forget-{work}")
            self._tasks[work] = task
            task.add_done_callback(lambda _task: self._tasks.pop(work, None))
        return self._tasks[work]

    async def carry_out(self, work: str) -> None:
        """Go on from the step where it stands, to the end or until something is to be waited for."""
        claim = partial(self._store.claim_forgetting, work, worker=self._rules.worker, lease_s=LEASE_S)
        if not await claim():
            return
        keeper = asyncio.create_task(_renewed(claim))
        try:
            while (row := await self._store.forgetting(work)) is not None and row.step != END:
                name = row.step if row.step in self._steps else next(iter(self._steps))
                await self._steps[name](row)
                await self._store.forgetting_went_on(work, _after(name, tuple(self._steps)))
            if row is not None:
                await self._finish(row)
        except NotYet as wait:
            await self._store.let_go_of_forgetting(work, after_s=wait.after_s)
        except Exception as error:
            words = in_words(error) or (error.strerror if isinstance(error, OSError) else None) or str(error)
            log.exception("forgetting goes on later", work=work)
            await self._store.forgetting_went_on(work, await self._step_of(work), undone={"trouble": words})
            await self._store.let_go_of_forgetting(work, after_s=AGAIN_S)
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    async def _step_of(self, work: str) -> str:
        row = await self._store.forgetting(work)
        return row.step if row is not None else ""

    async def _note(
        self, row: Forgetting, done: dict[str, Any], undone: dict[str, Any] | None = None
    ) -> None:
        """Within a step: what it did so far."""
        await self._store.forgetting_went_on(row.id, row.step, done=done, undone=undone)

    # --- The steps ------------------------------------------------------------------------------------------

    async def _copies(self, row: Forgetting) -> None:
        """Datasets, evaluations, files: what the rows tell of, so before they go. Models that learned from it are marked."""
        words = await self._store.words_elsewhere(self._team, row.person)
        theirs = is_theirs(words)
        await self._erase_datasets(row, words.subjects)
        answers = await self._store.erase_from_evaluations(words)
        await self._note(row, {"evaluated answers": answers})
        if self._rules.folder is None:
            return
        gone = await asyncio.to_thread(files.erase_files, self._rules.folder, row.person, theirs)
        await self._note(row, {"lines": gone.lines, "files": len(gone.files), "backups": len(gone.backups)})

    async def _erase_datasets(self, row: Forgetting, subjects: frozenset[str]) -> None:
        for dataset in await self._store.datasets():
            path = Path(dataset.path)
            if dataset.team not in {"", self._team}:
                continue
            if not await asyncio.to_thread(files.dataset_knows, path, row.person, subjects):
                continue
            await self._mark(row, dataset.id)
            count = await asyncio.to_thread(files.erase_dataset, path, row.person, subjects)
            await self._store.dataset_erased(dataset.id, count)
            await self._note(row, {"dataset rows": count})

    async def _mark(self, row: Forgetting, dataset_id: str) -> None:
        """Whatever was made of this dataset: models are marked, runs stopped, uploaded files are to go."""
        learned = [each for each in await self._store.models(self._team) if each.dataset_id == dataset_id]
        await self._store.taint_models([each.id for each in learned], WHY_TAINTED)
        known = (await self._store.forgetting(row.id) or row).done.get("tainted", [])
        marked = [*known, *(each.name for each in learned if each.name not in known)]
        if marked:
            await self._note(row, {"tainted": marked})
        await self._tuned_elsewhere(learned)
        await self._store.delete_provider_files_of([dataset_id])
        for run in await self._store.runs(self._team, limit=1000):
            if run.dataset_id != dataset_id:
                continue
            if run.state in {RunState.FREEZING, RunState.TRAINING, RunState.EVALUATING}:
                await self._store.note_on_run(run.id, cancel_requested_by=BY)
                await self._note(row, {"runs stopped": 1})
            if self._rules.folder is not None and run.state.final:
                gone = await asyncio.to_thread(
                    files.delete_checkpoints, self._rules.folder, run.id, self._rules.shared
                )
                await self._note(row, {"checkpoints": int(gone)})
            if run.report_ts:
                reports = (await self._store.forgetting(row.id) or row).undone.get("reports", [])
                await self._note(row, {}, {"reports": sorted({*reports, run.number})})

    async def _tuned_elsewhere(self, learned: Sequence[ModelVersion]) -> None:
        """A provider's model that learned it answers nobody any more, and is to be deleted there with its checkpoints."""
        known = {each.file_id for each in await self._store.provider_files(self._team)}
        for version in learned:
            steps = version.card.get("checkpoints") or []
            for name in dict.fromkeys([version.model, *(str(each.get("model") or "") for each in steps)]):
                if name and name not in known:
                    await self._store.keep_provider_file(
                        team=self._team,
                        provider=version.kind,
                        purpose=TUNED,
                        dataset_id=version.dataset_id,
                        file_id=name,
                    )

    async def _quotes(self, row: Forgetting) -> None:
        """Others were shown, or given, their verified answers."""
        quotes = await self._store.quotable_words(self._team, row.person)
        await self._note(row, {"quotes": await self._store.cut_quotes(self._team, quotes)})

    async def _rows(self, row: Forgetting) -> None:
        await self._store.forget_rows(self._team, row.person, work=row.id)

    async def _identity(self, row: Forgetting) -> None:
        await self._store.forget_identity(self._team, row.person, work=row.id)

    async def _memory(self, row: Forgetting) -> None:
        """Memory's index is written anew without them."""
        if self._rules.remember is None or await self._rules.remember():
            return
        if now() - row.asked_at < PATIENCE:
            raise NotYet(1.0)
        await self._note(row, {}, {"memory": "its index could not be written anew yet"})

    async def _models(self, row: Forgetting) -> None:
        """Where a marked model serves, the last clean one is offered or takes over; a run without them is queued."""
        if not row.done.get("tainted"):
            return
        current = await self._store.current(self._team)
        if current is not None and current.tainted:
            await self._replace(row, current)
        stopping = [
            run
            for run in await self._store.live_runs()
            if run.cancel_requested_by == BY and run.team == self._team
        ]
        if stopping and now() - row.asked_at < PATIENCE:
            raise NotYet(2.0)
        await self._delete_checkpoints()
        retrain = self._rules.retrain
        why = await retrain(row.id) if retrain else "the next training leaves them out"
        await self._note(row, {} if why else {"retraining": True}, {"retraining": why} if why else None)

    async def _delete_checkpoints(self) -> None:
        """Of the runs that were stopped because of this or of an earlier forgetting, once they are over."""
        for run in await self._store.runs(self._team, limit=1000):
            if self._rules.folder is not None and run.state.final and run.cancel_requested_by == BY:
                await asyncio.to_thread(
                    files.delete_checkpoints, self._rules.folder, run.id, self._rules.shared
                )

    async def _replace(self, row: Forgetting, current: ModelVersion) -> None:
        clean = await last_clean(self._store, self._team)
        name = clean.name if clean is not None else "base"
        if self._rules.switch == "ask" or self._rules.serving is None:
            await self._note(row, {}, {"serving": current.name, "offer": name})
            return
        reason = f"{current.name} {WHY_TAINTED}"
        try:
            await self._rules.serving.promote(clean, by=BY, decision=f"forget:{row.id}", reason=reason)
        except PublicError as error:
            await self._note(row, {}, {"serving": current.name, "offer": name, "switch": str(error)})
            return
        await self._note(row, {"switched": name})

    async def _providers(self, row: Forgetting) -> None:
        """Uploaded files are deleted; who does not do so now is asked again later."""
        gone = await self.delete_provider_files()
        left = [each for each in await self._store.provider_files(self._team) if each.deletion_due_at]
        told = [[each.provider, each.file_id, each.trouble] for each in left]
        await self._note(row, {"provider files": len(gone)}, {"provider files": told} if told else None)

    async def delete_provider_files(self) -> list[ProviderFile]:
        """Try those whose time has come; the ones that are gone now."""
        gone = []
        for file in await self._store.due_provider_files(self._team):
            why = await self._try_to_delete(file)
            if not why:
                await self._store.provider_file_gone(file.id)
                gone.append(file)
                continue
            again_at = now() + RETRIES[min(file.deletion_tries, len(RETRIES) - 1)]
            await self._store.provider_file_stays(file.id, why, again_at=again_at)
        return gone

    async def _try_to_delete(self, file: ProviderFile) -> str:
        shelf = self._rules.shelves.get(file.provider)
        if shelf is None:
            return (
                f"{file.provider} is not configured, or I cannot delete files there; please delete it by hand"
            )
        if not file.file_id:
            return "its upload was cut off, and its name there is not known"
        try:
            await shelf.delete(file.file_id)
        except NotDeleted as error:
            return str(error)
        return ""

    async def _database(self, row: Forgetting) -> None:
        """The file of the database is written anew. What is found in other files is told."""
        await self._store.database.scrub()
        folder = self._rules.folder
        if folder is None:
            return
        left = await asyncio.to_thread(files.files_that_name, folder, row.person)
        if left:
            await self._note(row, {}, {"files": left})

    async def _receipt(self, row: Forgetting) -> None:
        """Whoever asked for themselves is told, unless they wait for it here."""
        if row.person != row.asked_by or row.id in self._answered_here or self.tell_person is None:
            return
        if not await self.tell_person(row.person, Receipt(row.id, row.done, row.undone)):
            await self._note(row, {}, {"told": "Slack did not take the message to you"})

    async def _finish(self, row: Forgetting) -> None:
        """The last trace of the id goes: it stood in the row of this work."""
        if not await self._store.finish_forgetting(row.id):
            return
        log.info("somebody was forgotten", work=row.id)
        database = self._store.database
        await database.empty_log()
        file = sqlite_file(database.url)
        if file is not None and await asyncio.to_thread(files.names, file, row.person):
            await database.scrub()
        await self._back_up_again(row)

    async def _back_up_again(self, row: Forgetting) -> None:
        """A backup without them takes the place of those that went; it knows the row of this work without the id."""
        folder = self._rules.folder
        if folder is None or not row.done.get("backups") or row.done.get("new backup"):
            return
        from bot.backups import back_up, default_name

        with suppress(PublicError):  # one of this very second is new enough
            file = sqlite_file(self._store.database.url)
            await asyncio.to_thread(back_up, folder, file, default_name(folder))
        await self._store.forgetting_went_on(row.id, END, done={"new backup": 1})


async def last_clean(store: Store, team: str) -> ModelVersion | None:
    """The version that served last and learned from nothing that was deleted since; None is the base."""
    for promotion in reversed(await store.promotions(team)):
        if promotion.version_id is None:
            return None
        version = await store.model(promotion.version_id)
        if version is not None and not version.tainted and await asyncio.to_thread(Path(version.path).is_dir):
            return version
    return None


async def _renewed(claim: Callable[[], Awaitable[bool]]) -> None:
    while True:
        await asyncio.sleep(LEASE_S / 3)
        await claim()


def _after(step: str, steps: Sequence[str]) -> str:
    return dict(pairwise(steps)).get(step, END)
