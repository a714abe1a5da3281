"""A bot for stories: in this process, or in one of its own that can be killed while "Slack" lives on; and who talks to it.

It starts what a person would start and looks only at what such a person or an operator can see: messages, files, rows.
"""

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil

from bot.app import Bot, start
from bot.settings import Policy, Settings
from bot.workspace import Person
from bot.workspace.web_api import ApiCall, WebApi
from storage.records import RunState, TrainingRun
from training import rundir

Json = dict[str, Any]
Process = Any
ps: Any = psutil  # it carries no types
T = TypeVar("T")

HELP, ADMIN_CHANNEL, CLEOS_DM = "C0HELP", "C0ADMIN", "D0CLEO"
APPRENTICE = "U0APPRENTICE"
START_S = 60.0
ANSWER_S = 60.0


@dataclass
class Elsewhere:
    """Where a bot's rows lie if not in its SQLite file; `tests/on_postgres.py` says so for the whole session."""

    url: Callable[[str], str] = lambda _: ""
    query: Callable[[str, str, Sequence[object]], list[tuple[Any, ...]]] = lambda *_: []


ELSEWHERE = Elsewhere()

TOOL_LIBRARY: Sequence[tuple[str, Sequence[str], str]] = (
    (
        "We open at nine.",
        ("When do you open?", "Opening time?", "When does the shop open?", "What time do you open today?"),
        "From which hour on is somebody there?",
    ),
    (
        "A drill costs two coins.",
        ("What does a drill cost?", "Price of a drill?", "How much for a drill?", "Is the drill expensive?"),
        "What would I pay for boring holes?",
    ),
    (
        "Keep it for a week.",
        ("How long may I keep a tool?", "Lending time?", "For how many days?", "When is a tool due back?"),
        "Which time limit do loans have?",
    ),
    (
        "Pay at the blue desk.",
        ("Where do I pay?", "Which desk takes money?", "Where is the till?", "Who takes my payment?"),
        "To whom shall I hand the coins?",
    ),
    (
        "Yes, by telephone.",
        ("Can I reserve a saw?", "May I book a saw?", "Is booking possible?", "How do I reserve?"),
        "Could somebody put one aside?",
    ),
    (
        "Tell us, we repair it.",
        ("What if a tool breaks?", "It broke, and now?", "My ladder is broken.", "Who repairs broken tools?"),
        "Mine fell into pieces, help!",
    ),
    (
        "Bring your library card.",
        ("What must I bring?", "Which card do I need?", "Do I need papers?", "What shall I show you?"),
        "Any document wanted?",
    ),
    (
        "Clean it with a brush.",
        ("How do I clean a tool?", "Must I clean it?", "It is dirty, and now?", "What cleans a spade?"),
        "There is mud all over it.",
    ),
)
"""(answer, phrasings to learn from, a phrasing held out) of a lending library for tools."""
HELD_OUT = [held_out for _, _, held_out in TOOL_LIBRARY]


