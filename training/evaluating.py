"""Evaluations: the same held-out questions to every model, through the code that serves people, and a verdict.

Asked for by a run or by `/eval`. Answers are kept as they come, so an evaluation that was cut off goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog

from storage.errors import PublicError
from storage.golden import GOLDEN
from storage.learning import Look
from storage.records import DatasetVersion, Evaluation, EvaluationState, ModelVersion, now
from storage.store import Store
from storage.values import Message
from training.beside import Beside
from training.dataset_files import read_split
from training.evaluation import Arm, HeldOut, OnProgress, Sheet, evaluate, read_answered, with_golden
from training.golden import golden_now
from training.looks import QUARTER, Spent, alpha_of
from training.promotion import Verdict, judge
from training.specification import Specification, unchanged

LEASE_S = 60.0
GOES_ON_AT_MOST = timedelta(days=2)
"""An evaluation without a verdict that is older came to nothing: what it was to take is free again."""
CANCELLED = "It was cancelled"
BASE, CURRENT, CHALLENGER, MEMORY = "base", "current", "challenger", "memory"

log = structlog.get_logger(__name__)

Progress = Callable[[int, int], Awaitable[None]]


class Bench(Protocol):
    """Gives the arms of an evaluation: models that answer as they answer people."""

    async def arms(
        self,
        *,
        challenger: ModelVersion | None,
        current: ModelVersion | None,
        held_out: Collection[str],
    ) -> Sequence[Arm]:
        """base, memory without what is `held_out` (row ids), and what is named.

        Raises PublicError when a version cannot be loaded.
        """


class Contenders(Protocol):
    """Gives further arms: API models that are compared without being promoted."""

    @property
    def usual(self) -> Sequence[str]:
        """The names of those that every evaluation asks, as "openai:gpt-x"."""

    async def arms(self, names: Sequence[str], *, held_out: Collection[str]) -> Sequence[Arm]:
        """Those of these names; none of them reads a verified answer to what is `held_out`."""


class Evaluations:
    """Requests evaluations and carries them out."""

    def __init__(
        self,
        store: Store,
        *,
        team: str,
        folder: Path,
        bench: Bench,
        limit: int,
        worker: str,
        report: Callable[[Evaluation], Awaitable[None]],
        concurrency: int = 16,
        terms: Specification | None = None,
        contenders: Contenders | None = None,
        beside: Beside | None = None,
    ) -> None:
        """`terms` is what every evaluation agrees on beforehand; what it compares and what it may spend is added.

        `beside` tells what stands beside the scores.
        """
        self._contenders = contenders
        self._beside = beside or Beside(store, team=team, folder=folder)
        self._terms = terms or Specification()
        self._store = store
        self._team = team
        self._folder = folder
        self._bench = bench
        self._limit = limit
        self._worker = worker
        self._report = report
        self._concurrency = concurrency
        self._running: dict[str, asyncio.Task[None]] = {}

    @property
    def folder(self) -> Path:
        """Where frozen sets and answers lie."""
        return self._folder

    async def request(
        self,
        *,
        by: str,
        version: ModelVersion | None,
        dataset: DatasetVersion | None = None,
        also: Sequence[str] = (),
    ) -> Evaluation:
        """Ask for an evaluation of a version (None: the current one) on the newest held-out questions, or `dataset`'s.

        `also` names API models that answer them too.
        """
        dataset = dataset or await self._store.newest_dataset()
        if dataset is None:
            raise PublicError("There are no held-out questions yet. The first `/train` makes them.")
        current = await self._store.current(self._team)
        challenger = (
            version if version is not None and (current is None or version.id != current.id) else None
        )
        return await self._store.request_evaluation(
            team=self._team,
            by=by,
            challenger_id=challenger.id if challenger else None,
            current_id=current.id if current else None,
            dataset_id=dataset.id,
            since=now() - QUARTER,
            specify=self._specify(challenger, current, dataset.id),
            options={"with": list(also)} if also else {},
        )

    async def cancel(self, evaluation: Evaluation, *, by: str) -> bool:
        """Stop one that was asked for by itself; what was answered is thrown away. False where it has ended already."""
        ended = await self._store.end_evaluation(evaluation.id, reason=f"{CANCELLED} by {by}.")
        task = self._running.get(evaluation.id)
        if ended and task is not None:
            task.cancel()
        return ended

    def _specify(
        self, challenger: ModelVersion | None, current: ModelVersion | None, dataset_id: str
    ) -> Callable[[Sequence[Look]], dict[str, Any]]:
        """What is agreed, given the looks before: written down before any answer. Nothing where nothing is compared."""

        def specify(looks: Sequence[Look]) -> dict[str, Any]:
            if challenger is None:
                return {}
            moment = now()
            earlier = [Spent(look.requested_at, spent_by(look, moment)) for look in looks]
            terms = replace(
                self._terms,
                held_out_share=_held_out_share(),
                alpha=alpha_of(earlier, moment),
                against=CURRENT if current else BASE,
                challenger_id=challenger.id,
                current_id=current.id if current else "",
                dataset_id=dataset_id,
            )
            return terms.stored()

        return specify

    async def tick(self) -> None:
        """Start what was asked for and nobody carries out."""
        for evaluation in await self._store.live_evaluations():
            if evaluation.id not in self._running:
                task = asyncio.create_task(self._advance(evaluation), name=f"eval-{evaluation.number}")
                self._running[evaluation.id] = task
                task.add_done_callback(partial(self._let_go, evaluation.id))

    def _let_go(self, key: str, _task: asyncio.Task[None]) -> None:
        self._running.pop(key, None)

    async def stop(self) -> None:
        """Let go; what was answered is kept, and the next start goes on."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _advance(self, evaluation: Evaluation) -> None:
        if not await self._store.claim_evaluation(evaluation.id, worker=self._worker, lease_s=LEASE_S):
            return
        keeper = asyncio.create_task(self._renew(evaluation.id))
        try:
            finished = await self.carry_out(evaluation)
        except PublicError as error:
            await self._store.note_on_evaluation(evaluation.id, reason=str(error))
            finished = await self._store.evaluation(evaluation.id) or evaluation
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
        await self._report(finished)
        state = EvaluationState.FAILED if finished.reason else EvaluationState.DONE
        await self._store.note_on_evaluation(finished.id, state=state, finished_at=now())

    async def _renew(self, evaluation_id: str) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            if await self._store.claim_evaluation(evaluation_id, worker=self._worker, lease_s=LEASE_S):
                continue
            if (task := self._running.get(evaluation_id)) is not None:
                task.cancel()  # it was cancelled elsewhere

    async def carry_out(self, evaluation: Evaluation, *, on_progress: Progress | None = None) -> Evaluation:
        """Ask every arm every held-out question, score, judge, and write it down. Done before: returned as it is."""
        if evaluation.sheet:
            return evaluation
        held_out = await self._held_out(evaluation)
        golden = await self._golden(held_out)
        challenger = await self._version(evaluation.challenger_id)
        current = await self._version(evaluation.current_id)
        specify = self._specify(challenger, current, evaluation.dataset_id or "")
        agreed = await self._store.agree(evaluation.id, since=now() - QUARTER, specify=specify)
        arms = await self._arms(evaluation, challenger, current, {each.id for each in (*held_out, *golden)})
        held_out, golden = _answerable(arms, held_out), _answerable(arms, golden)
        done = 0
        total = len(arms) * (len(held_out) + len(golden))
        told: set[asyncio.Task[None]] = set()

        def count(_arm: str, _done: int, _of: int) -> None:
            nonlocal done
            done += 1
            if on_progress is not None and (done % 16 == 0 or done == total):
                task = asyncio.ensure_future(on_progress(done, total))
                told.add(task)
                task.add_done_callback(told.discard)

        sheet = await self._asked(evaluation.id, arms, held_out, count)
        told_of = sheet.to_json()
        if golden:
            told_of = with_golden(told_of, await self._asked(f"{evaluation.id}.golden", arms, golden, count))
        await asyncio.gather(*told, return_exceptions=True)
        dataset = await self._store.dataset(evaluation.dataset_id or "")
        told_of |= await self._beside.tell(evaluation.id, arms, sheet, held_out, dataset)
        verdict = await asyncio.to_thread(judge_sheet, sheet, agreed, beside=told_of)
        await self._store.note_on_evaluation(
            evaluation.id,
            state=EvaluationState.DONE if evaluation.run_id else EvaluationState.EVALUATING,
            sheet=told_of,
            verdict=verdict.to_json() if verdict else {},
            finished_at=now(),
        )
        return await self._store.evaluation(evaluation.id) or evaluation

    async def _arms(
        self,
        evaluation: Evaluation,
        challenger: ModelVersion | None,
        current: ModelVersion | None,
        held_out: set[str],
    ) -> list[Arm]:
        arms = list(await self._bench.arms(challenger=challenger, current=current, held_out=held_out))
        if self._contenders is None:
            return arms
        wanted = [*(evaluation.options.get("with") or ()), *self._contenders.usual]
        there = {arm.name for arm in arms}
        names = [name for name in dict.fromkeys(wanted) if name not in there]
        return [*arms, *await self._contenders.arms(names, held_out=held_out)]

    async def _asked(
        self, name: str, arms: Sequence[Arm], held_out: Sequence[HeldOut], count: OnProgress
    ) -> Sheet:
        """Every arm's answers, those that an interrupted evaluation wrote down among them."""
        answers = self._folder / "evaluations" / f"{name}.jsonl"
        answers.parent.mkdir(parents=True, exist_ok=True)
        return await evaluate(
            arms,
            held_out,
            concurrency=self._concurrency,
            on_progress=count,
            already=read_answered(answers),
            record_to=answers,
        )

    async def _golden(self, held_out: Sequence[HeldOut]) -> list[HeldOut]:
        """The golden questions, frozen now, with the instructions that held-out questions come with.

        One that is among the held-out questions is asked there already.
        """
        version = await golden_now(self._store, self._team, self._folder)
        if version is None:
            return []
        asked = {each.id for each in held_out}
        private = await self._beside.private(Path(version.path))
        raters = await self._beside.raters(Path(version.path))
        system = [turn for turn in (held_out[0].messages if held_out else ()) if turn.role == "system"]

        def read() -> list[HeldOut]:
            return [
                HeldOut(
                    row.id,
                    (*system, Message("user", row.messages[-1]["content"])),
                    row.answer,
                    row.cluster,
                    row.id in private,
                    rater=raters.get(row.id, ""),
                )
                for row in read_split(Path(version.path), "test")
                if row.id not in asked
            ]

        return await asyncio.to_thread(read)

    async def _version(self, version_id: str | None) -> ModelVersion | None:
        if version_id is None:
            return None
        version = await self._store.model(version_id)
        if version is None:
            raise PublicError("The model to evaluate is gone. `apprentice models` lists what there is.")
        return version

    async def _held_out(self, evaluation: Evaluation) -> list[HeldOut]:
        dataset = await self._store.dataset(evaluation.dataset_id or "")
        if dataset is None or not (Path(dataset.path) / "manifest.json").exists():
            raise PublicError("The held-out questions are gone. Run `/train` to freeze a new dataset.")

        private = await self._beside.private(Path(dataset.path))
        labels = await self._beside.labels(Path(dataset.path))
        raters = await self._beside.raters(Path(dataset.path))
        system = await self._instructions() if dataset.kind == GOLDEN else ()

        def read() -> list[HeldOut]:
            rows: list[HeldOut] = []
            for row in read_split(Path(dataset.path), "test"):
                turns = tuple(Message(turn["role"], turn["content"]) for turn in row.messages)  # type: ignore[arg-type]
                about = {"label": labels.get(row.id, ""), "rater": raters.get(row.id, "")}
                rows.append(
                    HeldOut(row.id, (*system, *turns), row.answer, row.cluster, row.id in private, **about)
                )
                if len(rows) == self._limit:
                    break
            return rows

        return await asyncio.to_thread(read)

    async def _instructions(self) -> tuple[Message, ...]:
        """The system prompt that held-out questions come with; golden ones are stored without it."""
        dataset = await self._store.newest_dataset()
        if dataset is None:
            return ()

        def read() -> tuple[Message, ...]:
            first = next(iter(read_split(Path(dataset.path), "test")), None)
            turns = first.messages if first is not None else ()
            return tuple(Message("system", turn["content"]) for turn in turns if turn["role"] == "system")

        return await asyncio.to_thread(read)


