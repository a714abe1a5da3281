"""Evaluations: the same held-out questions to every model, through the code that serves people, and a verdict.

Asked for by a run or by `/eval`. Answers are kept as they come, so an evaluation that was cut off goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from storage.errors import PublicError
from storage.records import Evaluation, EvaluationState, ModelVersion, now
from storage.store import Store
from storage.values import Message
from training.dataset_files import read_split
from training.evaluation import Arm, HeldOut, OnProgress, Sheet, evaluate, read_answered, with_golden
from training.golden import golden_now
from training.promotion import Rule, Verdict, judge

LEASE_S = 60.0
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
    ) -> None:
        self._store = store
        self._team = team
        self._folder = folder
        self._bench = bench
        self._limit = limit
        self._worker = worker
        self._report = report
        self._concurrency = concurrency
        self._running: dict[str, asyncio.Task[None]] = {}

    async def request(self, *, by: str, version: ModelVersion | None) -> Evaluation:
        """Ask for an evaluation of a version (None: the current one) on the newest held-out questions."""
        dataset = await self._store.newest_dataset()
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
        )

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
            await self._store.claim_evaluation(evaluation_id, worker=self._worker, lease_s=LEASE_S)

    async def carry_out(self, evaluation: Evaluation, *, on_progress: Progress | None = None) -> Evaluation:
        """Ask every arm every held-out question, score, judge, and write it down. Done before: returned as it is."""
        if evaluation.sheet:
            return evaluation
        held_out = await self._held_out(evaluation)
        golden = await self._golden(held_out)
        challenger = await self._version(evaluation.challenger_id)
        current = await self._version(evaluation.current_id)
        arms = await self._bench.arms(
            challenger=challenger,
            current=current,
            held_out={each.id for each in (*held_out, *golden)},
        )
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
        verdict = judge_sheet(sheet)
        await self._store.note_on_evaluation(
            evaluation.id,
            state=EvaluationState.DONE if evaluation.run_id else EvaluationState.EVALUATING,
            sheet=told_of,
            verdict=verdict.to_json() if verdict else {},
            finished_at=now(),
        )
        return await self._store.evaluation(evaluation.id) or evaluation

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
        system = [turn for turn in (held_out[0].messages if held_out else ()) if turn.role == "system"]

        def read() -> list[HeldOut]:
            return [
                HeldOut(
                    row.id, (*system, Message("user", row.messages[-1]["content"])), row.answer, row.cluster
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

        def read() -> list[HeldOut]:
            rows: list[HeldOut] = []
            for row in read_split(Path(dataset.path), "test"):
                turns = tuple(Message(turn["role"], turn["content"]) for turn in row.messages)  # type: ignore[arg-type]
                rows.append(HeldOut(row.id, turns, row.answer, row.cluster))
                if len(rows) == self._limit:
                    break
            return rows

        return await asyncio.to_thread(read)


def judge_sheet(sheet: Sheet) -> Verdict | None:
    """The verdict on the challenger against what serves now; None where there is no challenger."""
    from training.splits import TEST_SHARE

    names = {arm.name for arm in sheet.arms}
    if CHALLENGER not in names:
        return None
    rule = Rule(held_out_share=TEST_SHARE)
    return judge(sheet, current=CURRENT if CURRENT in names else BASE, rule=rule)


__all__ = ["BASE", "CHALLENGER", "CURRENT", "MEMORY", "Bench", "Evaluations", "judge_sheet"]
