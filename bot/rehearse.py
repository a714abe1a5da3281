"""The whole loop without a person, over the real protocol: ask, rate, correct, train, evaluate, report, promote, ask again.

Everything happens in a fresh data directory with a local workspace of its own; simulated people act through the same page
requests that a browser makes. Nothing is skipped and nothing is assumed: a stage counts only if its effect was seen.
"""

import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import aiohttp

from bot.app import Bot, start
from bot.errors import PublicError
from bot.rehearsal_scores import scores_of
from bot.settings import HANDBOOK, Policy, Settings
from bot.slack import blocks, report_blocks
from bot.workshop import Workshop
from bot.workspace.people import Person
from storage.entries import NewEntry
from storage.records import RunState, TrainingRun
from training.dataset_sides import sides_of
from training.evaluating import BASE, CHALLENGER
from training.formats.reading import Faq, read_faq
from training.metrics import score
from training.run_steps import new_salt
from training.runs import SALT

ADMIN, ADMIN_CHANNEL, HELP = "U0ANN", "C0ADMIN", "C0HELP"
APPRENTICE = "U0APPRENTICE"
PEOPLE = 6
ASKED_BY_PEOPLE = 60
ASKED_AGAIN = 12
GOOD_F1 = 0.6
SAMPLE_OPTIONS = "epochs=3"  # a taste of the handbook: enough to learn from, and it ends in minutes
ANSWER_S, RUN_S = 120.0, 3600.0

Say = Callable[[str], None]


@dataclass
class Stage:
    """One stage: whether it really happened, what was seen, and how long it took."""

    name: str
    done: bool = False
    said: str = ""
    seconds: float = 0.0
    counts: dict[str, Any] = field(default_factory=dict)


