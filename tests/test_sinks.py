"""Nothing that was planted survives anywhere: in no table, file, log, request to a provider or message of the bot.

Every way in is walked by the real bot on the local workspace, with a model that repeats what it is asked and says secrets
of its own. Then every byte is searched. The workspace's own file is Slack's, not ours: people's messages lie there as sent.
"""

import asyncio
import io
import itertools
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redaction_corpus as corpus
from answer_rig import Room, room_at
from bot_process import CLEOS_DM, HELP, Json, eventually
from postgres import postgres_url
from sqlalchemy import text
from terminal import Terminal, logging_as_it_was

from bot import logs
from bot.settings import Settings
from bot.slack import blocks
from bot.slack.feedback_blocks import answer_id_in
from bot.slack.shortcut_blocks import ANSWER, QUESTION, TOPIC
from bot.workspace import Person
from storage.database import Database
from storage.errors import PublicError
from storage.records import Record
from storage.words import clean
from training.datasets import freeze

SEED = 7
IDS = ",".join(corpus.COUNTRIES)
SHORTEST = 8
PIECE = 2_500  # characters: what a field of a window takes
QUESTION_LIMIT = 40_000
OURS_IN_SLACK = ("chat.", "views.", "files.")
"""The calls by which we put words into Slack."""


@dataclass(frozen=True)
class Plant:
    """Something that must not survive: how it stands in a text, and what nobody may find."""

    name: str
    text: str
    needles: tuple[str, ...]


@dataclass
class Sinks:
    """What reached each sink, squeezed: without white space, so that what is split over lines is found, too."""

    texts: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, text: str) -> None:
        self.texts.setdefault(name, []).append(squeezed(text))

    def survivors(self, plants: Iterable[Plant]) -> dict[str, list[str]]:
        """Per sink the names of what was planted and is found there."""
        wanted = [(plant.name, squeezed(needle)) for plant in plants for needle in plant.needles]
        return {
            sink: sorted({name for name, needle in wanted if any(needle in text for text in texts)})
            for sink, texts in self.texts.items()
        }


def squeezed(text: str) -> str:
    """Without white space, real or written as an escape, without Markdown's marks of quotes and code, in one case."""
    return re.sub(r"(?:\\+[nrt]|\s|&gt;|[>`*])+", "", text).casefold()


def batches(plants: Sequence[Plant], size: int) -> list[str]:
    """All of them, as many in one text as have room."""
    found, text = [], ""
    for plant in plants:
        if text and len(text) + len(plant.text) > size:
            found.append(text)
            text = ""
        text += f"{plant.text}\n\n"
    return [*found, text]


async def every_way_in(room: Room, plants: Sequence[Plant]) -> None:
    """People ask, correct, give reasons and propose; the model repeats it all and says the same of its own accord."""
    team, pieces = room.team, batches(plants, PIECE)
    own = itertools.cycle(pieces)
    room.api.says = lambda question: f"{question}\n\nI know that, too:\n\n{next(own)}"
    first = await room.asked("Who is there?")
    answer = await room.answer(first)
    for number, piece in enumerate(pieces):
        await ask_somehow(room, number, piece, first)
        await drained(room)
        who = (team.ann, team.ben, team.cleo, team.dan)[number % 4]
        await correct(who, answer, piece)
        await nominate(who, piece)
        await state_a_reason(room, answer, who.user, piece)


async def ask_somehow(room: Room, number: int, said: str, first: str) -> None:
    """By mention, in a direct message, by command, in a thread: one after the other."""
    cleo = room.team.cleo
    if number % 4 == 0:
        await cleo.post(HELP, f"@apprentice {said}")
    elif number % 4 == 1:
        await cleo.post(CLEOS_DM, said)
    elif number % 4 == 2:
        await patiently(lambda: cleo.command(HELP, "/apprentice", f"ask {said}"))
    else:
        await cleo.post(HELP, f"@apprentice {said}", first)


async def patiently(act: Callable[[], Awaitable[Json]]) -> Json:
    """Slack waits three seconds for an acknowledgement, and a person then tries again: this machine may be busy."""
    for _ in range(10):
        try:
            return await act()
        except PublicError as error:
            if "operation_timeout" not in str(error):
                raise
    return await act()


async def everybody_joins(room: Room) -> None:
    """Those whose names are planted belong to the workspace."""
    for number, name in enumerate(corpus.MEMBERS.values()):
        await room.team._post("member", {"user": f"U0NEW{number}", "real_name": name})

    async def known() -> bool:
        return all("PERSON" in clean(f"by {name} today") for name in corpus.MEMBERS.values())

    await eventually(known, what="their names are known")


async def correct(person: Person, answer: Json, piece: str) -> None:
    """A better answer, by the window; its reason is chosen from a menu there."""
    await person.click(HELP, answer["ts"], "improve_answer")
    view = await person.wait_for_view(lambda view: "Loading" not in str(view), timeout_s=30)
    given = {blocks.BETTER: piece, blocks.REASON: "wrong", blocks.MAY_TRAIN: ["yes"]}
    assert await patiently(lambda: person.submit(view["id"], given)) == {"ok": True}


async def state_a_reason(room: Room, answer: Json, rater: str, piece: str) -> None:
    """A reason in somebody's own words, as the store takes it."""
    store, team = room.bot.workshop.store, room.bot.workshop.team
    await store.rate(answer_id_in(answer), team=team, rater=rater, value=-1, reason=piece)


async def nominate(person: Person, piece: str) -> None:
    """A message of one's own becomes an example, with question, answer and topic."""
    ts = await person.post(HELP, piece)
    await person.shortcut(HELP, ts, "train_add")
    view = await person.wait_for_view(timeout_s=30)
    given = {QUESTION: f"{ts} {piece}"[:2_900], ANSWER: piece, TOPIC: piece[:60]}
    assert await patiently(lambda: person.submit(view["id"], given)) == {"ok": True}


