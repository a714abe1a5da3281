"""The bot under load: 50 questions a second for a minute, answered from memory, then 2,000 button presses in ten seconds.

Real events over Socket Mode to a real bot on the embedded defaults, in a process of its own together with the local
workspace. Slack's side of that process times every acknowledgement (`bot_under_test --acks`). What is lost or doubled is
counted in the workspace's threads; votes in the bot's database.
"""

import asyncio
import json
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bot.errors import PublicError
from bot.slack import blocks
from bot.workspace.people import Person
from tests.benchmarks.bench_bot import bot_in_a_process
from tests.benchmarks.figure import Figure
from tests.bot_process import eventually

Json = dict[str, Any]
HELP = "C0HELP"
HANDBOOK = Path(__file__).parents[2] / "bot" / "handbook" / "handbook.jsonl"
QUESTIONS_PER_S, QUESTIONS_S = 50, 60
PRESSES, PRESSES_S = 2_000, 10
PEOPLE = 20
DOWN_EVERY = 10
DRAIN_S = 180.0
SETTLE_S = 5.0
SLACKS_DEADLINE_MS = 3_000


@dataclass
class Pressed:
    """A vote that was cast, and how."""

    answer: Json
    person: Person
    value: int


@dataclass
class Load:
    """One run: what was asked, by whom, and what was pressed."""

    url: str
    folder: Path
    http: aiohttp.ClientSession
    threads: list[str] = field(default_factory=list)
    answers: list[Json] = field(default_factory=list)
    pressed: list[Pressed] = field(default_factory=list)
    began: dict[str, float] = field(default_factory=dict)

    def person(self, number: int) -> Person:
        return Person(self.url, f"U{1000 + number % PEOPLE}", self.http)

    async def ask_all(self) -> None:
        """Ask at the given rate, whatever becomes of it."""
        known = [row["question"] for row in _taught()]
        self.began["questions"] = time.time()

        async def ask(number: int) -> None:
            words = known[number % len(known)]
            self.threads.append(await self.person(number).post(HELP, f"@apprentice {words}"))

        await _at_a_rate(ask, QUESTIONS_PER_S * QUESTIONS_S, per_s=QUESTIONS_PER_S)

    async def lost_or_doubled(self) -> int:
        """Questions without exactly one answer, once all had the time to be answered and to be answered again."""
        with suppress(TimeoutError):
            await eventually(self._all_done, timeout_s=DRAIN_S, what="every question is answered")
        await asyncio.sleep(SETTLE_S)
        found = [await self._answers(ts) for ts in self.threads]
        self.answers = [one for answers in found for one in answers[:1]]
        return sum(len(answers) != 1 for answers in found)

    async def _answers(self, ts: str) -> list[Json]:
        messages = await self.person(0).messages(HELP, ts)
        return [one for one in messages if _is_answer(one)]

    async def press_all(self) -> int:
        """Every press is a vote of another person or on another answer; how many were not kept as they were cast."""
        self.began["presses"] = time.time()

        async def press(number: int) -> None:
            answer = self.answers[number // PEOPLE % len(self.answers)]
            value = -1 if number % DOWN_EVERY == 0 else 1
            cast = Pressed(answer, self.person(number), value)
            self.pressed.append(cast)
            with suppress(
                PublicError
            ):  # acknowledged too late: it counts as that, and whether it was kept is seen
                await cast.person.click(HELP, answer["ts"], blocks.RATE, value=_value(answer, value))

        await _at_a_rate(press, PRESSES, per_s=PRESSES / PRESSES_S)
        with suppress(TimeoutError):
            await eventually(self._all_kept, timeout_s=DRAIN_S, what="every vote is kept")
        return self._not_kept()

    async def _all_kept(self) -> bool:
        return self._not_kept() == 0

    def _not_kept(self) -> int:
        kept = self._votes()
        cast = {(_answer_id(one.answer), one.person.user): one.value for one in self.pressed}
        return PRESSES - sum(kept.get(vote) == value for vote, value in cast.items())

    async def _all_done(self) -> bool:
        """Whether the bot has finished every question; its database is looked into, which costs it nothing."""
        await asyncio.sleep(0.5)
        with closing(self._database()) as database:
            done = database.execute("SELECT count(*) FROM question WHERE state = 'answered'").fetchone()
        return int(done[0]) > len(self.threads)  # one more was asked to warm up

    def _database(self) -> sqlite3.Connection:
        file = self.folder / "apprentice.sqlite"
        return sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)

    def _votes(self) -> dict[tuple[str, str], int]:
        with closing(self._database()) as database:
            rows = database.execute("SELECT answer_id, rater, value FROM rating").fetchall()
        return {(answer, rater): value for answer, rater, value in rows}


