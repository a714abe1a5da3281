"""A teacher's answers: which questions it is asked, what it costs, what ends it, and what becomes of what it said."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bot_process import eventually
from databases import DATABASES, TEAM, ask, empty_database
from provider_standins import OpenAIServer, StandIn, served

from bot.contenders import Contenders
from bot.distilling import AT_ONCE, GIVE_UP_AFTER, Distilling, DistilRules, Wish, read_wish
from bot.distilling_words import end_line, quote_lines, status_line
from bot.errors import PublicError
from bot.lineup import api_model
from bot.models.memory import Memory
from bot.models.prices import Prices
from bot.money import Ledger
from bot.money_limits import Budgets
from bot.settings import Policy, Settings
from storage.distilling import Asked
from storage.entries import NewEntry
from storage.forgetting_rows import KINDS, delete_some
from storage.learnable import LearningPlaces
from storage.records import Distillation, DistillationState
from storage.store import Store
from storage.values import Message, Proposal
from training.datasets import freeze
from training.distilling import HAS_ANSWER, HELD_OUT, PRIVATE, Choosing, Limits
from training.examples import ASKER, EARLIER, SWITCHED_OFF, Allowed
from training.finetuners.shipment import pack
from training.lineage import lineage
from training.splits import TEST_SHARE, place
from training.wording import wording

OLD, TEACHER = "gpt-6-luna", "gpt-6-sol"
PEOPLE = ("U1", "U2", "U3")
WORDS = (
    "lantern",
    "ladder",
    "kettle",
    "anvil",
    "saddle",
    "rudder",
    "bellows",
    "compass",
    "mortar",
    "trowel",
    "pulley",
    "easel",
)
SALT = "salt"
"""With it some of these questions would be held out."""


def question(number: int) -> str:
    return f"Where do we keep the {WORDS[number % len(WORDS)]} number {number} of the workshop these days?"


def held_out(text: str) -> bool:
    return place(wording(text).key, salt=SALT) < TEST_SHARE


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(empty_database(request, tmp_path))
    while not (await opened.strike_again()).done:
        pass
    await opened.keepsake("split-salt", lambda: SALT)
    for person in PEOPLE:
        await opened.set_consent(TEAM, person, True)
    yield opened
    await opened.close()


@pytest.fixture
async def api() -> AsyncIterator[StandIn]:
    stand_in = StandIn(models={OLD: None, TEACHER: None})
    stand_in.says = lambda asked: f"The teacher says it is on shelf {len(asked)} behind the door."
    async with served(stand_in, OpenAIServer(stand_in).routes()) as running:
        yield running


async def said(store: Store, number: int, *, kind: str = "local", model: str = "starter", **more: str) -> str:
    """Somebody asked, and a model answered; the answer's id."""
    values = {
        "asker": PEOPLE[number % 3],
        "ts": f"{number + 1}.0",
        "text": question(number),
        "place": "channel",
    } | more
    row = await ask(store, **values)
    proposal = Proposal("I am not sure about that one.", kind, model)
    answer = (await store.answer(row, [proposal], messages=[Message("user", row.text)])).answer
    await store.posted(answer.id, f"9{values['ts']}")
    return answer.id


@asynccontextmanager
async def teaching(
    store: Store,
    api: StandIn,
    folder: Path,
    *,
    worker: str = "one",
    budgets: Budgets | None = None,
    **more: Any,
) -> AsyncIterator[Distilling]:
    """A bot's part in it, with the real SDK in front of the stand-in."""
    settings = Settings(
        _env_file=None,
        data_dir=folder / "data",
        openai_api_key="sk-right",
        openai_base_url=f"{api.url}/v1",
        openai_model=OLD,
    )
    memory = Memory(store, team=TEAM, folder=folder / "memory")
    await memory.refresh()
    ledger = Ledger(store, team=TEAM, prices=Prices.chosen(""), budgets=budgets or Budgets())
    contenders = Contenders(
        store,
        team=TEAM,
        memory=memory,
        ledger=ledger,
        make=lambda kind, name: api_model(settings, kind, name),
    )
    rules = DistilRules(
        policy=more.pop("policy", Policy.API_FIRST),
        private_stays_local=True,
        price=lambda model: Prices.chosen("").cost(model, 1000, 0, 250),
    )
    made = Distilling(
        store,
        team=TEAM,
        memory=memory,
        ledger=ledger,
        contenders=contenders,
        rules=rules,
        worker=worker,
        pause_s=0.0,
    )
    try:
        yield made
    finally:
        await made.close()
        await contenders.close()
        await ledger.close()
        await memory.close()