@dataclass
class RehearsalReport:
    """What happened, stage by stage; `ok` only if every stage did."""

    stages: list[Stage] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    reason: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Every stage really happened."""
        return len(self.stages) == len(STAGES) and all(stage.done for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {"ok": self.ok, **asdict(self)}


async def rehearse(*, faq: Path | None, data_dir: Path | None, say: Say) -> RehearsalReport:
    """Rehearse with a FAQ file (None: the handbook). Raises PublicError for a file or folder that cannot be used."""
    known = await asyncio.to_thread(read_faq, faq or HANDBOOK, source=(faq or HANDBOOK).name)
    for bad in known.bad[:20]:
        say(f"line {bad.number} is left out: {bad.reason}")
    with _folder(data_dir) as folder:
        settings = Settings.read(
            None,
            data_dir=folder,
            database_url="",
            workspace_port=0,
            slack_bot_token=None,
            slack_app_token=None,
            slack_api_url="",
            admin_users=(),
            admin_channel="",
            openai_api_key=None,
            openai_base_url="",
            gemini_api_key=None,
            gemini_vertex_project="",
            answer_policy=Policy.LOCAL_ONLY,
            sample_domain=False,
            train_min_examples=1,
        )
        return await _Rehearsal(settings, known, say, options="" if faq else SAMPLE_OPTIONS).play()


class _folder:
    """A fresh folder: the one that was named, if it is empty, or a temporary one."""

    def __init__(self, named: Path | None) -> None:
        self._named = named
        self._made: str | None = None

    def __enter__(self) -> Path:
        if self._named is None:
            self._made = tempfile.mkdtemp(prefix="apprentice-rehearsal-")
            return Path(self._made)
        if self._named.exists() and any(self._named.iterdir()):
            raise PublicError(
                f"{self._named} is not empty. A rehearsal needs a fresh folder; name another one."
            )
        self._named.mkdir(parents=True, exist_ok=True)
        return self._named

    def __exit__(self, *_: object) -> None:
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)


class _Rehearsal:
    """One rehearsal."""

    def __init__(self, settings: Settings, faq: Faq, say: Say, options: str = "") -> None:
        self._settings = settings
        self._faq = faq
        self._say = say
        self._options = options
        self._report = RehearsalReport()
        self._to_ask: list[NewEntry] = []
        self._held_out: list[NewEntry] = []
        self._bot: Bot | None = None
        self._http: aiohttp.ClientSession
        self._answers: list[_Heard] = []
        self._again: list[NewEntry] = []
        self._before = 0.0
        self._message: dict[str, Any] = {}
        self._people: list[Person]
        self._ann: Person
        self._run: TrainingRun | None = None

    async def play(self) -> RehearsalReport:
        since = time.monotonic()
        self._say(
            f"{len(self._faq.entries)} questions; every stage over Slack's protocol, in a fresh folder."
        )
        async with aiohttp.ClientSession() as self._http:
            try:
                for name, play in STAGES:
                    if not await self._played(name, play):
                        break
            finally:
                await self._leave()
        self._report.seconds = round(time.monotonic() - since, 1)
        return self._report

    @property
    def _shop(self) -> Workshop:
        assert self._bot is not None
        return self._bot.workshop

    async def _leave(self) -> None:
        """Leave nothing behind: a trainer would go on without the bot."""
        if self._bot is None:
            return
        for run in await self._bot.workshop.store.live_runs():
            await self._bot.workshop.runs.abandon(run)
        await self._bot.stop()

    async def _played(self, name: str, play: "Play") -> bool:
        stage = Stage(name)
        self._report.stages.append(stage)
        since = time.monotonic()
        try:
            await play(self, stage)
        except TimeoutError as error:
            stage.said = f"nothing came in time ({error})"
        stage.seconds = round(time.monotonic() - since, 1)
        mark = "done" if stage.done else "NOT DONE"
        self._say(f"{name:<9} {mark:<8} {stage.seconds:7.1f} s  {stage.said}")
        return stage.done

    async def _open(self, stage: Stage) -> None:
        self._bot = bot = await start(self._settings, say=self._say, people=PEOPLE)
        self._ann = Person(bot.url, ADMIN, self._http)
        self._people = [Person(bot.url, f"U{1000 + n}", self._http) for n in range(PEOPLE)]
        stage.done = True
        stage.said = f"the bot runs at {bot.url} with {self._settings.base_label}"

    async def _import(self, stage: Stage) -> None:
        """What people will ask is kept apart; the rest is imported, held-out questions included."""
        store, team = self._shop.store, self._shop.team
        salt = await store.keepsake(SALT, new_salt)
        train: list[NewEntry] = []
        for entry, split in zip(self._faq.entries, await self._sides(salt), strict=True):
            (self._held_out if split == "test" else train).append(entry)
        if not train or not self._held_out:
            stage.said = "the file needs more questions: some to learn from and some to hold out"
            return
        step = max(1, len(train) // ASKED_BY_PEOPLE)
        self._to_ask = train[::step][:ASKED_BY_PEOPLE]
        asked = {entry.question for entry in self._to_ask}
        rest = [entry for entry in self._faq.entries if entry.question not in asked]
        imported = await store.add_entries(team, rest)
        await self._shop.remember()
        stage.counts = {"imported": imported.added, "held_out": len(self._held_out)}
        stage.done = imported.added == len(rest)
        stage.said = f"{imported.added} entries imported, {len(self._held_out)} questions held out"

    async def _sides(self, salt: str) -> list[str]:
        """On which side of the dataset each question will be."""
        with tempfile.TemporaryDirectory() as folder:
            return await asyncio.to_thread(sides_of, self._faq.entries, salt=salt, folder=Path(folder))

    async def _ask(self, stage: Stage) -> None:
        """People ask; each says yes to training when the bot asks them."""
        waiting = iter(self._to_ask)
        answers: list[_Heard] = []

        async def busy(person: Person) -> None:
            for entry in waiting:
                answers.append(await self._ask_one(person, entry))
                if not any(heard.person is person for heard in answers[:-1]):
                    await self._agree(person)

        await asyncio.gather(*(busy(person) for person in self._people))
        self._answers = answers
        by_memory = sum(1 for heard in answers if heard.from_memory)
        consenting = await self._shop.store.consenting(self._shop.team)
        stage.counts = {
            "asked": len(answers),
            "by_memory": by_memory,
            "by_local_model": len(answers) - by_memory,
            "consenting": len(consenting),
        }
        stage.done = len(answers) == len(self._to_ask) and bool(consenting)
        stage.said = (
            f"{len(answers)} questions asked and answered ({by_memory} by memory, {len(answers) - by_memory} by the "
            f"local model); {len(consenting)} people agreed to training"
        )

    async def _ask_one(self, person: Person, entry: NewEntry) -> "_Heard":
        ts = await person.post(HELP, f"@apprentice {entry.question}")
        message = await person.wait_for_message(HELP, _is_answer, thread_ts=ts, timeout_s=ANSWER_S)
        return _Heard(person, entry, message)

    async def _agree(self, person: Person) -> None:
        asked = await person.wait_for_ephemeral(HELP, _asks_consent, timeout_s=30)
        await person.click(HELP, asked["ts"], f"{blocks.CONSENT}_yes")

    async def _rate(self, stage: Stage) -> None:
        """A good answer gets a thumb up, a bad one a thumb down and the better answer."""

        async def judge(heard: _Heard) -> bool:
            good = score(heard.said, heard.entry.answer).token_f1 >= GOOD_F1
            (row,) = (each for each in heard.message["blocks"] if each["type"] == "context_actions")
            element = row["elements"][0]
            button = "positive_button" if good else "negative_button"
            await heard.person.click(HELP, heard.message["ts"], blocks.RATE, value=element[button]["value"])
            if not good:
                await self._correct(heard)
            return good

        for batch in itertools.zip_longest(*(self._of(person) for person in self._people)):
            await asyncio.gather(*(judge(heard) for heard in batch if heard is not None))
        tally = await _settled(self._shop, len(self._answers))
        stage.counts = {
            "thumbs_up": tally.thumbs_up,
            "thumbs_down": tally.thumbs_down,
            "corrections": tally.corrections,
        }
        stage.done = (
            tally.thumbs_up + tally.thumbs_down == len(self._answers)
            and tally.corrections == tally.thumbs_down
        )
        stage.said = f"{tally.thumbs_up} thumbs up, {tally.thumbs_down} down, {tally.corrections} corrected"

    def _of(self, person: Person) -> list["_Heard"]:
        return [heard for heard in self._answers if heard.person is person]

    async def _correct(self, heard: "_Heard") -> None:
        view = await heard.person.wait_for_view(lambda view: view["callback_id"] == blocks.CORRECTION_VIEW)
        given = {blocks.BETTER: heard.entry.answer, blocks.REASON: "wrong", blocks.MAY_TRAIN: ["yes"]}
        answer = await heard.person.submit(view["id"], given)
        if answer.get("errors"):
            raise PublicError(f"The correction window refused: {answer['errors']}")

    async def _ask_before(self, stage: Stage) -> None:
        """Held-out questions that memory does not know: the base answers them."""
        questions = iter(self._held_out)
        found: list[tuple[NewEntry, str]] = []
        for entry in questions:
            near = await self._shop.memory.nearest(entry.question, 1)
            if near and near[0].certainty >= 0.5:
                continue
            found.append((entry, ""))
            if len(found) == ASKED_AGAIN:
                break
        found = found or [(entry, "") for entry in self._held_out[:ASKED_AGAIN]]
        self._again = [entry for entry, _ in found]
        heard = [await self._ask_one(self._people[0], entry) for entry in self._again]
        self._before = fmean(score(each.said, each.entry.answer).token_f1 for each in heard)
        stage.counts = {"asked": len(heard), "token_f1": round(self._before, 3)}
        stage.done = bool(heard)
        stage.said = f"{len(heard)} held-out questions: token F1 {self._before:.3f} before training"

    async def _train(self, stage: Stage) -> None:
        await self._ann.command(ADMIN_CHANNEL, "/train", self._options)
        self._run = await self._newest_run()
        if self._run is None:
            stage.said = await self._last_whisper()
            return
        self._run = await self._follow(self._run, {RunState.EVALUATING, RunState.REPORTING})
        progress = self._run.progress
        stage.counts = {"steps": progress.get("step"), "loss": progress.get("loss"), "run": self._run.number}
        stage.done = self._run.version_id is not None
        stage.said = (
            f"run #{self._run.number}: {progress.get('step')} steps"
            if stage.done
            else self._run.reason or f"run #{self._run.number} made no model"
        )

    async def _newest_run(self) -> TrainingRun | None:
        for _ in range(100):
            runs = await self._shop.store.runs(self._shop.team, limit=1)
            if runs:
                return runs[0]
            await asyncio.sleep(0.1)
        return None

    async def _last_whisper(self) -> str:
        messages = await self._ann.messages(ADMIN_CHANNEL)
        said = [message["text"] for message in messages if message.get("ephemeral")]
        return said[-1] if said else "/train was not answered"

    async def _follow(self, run: TrainingRun, until: set[RunState]) -> TrainingRun:
        last = 0.0
        async with asyncio.timeout(RUN_S):
            while True:
                now = await self._shop.store.run(run.id)
                run = now or run
                if run.state in until or run.state.final:
                    return run
                if run.progress.get("step") and time.monotonic() - last > 10:
                    last = time.monotonic()
                    self._say(f"{'':<10}{report_blocks.stage_now(run)}")
                await asyncio.sleep(0.2)

    async def _evaluate(self, stage: Stage) -> None:
        assert self._run is not None
        self._run = await self._follow(self._run, {RunState.REPORTING})
        evaluation = await self._shop.store.evaluation(self._run.evaluation_id or "")
        if evaluation is None or not evaluation.sheet:
            stage.said = self._run.reason or "there is no evaluation"
            return
        self._report.scores = scores_of(evaluation)
        self._report.verdict, self._report.reason = self._run.outcome, self._run.reason
        base, after = self._report.scores[BASE], self._report.scores[CHALLENGER]
        stage.counts = {"held_out": base["n"]}
        stage.done = True
        stage.said = (
            f"{base['n']} held-out questions: token F1 {base['token_f1']:.3f} -> {after['token_f1']:.3f}, "
            f"verdict: {self._run.outcome}"
        )

    async def _read_report(self, stage: Stage) -> None:
        assert self._run is not None
        number = self._run.number
        self._message = await self._ann.wait_for_message(
            ADMIN_CHANNEL, lambda message: _is_report(message, number), timeout_s=60
        )
        messages = await self._ann.messages(ADMIN_CHANNEL)
        reports = [
            message
            for message in messages
            if f"run #{number}" in message["text"] and not message.get("ephemeral")
        ]
        stage.counts = {"messages": len(reports), "blocks": len(self._message["blocks"])}
        stage.done = len(reports) == 1
        stage.said = f"one report in the admin channel: {self._message['text'][:160]}"

    async def _promote(self, stage: Stage) -> None:
        assert self._run is not None
        chosen = report_blocks.PROMOTE if self._run.outcome == "promote" else report_blocks.KEEP
        await self._ann.click(ADMIN_CHANNEL, self._message["ts"], chosen, value=self._run.id)
        await self._ann.wait_for_message(
            ADMIN_CHANNEL, lambda message: _is_decided(message, self._message["ts"]), timeout_s=60
        )
        current = await self._shop.store.current(self._shop.team)
        stage.done = current is not None and current.id == self._run.version_id
        stage.said = (
            f"{current.name} serves now"
            if current
            else "the verdict was not to promote, so the admin pressed Keep"
        )

    async def _ask_again(self, stage: Stage) -> None:
        heard = [await self._ask_one(self._people[1], entry) for entry in self._again]
        after = fmean(score(each.said, each.entry.answer).token_f1 for each in heard)
        stage.counts = {
            "asked": len(heard),
            "token_f1_before": round(self._before, 3),
            "token_f1": round(after, 3),
        }
        stage.done = after > self._before
        stage.said = (
            f"the same {len(heard)} held-out questions: token F1 {self._before:.3f} before, {after:.3f} now"
        )


@dataclass(frozen=True)
class _Heard:
    """An answer that a person got."""

    person: Person
    entry: NewEntry
    message: dict[str, Any]

    @property
    def said(self) -> str:
        return str(self.message["blocks"][0]["text"])

    @property
    def from_memory(self) -> bool:
        return "verified answer" in str(self.message["blocks"][1])


Play = Callable[[_Rehearsal, Stage], Awaitable[None]]
STAGES: Sequence[tuple[str, Play]] = (
    ("start", _Rehearsal._open),
    ("import", _Rehearsal._import),
    ("ask", _Rehearsal._ask),
    ("rate", _Rehearsal._rate),
    ("before", _Rehearsal._ask_before),
    ("train", _Rehearsal._train),
    ("evaluate", _Rehearsal._evaluate),
    ("report", _Rehearsal._read_report),
    ("promote", _Rehearsal._promote),
    ("ask again", _Rehearsal._ask_again),
)


async def _settled(shop: Workshop, votes: int) -> Any:
    """The tally, once the last press has reached the database."""
    for _ in range(100):
        tally = await shop.store.tally(shop.team)
        if tally.thumbs_up + tally.thumbs_down >= votes and tally.corrections >= tally.thumbs_down:
            break
        await asyncio.sleep(0.1)
    return tally


def _is_answer(message: dict[str, Any]) -> bool:
    return message.get("user") == APPRENTICE and any(
        block["type"] == "context_actions" for block in message.get("blocks", [])
    )


def _asks_consent(message: dict[str, Any]) -> bool:
    return any(
        element.get("action_id") == f"{blocks.CONSENT}_yes"
        for block in message.get("blocks", [])
        for element in block.get("elements", [])
    )


def _is_report(message: dict[str, Any], number: int) -> bool:
    has_buttons = any(block["type"] == "actions" for block in message.get("blocks", []))
    return f"run #{number}" in message.get("text", "") and has_buttons


def _is_decided(message: dict[str, Any], ts: str) -> bool:
    decided = any(
        "Promoted by" in str(block) or "Kept what serves" in str(block) for block in message.get("blocks", [])
    )
    return message.get("ts") == ts and decided