def write_faq(path: Path, *, openings: Sequence[str] = ("",)) -> Path:
    """The tool library as a file somebody might import: 8 threads, 32 questions to learn from and 8 held out.

    With `openings` ("Hello, ") the held-out questions come once with each.
    """
    rows = [
        {"question": question, "answer": answer, "thread": thread, "split": split}
        for thread, (answer, taught, held_out) in enumerate(TOOL_LIBRARY)
        for split, questions in (("train", taught), ("test", [first + held_out for first in openings]))
        for question in questions
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


async def until(look: Callable[[], T], *, timeout_s: float, what: str) -> T:
    """What `look` returns once it is true-ish. Raises TimeoutError that says what was waited for."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := look():
            return found
        await asyncio.sleep(0.01)
    raise TimeoutError(f"In {timeout_s:.0f} s it did not happen that {what}.")


async def eventually(look: Callable[[], Awaitable[T | None]], *, timeout_s: float = 20.0, what: str) -> T:
    """`until` for what has to be asked."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := await look():
            return found
        await asyncio.sleep(0.01)
    raise TimeoutError(f"In {timeout_s:.0f} s it did not happen that {what}.")


async def worked(
    data_dir: Path, look: Callable[[], T], *, work_s: float = 90.0, absent_s: float = 120.0, what: str
) -> T:
    """`until` for what a trainer brings about: it has so many seconds of a core for it.

    A trainer stands behind whoever else wants a core (`training.finetuners.local`), and on a busy machine there is always
    somebody: what it got says more than what the clock shows. Raises TimeoutError when it used them up, or is absent.
    """
    used, seen = 0.0, time.monotonic()
    before: dict[int, float] = {}
    while not (found := look()):
        for trainer in trainers(data_dir):
            with suppress(ps.NoSuchProcess):
                spent = trainer.cpu_times()
                total = spent.user + spent.system
                used += total - before.get(trainer.pid, total)
                before[trainer.pid], seen = total, time.monotonic()
        if used > work_s or time.monotonic() - seen > absent_s:
            raise TimeoutError(f"With {used:.0f} s of a core it did not happen that {what}.")
        await asyncio.sleep(0.2)
    return found


# --- People -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Team:
    """The people of the local workspace, and its control API for what people cannot do."""

    url: str
    http: aiohttp.ClientSession

    def __getattr__(self, name: str) -> Person:
        if name not in {"ann", "ben", "cleo", "dan"}:
            raise AttributeError(name)
        return Person(self.url, f"U0{name.upper()}", self.http)

    async def fault(self, **how: Any) -> None:
        """Trouble for calls of one method, see `bot.workspace.faults`."""
        await self._post("fault", how)

    async def all_well(self) -> None:
        """No more trouble for calls that come from now on."""
        await self._post("fault", {"clear": True})

    async def calls(self, *methods: str) -> list[Json]:
        """Every call of these Web API methods so far, oldest first."""
        async with self.http.get(f"{self.url}/_control/calls") as response:
            calls: list[Json] = (await response.json())["calls"]
        return [call for call in calls if call["method"] in methods]

    async def _post(self, route: str, body: Json) -> None:
        async with self.http.post(f"{self.url}/_control/{route}", json=body) as response:
            answer = await response.json()
        assert answer["ok"], answer


@asynccontextmanager
async def team_at(url: str) -> AsyncIterator[Team]:
    """The people of a workspace."""
    async with aiohttp.ClientSession() as http:
        yield Team(url, http)


async def ask(
    person: Person,
    question: str,
    *,
    channel: str = HELP,
    thread_ts: str | None = None,
    timeout_s: float = ANSWER_S,
) -> Json:
    """Ask and wait for the answer in the thread."""
    words = question if channel.startswith("D") else f"@apprentice {question}"
    ts = await person.post(channel, words, thread_ts)
    root = thread_ts or ts
    return await person.wait_for_message(
        channel,
        lambda message: is_answer(message) and message["ts"] > ts,
        thread_ts=root,
        timeout_s=timeout_s,
    )


async def said_to(person: Person, question: str, *, channel: str = HELP, timeout_s: float = ANSWER_S) -> str:
    """Post something and wait for whatever the bot says to it, an answer or a sentence."""
    ts = await person.post(channel, question)
    message = await person.wait_for_message(
        channel, lambda each: each["user"] == APPRENTICE, thread_ts=ts, timeout_s=timeout_s
    )
    return str(message["text"])


async def replies(person: Person, ts: str, channel: str = HELP) -> list[Json]:
    """What the bot has said in a thread."""
    return [each for each in await person.messages(channel, ts) if is_from_bot(each)]


def is_from_bot(message: Json) -> bool:
    return message.get("user") == APPRENTICE and not message.get("ephemeral")


def is_answer(message: Json) -> bool:
    """Whether this is an answer with its thumbs."""
    return is_from_bot(message) and any(
        block["type"] == "context_actions" for block in message.get("blocks", [])
    )


def words_of(answer: Json) -> str:
    """What an answer says."""
    return str(answer["blocks"][0]["text"])


def who_answered(answer: Json) -> str:
    """The small line under an answer."""
    return str(answer["blocks"][1]["elements"][0]["text"])


def id_of(answer: Json) -> str:
    """The opaque id that an answer's buttons carry."""
    value: str = thumbs(answer)["positive_button"]["value"]
    return value.rpartition(":")[0]


def thumbs(answer: Json) -> Json:
    """The feedback buttons below an answer."""
    block = next(each for each in answer["blocks"] if each["type"] == "context_actions")
    element: Json = block["elements"][0]
    return element


async def rate(person: Person, answer: Json, value: int, *, channel: str = HELP) -> None:
    """Press a thumb below an answer."""
    element = thumbs(answer)
    button = element["positive_button" if value > 0 else "negative_button"]
    await person.click(channel, answer["ts"], element["action_id"], value=button["value"])


async def reports(person: Person, number: int) -> list[Json]:
    """The messages in the admin channel about a training run."""
    messages = await person.messages(ADMIN_CHANNEL)
    return [
        each for each in messages if is_from_bot(each) and each["text"].startswith(f"Training run #{number}:")
    ]


# --- A bot in this process ----------------------------------------------------------------------------------


def quick_settings(data_dir: Path, **chosen: Any) -> Settings:
    """The embedded defaults without the handbook, and with nothing of this machine's environment."""
    plain: dict[str, Any] = {
        "data_dir": data_dir,
        "database_url": "",
        "workspace_port": 0,
        "slack_bot_token": None,
        "slack_app_token": None,
        "slack_api_url": "",
        "admin_users": (),
        "admin_channel": "",
        "local_model": "",
        "openai_api_key": None,
        "openai_base_url": "",
        "gemini_api_key": None,
        "gemini_base_url": "",
        "answer_policy": Policy.LOCAL_ONLY,
        "sample_domain": False,
        "solicit_rate": 0.0,
        "train_quantization": "none",
        "train_epochs": 5.0,
    }
    return Settings.read(None, **{**plain, **chosen})


@asynccontextmanager
async def bot_in_here(data_dir: Path, **chosen: Any) -> AsyncIterator[tuple[Bot, Team]]:
    """A running bot with its own local workspace, and the people there. Nothing is left running.

    The local model starts with the first question for it: most tests ask none, and importing torch takes seconds.
    """
    bot = await start(quick_settings(data_dir, **chosen), warm=False)
    try:
        async with team_at(bot.url) as team:
            yield bot, team
    finally:
        await bot.stop()
        end_trainers(data_dir)


async def run_when(
    bot: Bot, wanted: Callable[[TrainingRun], object], *, timeout_s: float = 120.0
) -> TrainingRun:
    """The newest run, once it is as wanted. A run that ends otherwise is an AssertionError with its reason."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        for run in await bot.workshop.store.runs(bot.workshop.team, limit=1):
            if wanted(run):
                return run
            assert run.state not in {RunState.FAILED, RunState.DECLINED, RunState.CANCELLED}, run.reason
        await asyncio.sleep(0.02)
    raise TimeoutError(f"The run did not come that far in {timeout_s:.0f} s.")


# --- Processes ----------------------------------------------------------------------------------------------


def lives(process: Process) -> bool:
    """Whether a process still does anything; one that nobody has buried yet does not."""
    try:
        return bool(process.is_running() and process.status() != ps.STATUS_ZOMBIE)
    except ps.NoSuchProcess:
        return False


def trainers(data_dir: Path) -> list[Process]:
    """The living trainers of a data directory."""
    found = []
    for process in ps.process_iter():
        with suppress(ps.NoSuchProcess, ps.AccessDenied):
            command = process.cmdline()
            ours = "training.qlora" in command and any(word.startswith(str(data_dir)) for word in command)
            if ours and lives(process):
                found.append(process)
    return found


def end_trainers(data_dir: Path) -> None:
    """Trainers outlive bots by design; tests leave none behind."""
    for process in trainers(data_dir):
        with suppress(ps.NoSuchProcess):
            process.kill()
            process.wait(10)


@dataclass
class Served:
    """A program that prints its address on standard output when it is ready."""

    command: Sequence[str]
    environment: dict[str, str]
    folder: Path
    log: Path
    process: asyncio.subprocess.Process | None = None
    line: str = ""

    async def start(self) -> str:
        """Start it and wait for the line with its address; the address. Raises AssertionError with its log."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_S):
            async for raw in self.process.stdout:
                line = raw.decode()
                if "http://" in line:
                    return next(word for word in line.split() if word.startswith("http://"))
        raise AssertionError(f"{self.command[1:]} ended: {self.log.read_text(errors='replace')[-2000:]}")

    def children(self) -> list[Process]:
        """Its living children, theirs included."""
        if self.process is None:
            return []
        with suppress(ps.NoSuchProcess):
            return [each for each in ps.Process(self.process.pid).children(recursive=True) if lives(each)]
        return []

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@dataclass
class BotLives:
    """One bot on one data directory, through as many lives as a test wants, in a workspace that outlives them."""

    data_dir: Path
    url: str
    log: Path
    environment: dict[str, str]
    life: Served | None = None
    children: list[Process] = field(default_factory=list)

    async def start(self) -> None:
        """Another life: `apprentice serve`, ready to be asked.

        On a server what an earlier life had claimed stays claimed until its lease runs out; here it has run out.
        """
        if self.life is not None and self._elsewhere():
            for table in ("question", "training_run", "evaluation", "forgetting"):
                self.change(f"UPDATE {table} SET lease_until = NULL")
        command = [sys.executable, "-m", "bot.cli", "serve", "--data-dir", str(self.data_dir)]
        self.life = Served(command, self.environment, self.data_dir.parent, self.log)
        assert await self.life.start() == self.url

    async def kill(self) -> None:
        """kill -9 of the bot and nothing else."""
        assert self.life is not None
        self.children += self.life.children()
        await self.life.kill()

    async def local_worker(self) -> Process:
        """The process of the local model."""
        life = self.life
        assert life is not None

        def look() -> Process | None:
            return next((each for each in life.children() if _runs(each, "bot.models.local_worker")), None)

        found = await until(look, timeout_s=START_S, what="the local model's process is there")
        assert found is not None
        return found

    async def alone(self) -> None:
        """Nobody is left of earlier lives but trainers. Raises TimeoutError."""
        others = [each for each in self.children if not _runs(each, "training.qlora")]
        await until(
            lambda: not any(lives(each) for each in others),
            timeout_s=20,
            what="the children of a killed bot have ended",
        )

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds in the bot's database."""
        file = self.data_dir / "apprentice.sqlite"
        if elsewhere := self._elsewhere():
            return ELSEWHERE.query(elsewhere, query, values)
        if not file.exists():
            return []
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(query, values).fetchall()

    def change(self, statement: str) -> None:
        """Change the database behind the bot's back."""
        if elsewhere := self._elsewhere():
            ELSEWHERE.query(elsewhere, statement, ())
            return
        with closing(sqlite3.connect(self.data_dir / "apprentice.sqlite", timeout=30)) as database, database:
            database.execute(statement)

    def _elsewhere(self) -> str:
        return ELSEWHERE.url(f"sqlite:///{self.data_dir / 'apprentice.sqlite'}")

    @contextmanager
    def no_change_of(self, table: str) -> Iterator[None]:
        """Within the block each UPDATE of a table fails."""
        held = f"CREATE TRIGGER held BEFORE UPDATE ON {table} "
        if self._elsewhere():
            refuses = "BEGIN RAISE EXCEPTION 'held'; END"
            self.change(f"CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $${refuses}$$")
            self.change(f"{held} FOR EACH ROW EXECUTE FUNCTION held()")
        else:
            self.change(f"{held} BEGIN SELECT RAISE(ABORT, 'held'); END")
        yield
        self.change(f"DROP TRIGGER held ON {table}" if self._elsewhere() else "DROP TRIGGER held")

    async def imported(self, faq: Path) -> None:
        """`apprentice import`."""
        command = ("-m", "bot.cli", "import", str(faq), "--data-dir", str(self.data_dir))
        importing = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=self.data_dir.parent,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(importing.communicate(), START_S)
        assert importing.returncode == 0, said.decode()

    def run_dir(self) -> Path | None:
        """The directory of the one training run, once there is one."""
        return next((self.data_dir / "runs").glob("*"), None)

    def steps(self) -> list[Json]:
        """What the trainer has told so far."""
        found = self.run_dir()
        return rundir.read_progress(found) if found is not None else []

    async def end(self) -> None:
        """Leave nothing behind."""
        if self.life is not None:
            self.children += self.life.children()
            await self.life.kill()
        for child in self.children:
            with suppress(ps.NoSuchProcess):
                child.kill()
        end_trainers(self.data_dir)


def _runs(process: Process, module: str) -> bool:
    try:
        return module in process.cmdline()
    except (ps.NoSuchProcess, ps.AccessDenied):
        return False


@asynccontextmanager
async def lives_of_a_bot(folder: Path, **settings: str) -> AsyncIterator[tuple[BotLives, Team]]:
    """A bot that is not started yet and a workspace in a process of its own, with its people. `settings` as in .env."""
    environment = {
        **{name: value for name, value in os.environ.items() if name.upper() not in _unwanted()},
        "SAMPLE_DOMAIN": "false",
        "SOLICIT_RATE": "0",
        "TRAIN_QUANTIZATION": "none",
        "ANSWER_POLICY": "local-only",
        "LOG_FORMAT": "text",
        **settings,
    }
    log = folder / "bot.log"
    command = [
        sys.executable,
        "-m",
        "bot.cli",
        "workspace",
        "--port",
        "0",
        "--state",
        str(folder / "slack.sqlite"),
    ]
    workspace = Served(command, environment, folder, folder / "workspace.log")
    url = await workspace.start()
    data_dir = folder / "data"
    data_dir.mkdir()
    elsewhere = ELSEWHERE.url(f"sqlite:///{data_dir / 'apprentice.sqlite'}")
    bot = BotLives(
        data_dir, url, log, {**environment, "SLACK_API_URL": f"{url}/api/", "DATABASE_URL": elsewhere}
    )
    try:
        async with team_at(url) as team:
            yield bot, team
            await bot.end()
            await tell_observers(team)
    finally:
        await bot.end()
        await workspace.kill()


async def tell_observers(team: Team) -> None:
    """What a workspace in another process was asked and answered, to who listens to those of this process."""
    async with team.http.get(f"{team.url}/_control/calls") as response:
        noted = (await response.json())["calls"]
    for call in noted:
        if "fault" in call["answer"]:  # noted without its arguments
            continue
        told = ApiCall(call["method"], call["args"], call["answer"], status=200, injected=False)
        for observer in WebApi.observers:
            observer(told)


def _unwanted() -> set[str]:
    """Settings of this machine that must not reach a bot under test."""
    return {name.upper() for name in Settings.model_fields}