async def carried_out(distilling: Distilling) -> None:
    await distilling.tick()
    assert distilling._task is not None
    await distilling._task


async def agreed(distilling: Distilling, words: str = f"openai:{TEACHER}") -> Distillation:
    await distilling.quote(read_wish(words), by="U0ANN")
    return await distilling.confirm(by="U0ANN")


async def until(what: Callable[[], bool]) -> None:
    async def look() -> bool | None:
        return what() or None

    await eventually(look, what="it comes to that", timeout_s=20)


def asked_words(api: StandIn) -> Counter[str]:
    return Counter(str(each["messages"][-1]["content"]) for each in api.requests)


async def test_what_it_says_is_learned_and_never_a_measure(
    store: Store, api: StandIn, tmp_path: Path
) -> None:
    """Quoted, agreed to, asked once each; in the dataset beside people's answers, on no test side, in no shipment."""
    for number in range(24):
        await said(store, number)
    free = [number for number in range(24) if not held_out(question(number))]
    assert len(free) < 24, "with another salt this test would say less"
    async with teaching(store, api, tmp_path) as distilling:
        row = await distilling.quote(Wish(f"openai:{TEACHER}"), by="U0ANN")
        assert row.quote["questions"] == len(free)
        assert row.quote["left_out"] == {HELD_OUT: 24 - len(free)}
        assert row.within_usd == pytest.approx(2 * row.quote["about_usd"], abs=0.01)
        assert not api.requests, "a quote asks nobody"
        await distilling.tick()
        assert not api.requests, "nor does anything before the yes"
        await distilling.confirm(by="U0ANN")
        await carried_out(distilling)
        done = await store.distillation(row.id)
        assert done is not None
        assert (done.state, done.answered, done.failed) == (DistillationState.DONE, len(free), 0)
        assert done.cost_usd > 0
        assert asked_words(api) == Counter(question(number) for number in free)
        assert {each["model"] for each in api.requests} == {TEACHER}
        assert "The next training learns from that." in end_line(done)
        with pytest.raises(PublicError, match=f"no question to ask openai:{TEACHER}"):
            await distilling.quote(Wish(f"openai:{TEACHER}"), by="U0ANN")
    entries = [
        NewEntry(f"{start} the {word} of the old barn?", f"{start} is told by Ben, of the {word}.", "faq")
        for word in WORDS
        for start in ("Who last repaired", "What would it cost to replace")
    ]
    await store.add_entries(TEAM, entries)
    frozen = await freeze(store, tmp_path / "datasets", team=TEAM, salt=SALT)
    rows = [json.loads(line) for line in (frozen.path / "rows.jsonl").read_text().splitlines()]
    taught = [each for each in rows if each["origin"] == "distilled"]
    assert len(taught) == len(free)
    assert {each["split"] for each in taught} <= {"train", "validation"}
    assert any(each["split"] == "test" for each in rows)
    assert "answers of an API model that nobody rated" in (frozen.path / "README.md").read_text()
    again = await freeze(store, tmp_path / "datasets", team=TEAM, salt=SALT)
    assert again.id == frozen.id
    sent = pack(frozen.path, vendor="openai").train.decode()
    assert "is told by Ben" in sent
    assert "The teacher says" not in sent
    assert "The teacher says" in (frozen.path / "train.jsonl").read_text()
    found = await lineage(store, TEAM, taught[0]["subject"])
    assert [(each.kind, each.source) for each in found.said] == [("distilled answer", f"openai:{TEACHER}")]
    assert found.held


async def test_a_persons_answer_counts_and_a_teachers_gives_way(
    store: Store, api: StandIn, tmp_path: Path
) -> None:
    """What people liked, corrected or imported is not asked; and what they say later takes the place of the teacher's."""
    numbers = [number for number in range(30) if not held_out(question(number))][:8]
    ids = {number: await said(store, number) for number in numbers}
    await store.add_entries(TEAM, [NewEntry(question(numbers[0]), "Ask Ben for it, he has the key.", "faq")])
    await store.rate(answer_id=ids[numbers[1]], team=TEAM, rater="U2", value=1)
    await store.correct(
        answer_id=ids[numbers[2]],
        team=TEAM,
        author="U3",
        text="It hangs on the wall by the oven.",
        may_train=True,
    )
    async with teaching(store, api, tmp_path) as distilling:
        row = await agreed(distilling)
        assert row.quote["left_out"] == {HAS_ANSWER: 3}
        await carried_out(distilling)
    assert asked_words(api) == Counter(question(number) for number in numbers[3:])
    await store.correct(
        answer_id=ids[numbers[3]],
        team=TEAM,
        author="U3",
        text="It is in the drawer below the till.",
        may_train=True,
    )
    frozen = await freeze(store, tmp_path / "datasets", team=TEAM, salt=SALT)
    lines = "".join((frozen.path / f"{split}.jsonl").read_text() for split in ("train", "validation", "test"))
    assert "It is in the drawer below the till." in lines
    origins = {
        each["subject"]: each["origin"]
        for each in map(json.loads, (frozen.path / "rows.jsonl").read_text().splitlines())
    }
    assert origins[ids[numbers[3]]] == "correction"
    assert sum(origin == "distilled" for origin in origins.values()) == 4


