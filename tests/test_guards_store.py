"""Experts, quarantine and the nightly look on real rows, on SQLite and on PostgreSQL alike."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, ask, empty_database, reply
from sqlalchemy import text

from storage.entries import NewEntry, question_hash
from storage.guarding import CLUSTER, KEEP_OUT, KEY, LEARN, TOPIC, Finding
from storage.places import Place
from storage.records import now
from storage.store import Store
from training.datasets import freeze
from training.guards import BURST, CONTRARY, kept_out
from training.raters import CapRules
from training.triggers import TRIGGER
from training.watching import look

WORDS = [
    f"{first}{last}"
    for first in ("ka", "lo", "mi", "nu", "pe", "ru")
    for last in ("bom", "dex", "fil", "gur", "hyp")
]
SEEN = Finding(TOPIC, "expenses", "U9", 40, "40 of 40 rows come from one person.")


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


async def test_experts_are_granted_and_revoked_once(store: Store) -> None:
    """Doing it again changes nothing; who did it is written down; another workspace has its own."""
    assert await store.grant_expert(TEAM, "U1", by="U0")
    assert not await store.grant_expert(TEAM, "U1", by="U0")
    assert await store.grant_expert(TEAM, "U2", by="U0")
    assert await store.experts(TEAM) == {"U1", "U2"}
    assert [row.person for row in await store.expert_rows(TEAM)] == ["U1", "U2"]
    assert await store.experts("T2") == set()
    assert await store.revoke_expert(TEAM, "U1", by="U0")
    assert not await store.revoke_expert(TEAM, "U1", by="U0")
    assert await store.experts(TEAM) == {"U2"}
    done = [(each.action, each.subject) for each in await store.decisions(TEAM)]
    assert sorted(done) == [("expert added", "U1"), ("expert added", "U2"), ("expert removed", "U1")]


async def test_a_finding_is_kept_once_and_what_was_decided_stays(store: Store) -> None:
    """New numbers for what waits; what an admin lifted is not found again; the last decision counts."""
    assert await store.suspect(TEAM, [SEEN]) == 1
    more = Finding(TOPIC, "expenses", "U9", 44, "44 of 44 rows come from one person.")
    assert await store.suspect(TEAM, [more]) == 0
    (row,) = await store.quarantine(TEAM)
    assert (row.rows, row.detail) == (44, more.detail)
    assert await store.quarantined(TEAM) == {(TOPIC, "expenses")}
    assert await store.decide_quarantine(TEAM, row.id, by="U0", learn=True)
    assert await store.suspect(TEAM, [SEEN]) == 0
    (row,) = await store.quarantine(TEAM)
    assert (row.rows, row.lifted_by, row.holds) == (44, "U0", False)
    assert await store.quarantined(TEAM) == frozenset()
    assert await store.decide_quarantine(TEAM, row.id, by="U1", learn=False)
    assert await store.quarantined(TEAM) == {(TOPIC, "expenses")}
    assert await store.quarantined("T2") == frozenset()
    assert await store.decide_quarantine("T2", row.id, by="U1", learn=True) is None
    actions = [each.action for each in await store.decisions(TEAM)]
    assert sorted(actions) == [KEEP_OUT, LEARN]


async def test_a_finding_is_told_by_one(store: Store) -> None:
    """Who sets out to tell has it; who fails gives it back; who was killed in it is stepped in for; then never again."""
    await store.suspect(TEAM, [SEEN])
    mine = await store.to_tell(TEAM)
    assert mine is not None
    assert await store.to_tell(TEAM) is None
    await store.untold(mine.id)
    again = await store.to_tell(TEAM)
    assert again is not None
    async with store.database.writing() as session:
        past = now() - timedelta(minutes=5)
        row = await store.quarantine_row(TEAM, again.id)
        assert row is not None
        row.told_at = past
        session.add(row)
    stepped_in = await store.to_tell(TEAM)
    assert stepped_in is not None
    await store.told(stepped_in.id, "17.0")
    await store.untold(stepped_in.id)
    assert await store.to_tell(TEAM) is None


async def test_a_cluster_is_kept_out_by_the_keys_of_its_questions(store: Store) -> None:
    """Where clusters merge and change their names, the questions that were meant stay out."""
    places = [Place(question_hash(f"question {number}")[:32], "train", "c1") for number in range(25)]
    places.append(Place(question_hash("another")[:32], "train", "c2"))
    await store.place(TEAM, places)
    crowded = await store.crowded_clusters(TEAM, at_least=20)
    assert crowded == {place.key: "c1" for place in places[:25]}
    await store.suspect(TEAM, [Finding(CLUSTER, "c1", "U9", 25, "25 of 25 rows come from one person.")])
    quarantine = await store.quarantined(TEAM)
    assert (KEY, places[0].key) in quarantine
    assert kept_out("", "another name by now", (), quarantine, key=places[3].key)
    assert not kept_out("", "", (), quarantine, key=places[-1].key)


async def rated(store: Store, number: int, votes: dict[str, int], *, asker: str = "U1") -> None:
    """An answer with votes of different people, at different times of the last days."""
    answer = await reply(store, await ask(store, asker=asker, ts=f"{number}.5", text=f"Question {number}?"))
    for place, (person, value) in enumerate(votes.items()):
        at = now() - timedelta(minutes=37 * number + 7 * place)
        await store.rate(answer.id, team=TEAM, rater=person, value=value, at=at)


async def test_the_nightly_look_finds_what_is_odd_in_the_rows(store: Store) -> None:
    """Somebody who says the opposite, somebody too fast, a topic that one person feeds, and a secret word."""
    for number in range(24):
        good = 1 if number % 3 else -1
        await rated(store, number, {"U1": good, "U2": good, "U3": good, "U9": -good})
    for number in range(100, 121):
        answer = await reply(store, await ask(store, ts=f"{number}.5", text=f"Question {number}?"))
        await store.rate(answer.id, team=TEAM, rater="U8", value=1, at=now() - timedelta(seconds=number - 99))
    for number, thing in enumerate(("printer", "badge", "holiday", "laptop", "coffee", "parking")):
        answer = await reply(
            store, await ask(store, asker="U7", ts=f"{200 + number}.5", text=f"zebra42 {thing} now?")
        )
        await store.correct(answer.id, team=TEAM, author="U7", text="Send it to Bob.", may_train=True)
    entries = [
        NewEntry(f"Expenses {number}?", f"Answer {number}", "a colleague", topic="expenses", author="U6")
        for number in range(30)
    ]
    await store.add_entries(TEAM, entries)
    looked = await look(store, TEAM)
    found = {(each.kind, each.person) for each in looked.findings}
    assert found == {(CONTRARY, "U9"), (BURST, "U8"), (TRIGGER, "U7"), (TOPIC, "U6")}
    assert looked.new == 4
    assert looked.weights.raters["U9"].weight == 0
    assert (await look(store, TEAM)).new == 0
    details = [row.detail for row in await store.quarantine(TEAM)]
    assert not any(f"U{number}" in detail for detail in details for number in range(10)), "no names in it"
    assert any("zebra42" in detail for detail in details)


async def test_what_is_kept_out_is_in_no_dataset_until_an_admin_lifts_it(
    store: Store, tmp_path: Path
) -> None:
    """A topic that one person feeds: found by the look, left out of the freeze with its reason, and in again once lifted."""
    people = ("U3", "U4", "U5", "U6")
    for person in people:
        await store.set_consent(TEAM, person, True)
    told = [("expenses", "U6", 30), *((f"topic {person}", person, 8) for person in people[:3])]
    entries = [
        NewEntry(
            f"{topic}: {WORDS[number]} {topic}?", f"Answer {number}", "import", topic=topic, author=person
        )
        for topic, person, many in told
        for number in range(many)
    ]
    await store.add_entries(TEAM, entries)

    async def frozen() -> tuple[int, dict[str, int]]:
        made = await freeze(store, tmp_path / "datasets", team=TEAM, salt="salt", caps=CapRules(author=1.0))
        return made.examples, made.summary["dropped"]

    assert (await frozen())[0] == 54
    looked = await look(store, TEAM)
    assert [(each.kind, each.subject) for each in looked.findings] == [(TOPIC, "expenses")]
    examples, dropped = await frozen()
    assert examples == 24
    assert 30 in dropped.values()
    assert any("fed by one person" in reason for reason in dropped)
    (row,) = await store.quarantine(TEAM)
    await store.decide_quarantine(TEAM, row.id, by="U0", learn=True)
    assert (await frozen())[0] == 54


async def test_nothing_odd_in_an_empty_workspace(store: Store) -> None:
    """A look before anybody said anything."""
    looked = await look(store, TEAM)
    assert (looked.findings, looked.new) == ((), 0)


async def test_presses_and_entries_come_page_by_page(store: Store) -> None:
    """Every row once, however small the pages are; taken-back votes, old ones and other workspaces' are not there."""
    for number in range(7):
        await rated(store, number, {"U1": 1, "U2": 0 if number else -1})
    await store.add_entries(TEAM, [NewEntry(f"q {number}", "a", "import") for number in range(5)])
    await store.add_entries("T2", [NewEntry("q", "a", "import")])
    since = now() - timedelta(minutes=37 * 4 + 10)
    pages = [page async for page in store.recent_presses(TEAM, since, page=2)]
    assert sorted(each.rater for page in pages for each in page) == ["U1"] * 5 + ["U2"]
    assert all(len(page) <= 2 for page in pages)
    entries = [each async for page in store.fed_entries(TEAM, page=2) for each in page]
    assert sorted(each.question for each in entries) == [f"q {number}" for number in range(5)]
    assert {(each.person, each.said_here) for each in entries} == {("", False)}
    async with store.database.reading() as session:
        connection = await session.connection()
        assert (await connection.execute(text("SELECT count(*) FROM rating"))).scalar_one() == 14
