"""Reports in a real workspace without a model: rows as a training run leaves them, and admins who press."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot_process import write_faq
from workspace_rig import Rig, running

from bot.models.local import LocalEngine
from bot.models.memory import Memory
from bot.serving import Serving
from bot.slack import report_blocks
from bot.slack.decisions import DecisionRules, Decisions
from bot.slack.reports import ReportRules, Reports
from bot.workspace.seed import TEAM_ID
from storage.records import Evaluation, ModelVersion, RunState, TrainingRun, now
from storage.store import Store
from training.datasets import freeze, read_split
from training.evaluating import BASE, CHALLENGER, CURRENT, MEMORY, judge_sheet
from training.evaluation import Answered, Row, Sheet
from training.formats.reading import read_faq
from training.metrics import score

Json = dict[str, Any]
ADMIN_CHANNEL = "C0ADMIN"
ANN, BEN, DAN = "U0ANN", "U0BEN", "U0DAN"
APPRENTICE = "U0APPRENTICE"
OPENINGS = ("", "Hello, ", "Please: ", "Excuse me, ")


class AcceptsEverything(LocalEngine):
    """An engine that says it has loaded whatever it is given; no process is started."""

    async def load(self, name: str, path: Path) -> None:
        """Nothing to load."""


@dataclass
class Office:
    """The admin channel with a bot's reports and decisions in it."""

    rig: Rig
    store: Store
    folder: Path
    reports: Reports
    decisions: Decisions
    serving: Serving

    async def messages(self, ts: str = "") -> list[Json]:
        """What the bot has said in the admin channel, or in a thread below its root."""
        all_of_it = await self.rig.person(ANN).messages(ADMIN_CHANNEL, ts or None)
        return [
            each
            for each in all_of_it
            if each["user"] == APPRENTICE and not each.get("ephemeral") and each["ts"] != ts
        ]

    async def report(self) -> Json:
        """The one report in the channel."""
        (message,) = await self.messages()
        return message

    async def press(self, person: str, action_id: str, message: Json, run: TrainingRun) -> None:
        await self.rig.person(person).click(ADMIN_CHANNEL, message["ts"], action_id, value=run.id)

    async def whispered(self, person: str, words: str) -> Json:
        """Wait until somebody alone was told something with these words."""
        told = await self.rig.person(person).wait_for_ephemeral(
            ADMIN_CHANNEL, lambda message: words in message["text"]
        )
        return dict(told)

    async def says(self, words: str, ts: str = "") -> Json:
        """Wait until a report says something."""
        found = await self.rig.person(ANN).wait_for_message(
            ADMIN_CHANNEL,
            lambda message: (
                words in json.dumps(message.get("blocks", []), ensure_ascii=False)
                and (not ts or message["ts"] == ts)
            ),
        )
        return dict(found)

    async def run(self) -> TrainingRun:
        """A run that was asked for and has not begun."""
        asked = await self.store.request_run(
            team=TEAM_ID, occasion=f"test:{now().isoformat()}", by=ANN, options={}
        )
        return asked.run

    async def dataset(self) -> str:
        """The tool library, frozen; its id."""
        faq = read_faq(await self._faq(), source="tools")
        await self.store.add_entries(TEAM_ID, faq.entries)
        frozen = await freeze(self.store, self.folder / "datasets", team=TEAM_ID, salt="salt")
        return frozen.id

    async def _faq(self) -> Path:
        return write_faq(self.folder / "tools.jsonl", openings=OPENINGS)

    async def trained(self, run: TrainingRun, dataset_id: str) -> tuple[TrainingRun, ModelVersion]:
        """The run after its training, with a version and the trainer's progress."""
        directory = self.folder / "runs" / run.id
        directory.mkdir(parents=True)
        write_progress(directory, steps=60)
        version = await self.store.register_model(
            team=TEAM_ID,
            name=f"local-{run.number}",
            base_model="starter",
            path=str(directory),
            sha256=run.id,
            run_id=run.id,
            dataset_id=dataset_id,
            card={},
        )
        progress = {
            "gathered": 64,
            "counts": {"train": 31, "validation": 1, "test": 32},
            "step": 60,
            "max_steps": 60,
            "loss": 0.21,
            "eval_loss": 0.34,
        }
        moved = await self.store.advance_run(
            run,
            RunState.EVALUATING,
            dataset_id=dataset_id,
            directory=str(directory),
            version_id=version.id,
            progress=progress,
        )
        return moved, version

    async def judged(
        self,
        *,
        better: float = 0.8,
        odd: str = "",
        current: ModelVersion | None = None,
    ) -> tuple[TrainingRun, ModelVersion]:
        """A run that has come to its report: the challenger knows `better` of the answers. `odd` is said to the first."""
        dataset_id = await self.dataset()
        run, version = await self.trained(await self.run(), dataset_id)
        evaluation = await self.evaluated(
            dataset_id, version=version, better=better, odd=odd, run_id=run.id, current=current
        )
        await self.store.note_on_run(run.id, progress={**run.progress, "evaluated": 96, "to_evaluate": 96})
        run = await self.store.advance_run(
            run,
            RunState.REPORTING,
            evaluation_id=evaluation.id,
            outcome=evaluation.verdict["outcome"],
            reason=evaluation.verdict["reason"],
        )
        return run, version

    async def evaluated(
        self,
        dataset_id: str,
        *,
        version: ModelVersion | None,
        better: float = 0.8,
        odd: str = "",
        run_id: str | None = None,
        current: ModelVersion | None = None,
    ) -> Evaluation:
        """An evaluation with every answer scored as it would be."""
        dataset = await self.store.dataset(dataset_id)
        assert dataset is not None
        held_out = list(read_split(Path(dataset.path), "test"))
        arms = [BASE, *([CURRENT] if current else []), *([CHALLENGER] if version else []), MEMORY]
        knows = {BASE: 0.2, CURRENT: 0.4, CHALLENGER: better, MEMORY: 0.5}
        rows = []
        for arm in arms:
            for number, row in enumerate(held_out):
                known = (number * 7) % len(held_out) < knows[arm] * len(held_out)
                said = row.answer if known else "I do not know."
                if odd and arm == CHALLENGER and number == 0:
                    said = odd
                answered = Answered(
                    arm, row.id, text=said, model=arm, seconds=0.2 + number / 1000, tokens_out=7
                )
                rows.append(Row(answered, row.cluster, score(said, row.answer)))
        sheet = Sheet(tuple(rows))
        verdict = judge_sheet(sheet)
        evaluation = await self.store.request_evaluation(
            team=TEAM_ID,
            by=ANN,
            challenger_id=version.id if version else None,
            current_id=current.id if current else None,
            dataset_id=dataset_id,
            run_id=run_id,
        )
        await self.store.note_on_evaluation(
            evaluation.id, sheet=sheet.to_json(), verdict=verdict.to_json() if verdict else {}
        )
        return await self.store.evaluation(evaluation.id) or evaluation

    async def finish(self, run: TrainingRun) -> TrainingRun:
        """The run's last step, as `training.runs` takes it."""
        await self.reports.run(run)
        return await self.store.advance_run(
            await self.store.run(run.id) or run, RunState.DONE, reported_at=now()
        )