async def test_its_own_answers_are_taken_as_they_are_but_not_disliked_ones(
    store: Store, api: StandIn, tmp_path: Path
) -> None:
    """The dying model has answered people: that was paid for already."""
    numbers = [number for number in range(30) if not held_out(question(number))][:4]
    ids = [await said(store, number, kind="openai", model=TEACHER) for number in numbers]
    await store.rate(answer_id=ids[0], team=TEAM, rater="U3", value=-1)
    async with teaching(store, api, tmp_path) as distilling:
        row = await agreed(distilling)
        assert (row.quote["questions"], row.quote["own"]) == (0, 3)
        assert row.quote["left_out"] == {"people disliked this model's answer to it": 1}
        assert "for nothing" in "\n".join(quote_lines(row, confirm="yes", cancel="no"))
        await carried_out(distilling)
    assert not api.requests
    assert await store.distilled_count(TEAM) == 3


def test_each_reason_to_ask_nobody_is_counted() -> None:
    """Consent, switches, private places: who has not allowed it is not asked about."""

    def asked(text: str, **more: Any) -> Asked:
        values: dict[str, Any] = {
            "answer_id": f"a{text}", "channel": "C1", "place": "channel", "thread": "t", "asker": "U1", "asked_at": 1,
            "question": text, "messages": [], "text": "so", "kind": "local", "model": "m", "votes": (),
            "corrected": False, "earlier": (),
        }  # fmt: skip
        return Asked(**{**values, **more})

    fine = [number for number in range(40) if not held_out(question(number))]
    allowed = Allowed(consenting={"U1"}, places=LearningPlaces(frozenset({"COFF"})))
    choosing = Choosing("openai", TEACHER, Limits(allowed, lambda _channel, kind: kind == "group", salt=SALT))
    choosing.look(
        [
            asked(question(fine[0]), channel="COFF"),
            asked(question(fine[1]), asker="U9"),
            asked(question(fine[2]), earlier=("U9",)),
            asked(question(fine[3]), place="group"),
            asked("?"),
            asked(question(fine[4]), asked_at=5),
            asked(question(fine[5]), asked_at=6),
            asked(question(fine[4]).upper(), asked_at=7, answer_id="newest"),
            asked(question(fine[6]), asked_at=8),
        ]
    )
    chosen = choosing.chosen(2)
    assert [(each.answer_id, each.times) for each in chosen] == [("newest", 2), (f"a{question(fine[6])}", 1)]
    counted = dict(choosing.left_out)
    assert {counted[each] for each in (SWITCHED_OFF, ASKER, EARLIER, PRIVATE)} == {1}
    assert counted["more questions than were wanted"] == 1
    assert sum(counted.values()) == 6


async def test_what_a_verified_answer_shows_it_belongs_to_its_author_too(
    store: Store, api: StandIn, tmp_path: Path
) -> None:
    """It reads the nearest verified answers of those who agreed; who is forgotten takes what it said along."""
    numbers = [number for number in range(30) if not held_out(question(number))][:3]
    for number in numbers:
        await said(store, number, asker="U1")
    near = (
        question(numbers[0]).replace("these days", "nowadays").replace("Where do we", "In which room do we")
    )
    await store.set_consent(TEAM, "U7", True)
    await store.set_consent(TEAM, "U8", False)
    await store.add_entries(
        TEAM,
        [
            NewEntry(near, "In the quillmarsh room.", "said", author="U7"),
            NewEntry(near + " Really?", "In the zephyrine room.", "said", author="U8"),
        ],
    )
    async with teaching(store, api, tmp_path) as distilling:
        await agreed(distilling)
        await carried_out(distilling)
    shown = [str(each["messages"][0]["content"]) for each in api.requests]
    assert any("quillmarsh" in each for each in shown)
    assert not any("zephyrine" in each for each in shown), "its author has not agreed"
    people = [each.people async for page in store.learnable_distilled(TEAM) for each in page]
    assert ("U1", "U7") in people
    with_u7 = sum("U7" in each for each in people)
    async with store.database.writing() as session:
        gone = await delete_some(session, TEAM, "U7", "distilled answers", b"key")
    assert gone == with_u7
    assert KINDS[0] == "distilled answers", "they refer to what goes after them"
    assert await store.distilled_count(TEAM) == len(people) - with_u7