def load() -> Iterator[Figure]:
    """Acknowledgements under load, and that every question has one answer and every press its vote."""
    yield from asyncio.run(_load())


async def _load() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="apprentice-load-") as told:
        acks = Path(told) / "acks.json"
        options = ("--people", str(PEOPLE), "--acks", str(acks))
        async with bot_in_a_process(*options) as bot:
            connector = aiohttp.TCPConnector(limit=200)
            async with aiohttp.ClientSession(connector=connector) as http:
                run = Load(bot.url, bot.folder, http)
                await _warmed_up(run)
                await run.ask_all()
                wrong = await run.lost_or_doubled()
                lost = await run.press_all()
        envelopes = json.loads(acks.read_text(encoding="utf-8"))
    asked = [one for one in envelopes if run.began["questions"] <= one["at"] < run.began["presses"]]
    pressed = [
        one for one in envelopes if one["at"] >= run.began["presses"] and one["kind"] == "block_actions"
    ]
    return [
        Figure(
            "ack_p99_ms_load",
            _p99([one for one in asked if one["kind"] == "app_mention"]),
            "ms",
            200,
            "lower",
        ),
        Figure("lost_or_doubled", wrong, "questions", 0, "lower"),
        Figure("press_p99_ms", _p99(pressed), "ms", SLACKS_DEADLINE_MS, "lower"),
        Figure("votes_lost", lost, "votes", 0, "lower"),
    ]


async def _warmed_up(run: Load) -> None:
    """The local model has loaded, and has answered once; nothing of that is measured."""
    ts = await run.person(0).post(
        HELP, "@apprentice zebra quartz lantern, please tell me everything about it"
    )
    await run.person(0).wait_for_message(
        HELP, lambda one: one.get("user") == "U0APPRENTICE", ts, timeout_s=120
    )


async def _at_a_rate(act: Callable[[int], Awaitable[None]], count: int, *, per_s: float) -> None:
    """Begin `count` acts, each at its own time, without waiting for earlier ones; then wait for all."""
    since = time.perf_counter()
    async with asyncio.TaskGroup() as acts:
        for number in range(count):
            await asyncio.sleep(max(0.0, since + number / per_s - time.perf_counter()))
            acts.create_task(act(number))  # type: ignore[arg-type]


def _p99(envelopes: Sequence[Json]) -> float:
    """Milliseconds; an envelope that was never acknowledged counts as the time after which Slack sends it again."""
    taken = sorted(SLACKS_DEADLINE_MS if one["ms"] is None else one["ms"] for one in envelopes)
    return round(float(taken[int(len(taken) * 0.99) - 1]), 1)


def _taught() -> list[Json]:
    rows = [json.loads(line) for line in HANDBOOK.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["split"] == "train"]


def _is_answer(message: Json) -> bool:
    """A request for a rating has thumbs too, and only its asker sees it."""
    thumbs = any(block["type"] == "context_actions" for block in message.get("blocks", []))
    return thumbs and not message.get("ephemeral")


def _value(answer: Json, value: int) -> str:
    """What the thumb carries."""
    row = next(block for block in answer["blocks"] if block["type"] == "context_actions")
    element = row["elements"][0]
    told: str = element["positive_button" if value > 0 else "negative_button"]["value"]
    return told


def _answer_id(answer: Json) -> str:
    return _value(answer, 1).rpartition(":")[0]