async def drained(room: Room) -> None:
    """Every question is answered."""
    store = room.bot.workshop.store

    async def done() -> bool:
        return not await store.owed_questions()

    await eventually(done, timeout_s=60, what="every question is answered")


async def dataset(room: Room, folder: Path) -> int:
    """What was said becomes a dataset, whose files lie in the data directory; its rows."""
    store, team = room.bot.workshop.store, room.bot.workshop.team
    for person in ("U0ANN", "U0BEN", "U0CLEO", "U0DAN"):
        await store.set_consent(team, person, True)
    frozen = await freeze(store, folder / "datasets", team=team, salt="salt")
    assert frozen.path.is_dir()
    return frozen.examples


async def look_into_slack(room: Room, sinks: Sinks) -> None:
    """What we said there, by every call, and what providers were sent. (Answers to calls show what people typed there.)"""
    async with room.team.http.get(f"{room.team.url}/_control/calls") as response:
        calls = (await response.json())["calls"]
    for call in calls:
        if call["method"].startswith(OURS_IN_SLACK):
            sinks.add(f"Slack: {call['method']}", json.dumps(call.get("args"), ensure_ascii=False))
    for request in room.api.requests:
        sinks.add("requests to a provider", json.dumps(request, ensure_ascii=False))


async def look_into_tables(url: str, sinks: Sinks) -> None:
    """Every value of every table, past all our types."""
    database = Database(url)
    async with database.reading() as session:
        connection = await session.connection()
        for table in Record.metadata.sorted_tables:
            for row in await connection.execute(text(f'SELECT * FROM "{table.name}"')):
                sinks.add(
                    f"table {table.name}", json.dumps([str(value) for value in row], ensure_ascii=False)
                )
    await database.close()


def look_into_files(folder: Path, sinks: Sinks) -> None:
    """Every byte under the data directory, but for the workspace's own file."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.name.startswith("workspace.sqlite"):
            sinks.add("files of the data directory", file.read_bytes().decode("utf-8", "replace"))


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """A folder with nothing set."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    with logging_as_it_was():
        yield Terminal(tmp_path, capsys)


@pytest.mark.parametrize(
    ("kind", "share"), [("sqlite", 4), pytest.param("postgresql", 24, marks=pytest.mark.postgres)]
)
def test_nothing_that_was_planted_survives(
    kind: str, share: int, request: pytest.FixtureRequest, terminal: Terminal, tmp_path: Path
) -> None:
    """All of it through every way in; it is in no table, no file, no log, no request and no message."""
    url = (
        f"sqlite:///{terminal.data / 'apprentice.sqlite'}"
        if kind == "sqlite"
        else postgres_url(request.config)
    )
    plants, sinks, log = planted(share), Sinks(), io.StringIO()
    logs.set_up("DEBUG", "json", log)

    async def story() -> None:
        settings = {"database_url": url, "question_limit": QUESTION_LIMIT, "redact_national_ids": IDS}
        async with room_at(tmp_path, **settings) as room:
            await everybody_joins(room)
            await every_way_in(room, plants)
            assert await dataset(room, terminal.data) > 0
            await look_into_slack(room, sinks)

    asyncio.run(story())
    terminal.configure(sample_domain="false", database_url=url, log_level="DEBUG", redact_national_ids=IDS)
    look_at_the_terminal(terminal, plants, sinks)
    sinks.add("log", log.getvalue())
    asyncio.run(look_into_tables(url, sinks))
    look_into_files(terminal.data, sinks)
    found = sinks.survivors(plants)
    for sink, names in sorted(found.items()):
        print(
            f"{sink}: {len(names)} of {len(plants)} survived ({sum(map(len, sinks.texts[sink])):,} characters)"
        )
    assert {sink: names for sink, names in found.items() if names} == {}
    assert sum(map(len, sinks.texts["table question"])) > 1_000, "the questions were kept"
    assert "<secret_" in "".join(sinks.texts["table candidate"]), "and what the model said"


def look_at_the_terminal(terminal: Terminal, plants: Sequence[Plant], sinks: Sinks) -> None:
    """Imports of files, and everything that is written from the store."""
    rows: list[dict[str, object]] = [
        {"question": f"{number}: {piece}", "answer": piece, "topic": piece[:80], "thread": piece[:80]}
        for number, piece in enumerate(batches(plants, PIECE))
    ]
    file = terminal.write("faq.jsonl", *rows)
    runs = [
        terminal.run("import", str(file), "--source", plants[0].text),
        terminal.run("export", "examples.jsonl"),
        terminal.run("export", "--person", "U0CLEO", "person.json"),
    ]
    for ended in runs:
        assert ended.code == 0, ended.err
        sinks.add("what the terminal prints", ended.out + ended.err)
    file.unlink()
    for name in ("examples.jsonl", "person.json"):
        sinks.add("exported files", (terminal.folder / name).read_text(encoding="utf-8"))


def planted(share: int) -> list[Plant]:
    """One in `share` of the corpus, of every shape and in every disguise. What is too short to be searched for is left out.

    A first name such as May is found in half of all sentences; `tests/test_redaction_names.py` looks at those.
    """
    found = []
    for item in corpus.planted(SEED)[::share]:
        needles = tuple(each for each in item.survivors if len(squeezed(each)) >= SHORTEST)
        if needles:
            found.append(Plant(f"{item.shape}, {item.carrier}: {item.secret[:20]!r}", item.text, needles))
    return found