@asynccontextmanager
async def office(
    store: Store, folder: Path, *, admins: Sequence[str] = (ANN, BEN), approvals: int = 1, **workspace: Any
) -> AsyncIterator[Office]:
    """A workspace with a bolt app whose report buttons work."""
    async with running(listen=False, **workspace) as rig:
        opened = office_in(rig, store, folder, admins=admins, approvals=approvals)
        for action_id, decide in (
            (report_blocks.PROMOTE, opened.decisions.promote),
            (report_blocks.CANARY, opened.decisions.canary),
            (report_blocks.KEEP, opened.decisions.keep),
            (report_blocks.ROLL_BACK, opened.decisions.roll_back),
        ):
            rig.app.action(action_id)(decide)
        try:
            yield opened
        finally:
            await opened.reports.stop()


def office_in(
    rig: Rig, store: Store, folder: Path, *, admins: Sequence[str] = (ANN, BEN), approvals: int = 1
) -> Office:
    """A bot's reports, as after a start: it remembers nothing but its rows."""
    rules = ReportRules(TEAM_ID, ADMIN_CHANNEL, "starter (demo model)", tuple(admins), approvals)
    reports = Reports(store, rig.client, rules)
    engine = AcceptsEverything(model="starter", label="starter", max_new_tokens=8, log_file=folder / "log")
    serving = Serving(store, engine, Memory(store, team=TEAM_ID, folder=folder / "memory"), team=TEAM_ID)
    decisions = Decisions(
        store, serving=serving, reports=reports, rules=DecisionRules(TEAM_ID, tuple(admins), approvals)
    )
    return Office(rig, store, folder, reports, decisions, serving)


def write_progress(directory: Path, *, steps: int, every: int = 0) -> None:
    """What a trainer tells: a loss for each step, and a held-out loss every so many steps."""
    lines: list[Json] = [{"event": "evaluated", "step": 0, "max_steps": steps, "eval_loss": 4.0}]
    for step in range(1, steps + 1):
        lines.append(
            {"event": "step", "step": step, "max_steps": steps, "loss": round(4 / (1 + step / 5), 4)}
        )
        if step % (every or max(1, steps // 5)) == 0:
            lines.append(
                {"event": "evaluated", "step": step, "max_steps": steps, "eval_loss": 4 / (1 + step / 7)}
            )
    told = "".join(json.dumps(line) + "\n" for line in lines)
    (directory / "progress.jsonl").write_text(told, encoding="utf-8")


def blocks_of(message: Json, kind: str) -> list[Json]:
    return [block for block in message["blocks"] if block["type"] == kind]


def buttons_of(message: Json) -> dict[str, Json]:
    return {
        button["action_id"]: button for row in blocks_of(message, "actions") for button in row["elements"]
    }