def _answerable(arms: Sequence[Arm], held_out: Sequence[HeldOut]) -> list[HeldOut]:
    """What both sides of the comparison may be asked. Raises PublicError where that is nothing."""
    if not any(arm.leaves and arm.name in {CURRENT, CHALLENGER} for arm in arms):
        return list(held_out)
    public = [each for each in held_out if not each.private]
    if held_out and not public:
        raise PublicError(
            "All held-out questions are from private channels, whose words stay here, and an API model is to be compared."
        )
    return public


def judge_sheet(
    sheet: Sheet,
    specification: Mapping[str, Any] | None = None,
    *,
    beside: Mapping[str, Any] | None = None,
) -> Verdict | None:
    """The verdict on the challenger by the stored `specification` alone; None where there is no challenger.

    `beside` is the sheet as JSON with its further parts. Raises PublicError where the agreement was changed afterwards.
    """
    names = {arm.name for arm in sheet.arms}
    if CHALLENGER not in names:
        return None
    if not unchanged(specification or {}):
        raise PublicError(
            "This evaluation's specification is not the one that was agreed on (its hash differs). Run `/eval` again."
        )
    if specification:
        return judge(sheet, Specification.from_json(specification), beside=beside)
    against = CURRENT if CURRENT in names else BASE
    return judge(sheet, Specification(held_out_share=_held_out_share(), against=against), beside=beside)


def _held_out_share() -> float:
    from training.splits import TEST_SHARE  # brings numpy, which a small deployment need not load

    return TEST_SHARE


def spent_by(look: Look, moment: datetime) -> float:
    """What an evaluation took of the quarter's budget: what it looked at; what was agreed while it still goes on."""
    if look.verdict:
        return float(look.verdict.get("spent", 0.0))
    goes_on = look.live and moment - look.requested_at < GOES_ON_AT_MOST
    return float(look.specification.get("alpha", 0.0)) if goes_on else 0.0


__all__ = [
    "BASE",
    "CANCELLED",
    "CHALLENGER",
    "CURRENT",
    "MEMORY",
    "Bench",
    "Evaluations",
    "judge_sheet",
    "spent_by",
]