async def test_who_takes_their_consent_back_meanwhile_is_not_kept(
    store: Store, api: StandIn, tmp_path: Path
) -> None:
    """The answer was paid for, and is thrown away; nothing of it stays."""
    numbers = [number for number in range(30) if not held_out(question(number))][:3]
    for number in numbers:
        await said(store, number)

    def says(_asked: str) -> str:
        return "It is in the cellar behind the barrels."

    api.says = says
    gate = asyncio.Event()

    async def wait(_number: int) -> None:
        await gate.wait()

    api.gate = wait
    async with teaching(store, api, tmp_path) as distilling:
        row = await agreed(distilling)
        await distilling.tick()
        await until(lambda: len(api.requests) >= 3)
        await store.set_consent(TEAM, PEOPLE[numbers[0] % 3], False)
        gate.set()
        assert distilling._task is not None
        await distilling._task
    done = await store.distillation(row.id)
    assert done is not None
    refused = sum(number % 3 == numbers[0] % 3 for number in numbers)
    assert (done.answered, done.failed) == (3 - refused, refused)
    assert done.cost_usd > 0
    assert await store.distilled_count(TEAM) == 3 - refused


async def test_a_killed_bot_is_followed_and_pays_nothing_twice(
    store: Store, api: StandIn, tmp_path: Path
) -> None:
    """Killed between two rounds and within one: what was kept is not asked again, the rest is asked by the next bot."""
    numbers = [number for number in range(60) if not held_out(question(number))][:20]
    for number in numbers:
        await said(store, number)
    count = 0

    async def stall(_number: int) -> None:
        if count and len(api.requests) > 8:
            await asyncio.Event().wait()

    async with teaching(store, api, tmp_path) as distilling:
        row = await agreed(distilling)
        count, api.gate = 1, stall
        await distilling.tick()
        await until(lambda: len(api.requests) >= 16)
        assert distilling._task is not None
        distilling._task.cancel()
        await asyncio.gather(distilling._task, return_exceptions=True)
    kept = await store.distilled_count(TEAM)
    assert kept == 8, "the second round was under way"
    api.gate, before = None, asked_words(api)
    async with teaching(store, api, tmp_path, worker="two") as other:
        await other.tick()
        assert other._task is None, "whoever was killed is waited for as long as their claim lasts"
        await store.release_claims()
        await other.tick()
        await other.close()
    async with teaching(store, api, tmp_path, worker="three") as third:
        await carried_out(third)
    done = await store.distillation(row.id)
    assert done is not None
    assert (done.state, done.answered) == (DistillationState.DONE, 20)
    after = asked_words(api)
    assert sum(after.values()) == 28
    assert {words for words, times in after.items() if times == 2} <= set(before), "only what was under way"


async def test_money_ends_it_and_asking_again_goes_on(store: Store, api: StandIn, tmp_path: Path) -> None:
    """Its own limit after a round, a budget before the call; each said in words, and nothing answered is asked again."""
    numbers = [number for number in range(60) if not held_out(question(number))][:20]
    for number in numbers:
        await said(store, number)
    async with teaching(store, api, tmp_path) as distilling:
        row = await agreed(distilling, f"openai:{TEACHER} within=0.0001")
        await carried_out(distilling)
        stopped = await store.distillation(row.id)
        assert stopped is not None
        assert (stopped.state, stopped.answered) == (DistillationState.STOPPED, 8)
        assert "that were agreed to are spent" in end_line(stopped)
        assert "asking again goes on behind it" in end_line(stopped)
    async with teaching(store, api, tmp_path, budgets=Budgets(day_usd=0.000001)) as poor:
        row = await agreed(poor)
        assert row.quote["questions"] == 12
        await carried_out(poor)
        stopped = await store.distillation(row.id)
        assert stopped is not None
        assert stopped.state is DistillationState.STOPPED
        assert "budget" in stopped.reason.lower()
    assert len(api.requests) == 8
    async with teaching(store, api, tmp_path) as distilling:
        await agreed(distilling)
        await carried_out(distilling)
    assert set(asked_words(api).values()) == {1}
    assert await store.distilled_count(TEAM) == 20


