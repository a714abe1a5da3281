"""A store with examples, a provider, and a bot that is killed after every look: what the tests of provider runs share."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from bot_process import write_faq

from storage.records import Evaluation, EvaluationState, TrainingRun
from storage.store import Store
from training.finetuners import Order
from training.finetuners.provider import ProviderFineTuner
from training.formats.reading import read_faq
from training.runs import Declined, RunRules, Runs

TEAM, ANN = "T0LOCAL", "U0ANN"
Step = Callable[[Any], None]
Server = TypeVar("Server")


class Judged:
    """Evaluations that find the challenger better at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def carry_out(self, evaluation: Evaluation, **_: Any) -> Evaluation:
        verdict = {"outcome": "promote", "reason": "better"}
        await self._store.note_on_evaluation(evaluation.id, state=EvaluationState.DONE, verdict=verdict)
        return await self._store.evaluation(evaluation.id) or evaluation


@dataclass
class Place(Generic[Server]):
    """A store with examples, and a bot that can be killed at any moment. `make` builds what a new bot trains with."""

    store: Store
    folder: Path
    server: Server
    make: Callable[[], ProviderFineTuner[Any]]
    timeout_s: float = 3600.0
    told: list[TrainingRun] = field(default_factory=list)
    name: str = "test"

    def bot(self) -> tuple[Runs, ProviderFineTuner[Any]]:
        """A bot that knows only what the store knows."""
        tuner = self.make()

        async def report(run: TrainingRun) -> None:
            self.told.append(run)

        evaluations: Any = Judged(self.store)
        rules = RunRules("starter", "none", 10, self.timeout_s, train_with=tuner.provider, retry_s=0.0)
        runs = Runs(
            self.store, team=TEAM, folder=self.folder, finetuners={tuner.provider: tuner}, evaluations=evaluations,
            rules=rules, report=report, worker="w",
        )  # fmt: skip
        return runs, tuner

    async def ask(self, **options: Any) -> TrainingRun:
        runs, tuner = self.bot()
        asked = await runs.request(by=ANN, occasion=f"{self.name}:{len(self.told)}", options=options)
        await tuner.close()
        assert not isinstance(asked, Declined), asked.reason
        return asked.run

    async def tick(self) -> None:
        """One look of a bot that has just been started, and is killed after it."""
        runs, tuner = self.bot()
        await runs.tick()
        await asyncio.gather(*runs._advancing.values())
        await tuner.close()

    async def die_at(self, hangs: asyncio.Event) -> None:
        """Looks of new bots until one waits for an answer; that one is killed while it waits."""
        for _ in range(40):
            runs, tuner = self.bot()
            await runs.tick()
            waiting = asyncio.create_task(hangs.wait())
            await asyncio.wait(
                {waiting, *runs._advancing.values()}, return_when=asyncio.FIRST_COMPLETED, timeout=30
            )
            waiting.cancel()
            await runs.stop()
            await tuner.close()
            if hangs.is_set():
                return
        raise AssertionError("nobody waited for an answer")

    async def follow(self, run: TrainingRun, *steps: Step) -> TrainingRun:
        """Ticks until the run is over; a step is taken whenever a job waits."""
        left = list(steps)
        for _ in range(40):
            await self.tick()
            run = await self.store.run(run.id) or run
            if run.state.final:
                return run
            if run.handle and left:
                left.pop(0)(self.server)
        return run

    def endings(self) -> set[tuple[str, str]]:
        """What was reported as the end; one for each run that ended in one way."""
        return {(each.outcome, each.reason) for each in self.told if each.outcome}


async def fill(store: Store, folder: Path) -> None:
    """Examples enough to train on."""
    faq = read_faq(write_faq(folder / "tools.jsonl", openings=("", "Hello, ", "Please: ")), source="tools")
    await store.add_entries(TEAM, faq.entries)


def ordered_pairs(folder: Path, held_out: int = 2) -> Order:
    """An order of preference tuning, on twelve pairs and some held-out ones."""
    dataset = folder / "pairs"
    dataset.mkdir()
    pairs = [
        {
            "id": f"p{number}",
            "cluster": f"c{number}",
            "split": "train" if number < 12 else "validation",
            "messages": [{"role": "user", "content": f"How do I reset token {number}?"}],
            "chosen": f"Open page {number}.",
            "rejected": "No idea.",
        }
        for number in range(12 + held_out)
    ]
    (dataset / "preferences.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n")
    for side in ("train", "validation", "test"):
        (dataset / f"{side}.jsonl").write_text("")
    return Order(
        run_id="run_1", directory=folder, base_model="", dataset_path=dataset, dataset_id="", quantization="none",
        method="dpo", number=3,
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What goes wrong, and how the run ends then: outcome, words of its reason, jobs created, POSTs of jobs."""

    name: str
    steps: tuple[Step, ...]
    fails: tuple[tuple[str, tuple[int, ...]], ...] = ()
    said: str = "server_error"
    ends: str = "promote"
    why: str = ""
    jobs: int = 1
    posts: int = 1
