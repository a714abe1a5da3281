"""A desk with a real store and memory, whose models say what a test tells them: small classes with the models' own shape."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from bot.desk import Desk, DeskRules, Judge, Watch
from bot.models import Bill, Call, Meter, OnText
from bot.models.engine import EngineInfo
from bot.models.memory import Memory
from bot.panel import Panel
from bot.serving import Serving
from bot.settings import Policy
from storage.entries import NewEntry
from storage.records import ChannelSettings, Question
from storage.store import Store
from storage.values import Message, Proposal

TEAM, HELP = "T1", "C0HELP"
SURE, UNSURE = -0.1, -1.5


@dataclass
class Speaker:
    """What a model does when it is asked: says pieces of text, fails, or hangs."""

    pieces: Sequence[str] = ("Yes.",)
    fails: Exception | None = None  # after the pieces
    hangs: bool = False  # after the pieces
    asked: list[list[Message]] = field(default_factory=list)
    next_: "Speaker | None" = None  # what it is like from the second question on

    async def speak(self, messages: Sequence[Message], on_text: OnText | None) -> str:
        now = self._now()
        self.asked.append(list(messages))
        for piece in now.pieces:
            if on_text is not None:
                await on_text(piece)
        if now.hangs:
            await asyncio.Event().wait()
        if now.fails is not None:
            raise now.fails
        return "".join(now.pieces)

    def _now(self) -> "Speaker":
        return self.next_ if self.asked and self.next_ is not None else self


@dataclass
class ApiModel:
    """An API model that bills each question."""

    speaker: Speaker
    kind: str = "openai"
    label: str = "gpt-6-luna"

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        if meter is not None:
            await meter.before(Call(self.kind, self.label, 100, 100))
        try:
            said = await self.speaker.speak(messages, on_text)
        finally:
            if meter is not None:
                meter.bill(Bill(self.kind, self.label, tokens_in=10, tokens_out=5, cost_usd=0.001))
        return Proposal(said, self.kind, self.label, cost_usd=0.001)


@dataclass
class LocalMachine:
    """An engine of the local model."""

    speaker: Speaker
    logprob: float = SURE
    finish: str = "stop"
    label: str = "starter"
    info: EngineInfo | None = None

    async def start(self) -> EngineInfo:
        return EngineInfo("starter", "cpu", "float32", 512, 1)

    async def stop(self) -> None:
        """Nothing runs."""

    async def load(self, version_id: str, path: Path) -> None:
        """Every adapter fits."""

    async def unload(self, version_id: str) -> None:
        """Nothing is kept."""

    async def answer(
        self,
        messages: Sequence[Message],
        *,
        version_id: str | None,
        on_text: OnText | None = None,
        max_new_tokens: int | None = None,
    ) -> Proposal:
        said = await self.speaker.speak(messages, on_text)
        return Proposal(said, "local", self.label, logprobs=(self.logprob,) * 5, finish=self.finish)


@dataclass
class Purse:
    """Pays for everything, or for nothing; remembers for what."""

    spent: Exception | None = None
    bills: list[Bill] = field(default_factory=list)
    asked_for: list[tuple[str, str, float | None]] = field(default_factory=list)

    def meter(self, *, question_id: str, channel: str, purpose: str, most_usd: float | None) -> Meter:
        return _PurseMeter(self, (channel, purpose, most_usd))


@dataclass
class _PurseMeter:
    purse: Purse
    what: tuple[str, str, float | None]

    async def before(self, call: Call) -> None:
        self.purse.asked_for.append(self.what)
        if self.purse.spent is not None:
            raise self.purse.spent

    def bill(self, bill: Bill) -> None:
        self.purse.bills.append(bill)


@dataclass
class Reader:
    """Somebody who watches the answer being written."""

    seen: list[str] = field(default_factory=list)
    restarts: int = 0
    stop_after: int | None = None
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self._text, self._restart)

    async def _text(self, piece: str) -> None:
        self.seen.append(piece)
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            self.watch.stopped.set()
            await asyncio.sleep(0)

    async def _restart(self) -> None:
        self.seen.clear()
        self.restarts += 1


@dataclass
class Office:
    """A desk and who stands behind it."""

    store: Store
    desk: Desk
    memory: Memory
    local: LocalMachine
    apis: dict[str, ApiModel]
    purse: Purse
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def asked(self, words: str = "May I?", *, place: str = "channel") -> Question:
        ts = f"{next(self.numbers)}.000"
        asked = await self.store.ask(
            team=TEAM, channel=HELP, ts=ts, thread_ts=ts, asker="U1", text=words, place=place
        )
        return asked.question

    async def know(self, question: str, answer: str) -> None:
        await self.store.add_entries(TEAM, [NewEntry(question, answer, source="the wiki")])
        await self.memory.refresh()
        await self.memory.finished()

    async def proposed(self, question: Question) -> list[str]:
        """The kinds of models whose proposals are kept, in order of the alphabet."""
        wanted = text("SELECT kind FROM candidate WHERE question_id = :id ORDER BY kind")
        async with self.store.database.reading() as session:
            rows = await (await session.connection()).execute(wanted, {"id": question.id})
            return [row[0] for row in rows]

    def settings(self, **chosen: object) -> ChannelSettings:
        return ChannelSettings(team=TEAM, channel=HELP, **chosen)  # type: ignore[arg-type]


def office(
    store: Store,
    folder: Path,
    *,
    local: Speaker | None = None,
    logprob: float = SURE,
    apis: dict[str, Speaker] | None = None,
    policy: Policy = Policy.LOCAL_FIRST,
    deadline_s: float = 20.0,
    explore_rate: float = 0.0,
    purse: Purse | None = None,
    judge: Judge | None = None,
    examples: int = 0,
    with_local: bool = True,
) -> Office:
    """A desk; each model says "Yes." where the test does not say otherwise."""
    memory = Memory(store, team=TEAM, folder=folder / "memory")
    engine = LocalMachine(local or Speaker(["Local ", "yes."]), logprob)
    serving = Serving(store, engine, memory, team=TEAM, examples=examples)
    asked = {kind: ApiModel(speaker, kind) for kind, speaker in (apis or {}).items()}
    purse = purse or Purse()
    panel = Panel(memory=memory, serving=serving, apis=asked, treasury=purse, local_available=with_local)
    rules = DeskRules(policy=policy, deadline_s=deadline_s, question_limit=1000, explore_rate=explore_rate)
    desk = Desk(store, memory=memory, panel=panel, rules=rules, judge=judge)
    return Office(store, desk, memory, engine, asked, purse)