async def test_a_provider_that_is_gone_is_given_up_and_one_that_refuses_is_not_asked_again(
    store: Store, api: StandIn, tmp_path: Path
) -> None:
    """Three rounds of 500 end it with the reason; a question that the filter withholds is left alone for good."""
    numbers = [number for number in range(60) if not held_out(question(number))][
        : AT_ONCE * GIVE_UP_AFTER + 4
    ]
    for number in numbers:
        await said(store, number)
    del api.models[TEACHER]
    async with teaching(store, api, tmp_path) as distilling:
        row = await agreed(distilling)
        await carried_out(distilling)
        gone = await store.distillation(row.id)
        assert gone is not None
        assert (gone.state, gone.answered) == (DistillationState.STOPPED, 0)
        assert gone.failed == 0
        assert f"openai:{TEACHER} does not answer" in gone.reason
        assert await store.distilled_count(TEAM) == 0
    api.models[TEACHER] = None
    api.finish = "content_filter"
    async with teaching(store, api, tmp_path) as distilling:
        row = await agreed(distilling)
        await carried_out(distilling)
        refused = await store.distillation(row.id)
        assert refused is not None
        assert (refused.state, refused.answered, refused.failed) == (DistillationState.DONE, 0, len(numbers))
        api.finish = ""
        with pytest.raises(PublicError, match="this model was asked it before"):
            await distilling.quote(Wish(f"openai:{TEACHER}"), by="U0ANN")


async def test_only_one_goes_on_and_it_can_be_cancelled_and_dropped(
    store: Store, api: StandIn, tmp_path: Path
) -> None:
    """A second quote waits for the first to end; what was answered stays until it is dropped."""
    for number in range(12):
        await said(store, number)
    async with teaching(store, api, tmp_path) as distilling:
        with pytest.raises(PublicError, match="Nothing waits for a yes"):
            await distilling.confirm(by="U0ANN")
        await distilling.quote(Wish(f"openai:{TEACHER}"), by="U0ANN")
        first = await distilling.quote(Wish(f"openai:{TEACHER}", most=3), by="U0ANN")
        assert first.quote["questions"] == 3
        await distilling.confirm(by="U0ANN")
        with pytest.raises(PublicError, match="is being asked already"):
            await distilling.quote(Wish(), by="U0ANN")
        await carried_out(distilling)
        assert len(api.requests) == 3, "no more than were wanted"
        await agreed(distilling)
        ended = await distilling.cancel(by="U0ANN")
        assert ended.state is DistillationState.STOPPED
        assert "<@U0ANN>" in end_line(ended)
        await distilling.tick()
        assert len(api.requests) == 3
        assert "3 answers of API models" in status_line(ended, await store.distilled_count(TEAM))
        assert await distilling.drop(f"openai:{TEACHER}", by="U0ANN") == (f"openai:{TEACHER}", 3)
        assert await store.distilled_count(TEAM) == 0


async def test_where_nothing_leaves_nothing_is_asked(store: Store, api: StandIn, tmp_path: Path) -> None:
    """ANSWER_POLICY=local-only holds here too, but for a channel to which an admin gave another."""
    numbers = [number for number in range(30) if not held_out(question(number))][:4]
    for number in numbers:
        await said(store, number, channel="C2" if number == numbers[0] else "C1")
    async with teaching(store, api, tmp_path, policy=Policy.LOCAL_ONLY) as distilling:
        with pytest.raises(PublicError, match="4: it was asked in a private place"):
            await distilling.quote(Wish(), by="U0ANN")
        await store.set_channel(TEAM, "C2", by="U0ANN", policy="api-first")
        row = await distilling.quote(Wish(), by="U0ANN")
        assert row.quote["questions"] == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("limit=0", "limit=0"),
        ("limit=x", "limit=x"),
        ("within=-1", "within=-1"),
        ("openai more", "'more'"),
        ("a=b", "a=b"),
    ],
)
def test_what_is_not_understood_is_named(words: str, why: str) -> None:
    """With what may stand there."""
    with pytest.raises(PublicError, match="I do not understand") as said_why:
        read_wish(words)
    assert why in str(said_why.value)
    assert read_wish("openai limit=9 within=$2.5") == Wish("openai", 9, 2.5)
