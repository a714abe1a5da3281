"""Where the operator names a model for embeddings, memory also finds what says the same in other words."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from databases import DATABASES, empty_database, rows
from provider_schema import SPECS, OpenAISpec

from bot.errors import ModelUnavailable
from bot.models import Bill, Call
from bot.models.memory import Memory
from bot.models.memory_meaning import Embedder, EmbeddingModel, Meaning
from bot.models.prices import Price, Prices
from storage.entries import NewEntry
from storage.store import Store

pytest.importorskip("usearch", reason="the extra `embeddings` is not installed")

TEAM = "T1"
MODEL = "text-embedding-3-small"
UNSAID = frozenset("when is the where may i my which to".split())  # noqa: SIM905
SYNONYMS = {"wages": "salary", "paycheck": "salary", "arrives": "paid", "automobile": "car", "vehicle": "car"}
FAQ = (
    NewEntry("When is the salary paid?", "On the 25th.", "", author="U1"),
    NewEntry("Where may I park my car?", "Behind the house.", ""),
    NewEntry("Which tea is served?", "Green.", ""),
)


@cache
def spec() -> OpenAISpec:
    """Reading it takes a second."""
    return OpenAISpec.read()


def meaning_of(text: str) -> list[float]:
    """Synonyms are one word; each word is a direction of its own, made from its letters."""
    found = [0.001] * 64
    for word in text.lower().strip("?. ").split():
        word = SYNONYMS.get(word, word)
        if word not in UNSAID:
            found[sum(ord(letter) * (place + 1) for place, letter in enumerate(word)) % 64] += 1.0
    return found


@dataclass
class Embeddings:
    """A server of /v1/embeddings with books: what was asked, what it bills, and whether it is down."""

    status: int = 200
    inputs: list[list[str]] = field(default_factory=list)
    billed: int = 0
    keys: set[str] = field(default_factory=set)
    says: Callable[[str], list[float]] = meaning_of

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.keys.add(request.headers.get("Authorization", ""))
        if SPECS.is_dir():
            spec().check_request("POST", "/v1/embeddings", body)
        if self.status != 200:
            return web.json_response({"error": {"message": "not now"}}, status=self.status)
        texts: list[str] = body["input"]
        self.inputs.append(texts)
        tokens = sum(len(text.split()) for text in texts)
        self.billed += tokens
        told: dict[str, Any] = {
            "object": "list",
            "model": body["model"],
            "data": [
                {"object": "embedding", "index": n, "embedding": self.says(text)}
                for n, text in enumerate(texts)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        if SPECS.is_dir():
            spec().check("CreateEmbeddingResponse", told)
        told["data"].reverse()  # the index counts, not the order
        return web.json_response(told)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/embeddings", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()


@dataclass
class Books:
    """A meter that writes everything down; `broke` says that there is no money."""

    calls: list[Call] = field(default_factory=list)
    bills: list[Bill] = field(default_factory=list)
    broke: bool = False

    async def before(self, call: Call) -> None:
        if self.broke:
            raise ModelUnavailable("the budget is spent")
        self.calls.append(call)

    def bill(self, bill: Bill) -> None:
        self.bills.append(bill)


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


@pytest.fixture
def api() -> Embeddings:
    """What answers."""
    return Embeddings()


@asynccontextmanager
async def remembering(store: Store, url: str, folder: Path, books: Books) -> AsyncIterator[Memory]:
    """A memory of the FAQ, whose vectors are all made."""
    await store.add_entries(TEAM, FAQ)
    model = EmbeddingModel(MODEL, url, "sk-right", timeout_s=10)
    embedder = Embedder(model, Prices({MODEL: Price(0.02, 0.02, 0.0)}))
    meaning = Meaning(store, embedder, team=TEAM, folder=folder / "memory" / TEAM, meter=books)
    memory = Memory(store, team=TEAM, folder=folder / "memory", meaning=meaning)
    await memory.refresh()
    await memory.finished()
    try:
        yield memory
    finally:
        await memory.close()


async def first(memory: Memory, question: str, **how: Any) -> str | None:
    matches = await memory.nearest(question, **how)
    return matches[0].entry.answer if matches else None


async def test_what_means_the_same_is_found(either: Store, api: Embeddings, tmp_path: Path) -> None:
    """A question without a word in common finds its answer, never near-certain; a question that may not leave does not."""
    books = Books()
    async with api.serving() as url, remembering(either, url, tmp_path, books) as memory:
        match = (await memory.nearest("wages arrives", may_leave=True, meter=books))[0]
        assert (match.entry.answer, match.certainty) == ("On the 25th.", 0.0)
        assert await first(memory, "automobile", may_leave=True) == "Behind the house."
        sent = len(api.inputs)
        assert await first(memory, "wages arrives") is None
        assert len(api.inputs) == sent
        sure = (await memory.nearest("Which tea is served?", may_leave=True))[0]
        assert (sure.entry.answer, sure.certainty > 0.9) == ("Green.", True)
    assert api.keys == {"Bearer sk-right"}


async def test_every_call_is_billed_and_no_entry_twice(store: Store, api: Embeddings, tmp_path: Path) -> None:
    """The next start, and a new entry, cost only what is new; each call has its bill."""
    books = Books()
    async with api.serving() as url:
        async with remembering(store, url, tmp_path, books):
            pass
        await store.add_entries(TEAM, [NewEntry("Which bus goes to town?", "The 42.", "")])
        async with remembering(store, url, tmp_path, books) as memory:
            assert await first(memory, "vehicle", may_leave=True) == "Behind the house."
    asked = [text for texts in api.inputs for text in texts]
    assert sorted(asked) == sorted([*(entry.question for entry in FAQ), "Which bus goes to town?", "vehicle"])
    assert len(books.calls) == len(books.bills) == 2
    told = sum(bill.tokens_in for bill in books.bills)
    assert told == api.billed - 1  # "vehicle" was asked without a meter
    assert sum(bill.cost_usd or 0 for bill in books.bills) == pytest.approx(told * 0.02 / 1e6)
    assert all(call.tokens_in >= bill.tokens_in for call, bill in zip(books.calls, books.bills, strict=True))


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_without_the_api_words_go_on(
    store: Store, api: Embeddings, tmp_path: Path, status: int
) -> None:
    """Down, refused or out of money: memory answers by words, at once, and does not ask again and again."""
    api.status = status
    books = Books()
    async with api.serving() as url, remembering(store, url, tmp_path, books) as memory:
        for _ in range(3):
            assert await first(memory, "when is salary paid", may_leave=True, meter=books) == "On the 25th."
            await memory.refresh()
    assert len(books.bills) == 1
    assert books.bills[0].estimated == (status == 500)
    assert (books.bills[0].cost_usd == 0) == (status != 500)


async def test_a_spent_budget_stops_it(store: Store, api: Embeddings, tmp_path: Path) -> None:
    """Nothing is asked, nothing is billed."""
    books = Books(broke=True)
    async with api.serving() as url, remembering(store, url, tmp_path, books) as memory:
        assert await first(memory, "when is salary paid", may_leave=True, meter=books) == "On the 25th."
    assert (api.inputs, books.bills) == ([], [])


async def test_a_server_that_is_not_there(store: Store, tmp_path: Path) -> None:
    """A wrong address costs nothing but the meaning."""
    books = Books()
    async with remembering(store, "http://127.0.0.1:9/v1", tmp_path, books) as memory:
        assert await first(memory, "when is salary paid", may_leave=True) == "On the 25th."
    assert [(bill.tokens_in, bill.cost_usd) for bill in books.bills] == [(0, 0.0)]


@pytest.mark.parametrize("strange", [[], [math.nan] * 64, ["a"]])
async def test_a_strange_answer_is_refused(
    store: Store, api: Embeddings, tmp_path: Path, strange: list[Any]
) -> None:
    """Numbers that are none, or none at all, are not kept."""
    api.says = lambda _text: strange
    async with api.serving() as url, remembering(store, url, tmp_path, Books()) as memory:
        assert await first(memory, "when is salary paid", may_leave=True) == "On the 25th."
    assert await rows(store, "entry_embedding") == 0


async def test_vectors_of_a_deleted_entry_go_with_it(either: Store, api: Embeddings, tmp_path: Path) -> None:
    """From the database, from the index, and from what is found."""
    async with api.serving() as url, remembering(either, url, tmp_path, Books()) as memory:
        assert await rows(either, "entry_embedding") == 3
        saved = {file.name for file in (tmp_path / "memory" / TEAM).glob("vectors-*")}
        await either.forget(TEAM, "U1")
        assert await rows(either, "entry_embedding") == 2
        assert await first(memory, "wages arrives", may_leave=True) != "On the 25th."
        assert await first(memory, "When is the salary paid?") != "On the 25th."
        await memory.refresh()
        await memory.finished()
        assert saved.isdisjoint(file.name for file in (tmp_path / "memory" / TEAM).glob("vectors-*"))
        assert await first(memory, "automobile", may_leave=True) == "Behind the house."


async def test_a_damaged_index_of_vectors_is_made_anew(store: Store, api: Embeddings, tmp_path: Path) -> None:
    """Out of the database, without asking the API again."""
    async with api.serving() as url:
        async with remembering(store, url, tmp_path, Books()):
            pass
        for file in (tmp_path / "memory" / TEAM).glob("vectors-*"):
            file.write_bytes(b"\xff" * 100)
        async with remembering(store, url, tmp_path, Books()) as memory:
            assert await first(memory, "automobile", may_leave=True) == "Behind the house."
    assert len(api.inputs) == 2
