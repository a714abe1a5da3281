"""Money in the store: reserved before a call, settled after it, and never past a limit, however many come at once."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, empty_database

from storage.records import now
from storage.spending import Limit, Refused, Reservation, Reserved
from storage.store import Store
from storage.values import Bill

DAY = datetime(2026, 11, 23, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
ROOT = Path(__file__).parent.parent
KILLED = """
import asyncio, os, sys
from storage.spending import Reservation
from storage.store import Store

async def main() -> None:
    store = await Store.open(sys.argv[1])
    await store.reserve(Reservation("T1", "q1", "C1", "answer", "openai", "m", 100, 50, 0.25))
    print("reserved", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return empty_database(request, tmp_path)


@pytest.fixture
async def money(url: str) -> AsyncIterator[Store]:
    """A store on each kind of database."""
    opened = await Store.open(url)
    yield opened
    await opened.close()


def call(
    cost: float = 0.1, *, channel: str = "C1", model: str = "gpt-6-luna", purpose: str = "answer"
) -> Reservation:
    return Reservation(TEAM, "q1", channel, purpose, "openai", model, 1000, 500, cost, "2026-11-22")


def day(most: float) -> Limit:
    return Limit("day", DAY, most, "2026-11-23")


async def made(store: Store, cost: float = 0.1, *, channel: str = "C1", purpose: str = "answer") -> Reserved:
    """A call that is let through."""
    reserved = await store.reserve(call(cost, channel=channel, purpose=purpose), at=NOON)
    assert isinstance(reserved, Reserved)
    return reserved


async def test_of_200_at_once_as_many_go_as_fit(url: str) -> None:
    """Two stores on one database, each with its own connections: exactly what fits the limit is let through."""
    stores = [await Store.open(url), await Store.open(url)]
    asked = [stores[n % 2].reserve(call(0.1), [day(5.0)], at=NOON) for n in range(200)]
    got = await asyncio.gather(*asked)
    assert sum(isinstance(each, Reserved) for each in got) == 50
    spent = await stores[0].spent(TEAM, DAY)
    assert spent.usd == pytest.approx(5.0)
    assert spent.held_usd == pytest.approx(5.0)
    for each in stores:
        await each.close()


async def test_settling_frees_what_was_not_needed(money: Store) -> None:
    """What a call did not cost is there for the next one; a refusal writes nothing and says which limit it is."""
    first = await money.reserve(call(0.9), [day(1.0)], at=NOON)
    assert isinstance(first, Reserved)
    refused = await money.reserve(call(0.2), [day(1.0)], at=NOON)
    assert isinstance(refused, Refused)
    assert (refused.limit.scope, refused.for_now) == ("day", True)
    await money.settle(first, Bill("openai", "gpt-6-luna", tokens_in=10, tokens_out=5, cost_usd=0.3))
    assert isinstance(await money.reserve(call(0.7), [day(1.0)], at=NOON), Reserved)
    assert (await money.spent(TEAM, DAY)).usd == pytest.approx(1.0)


async def test_what_is_spent_for_good_is_not_refused_for_now(money: Store) -> None:
    """Where no call under way could make room, the budget is used up."""
    held = await made(money, 0.9)
    await money.settle(held, Bill("openai", "gpt-6-luna", tokens_in=1, cost_usd=0.9))
    refused = await money.reserve(call(0.2), [day(1.0)], at=NOON)
    assert isinstance(refused, Refused)
    assert not refused.for_now
    assert refused.spent.sure_usd == pytest.approx(0.9)


async def test_each_limit_counts_its_own(money: Store) -> None:
    """A channel's limit counts that channel; yesterday is not today; another team is not ours; the free always fit."""
    await money.reserve(call(0.9, channel="C1"), at=NOON)
    await money.reserve(call(5.0, channel="C1"), at=DAY - timedelta(hours=1))
    channel = Limit("channel:C2", DAY, 1.0, "2026-11")
    assert isinstance(await money.reserve(call(0.9, channel="C2"), [channel], at=NOON), Reserved)
    refused = await money.reserve(call(0.2, channel="C2"), [day(10.0), channel], at=NOON)
    assert isinstance(refused, Refused)
    assert refused.limit is channel
    assert isinstance(await money.reserve(call(0.2), [day(2.0)], at=NOON), Reserved)
    assert isinstance(await money.reserve(call(0.0), [day(0.0)], at=NOON), Reserved)
    assert isinstance(await money.reserve(call(0.001), [day(0.0)], at=NOON), Refused)
    assert (await money.spent("T2", DAY)).usd == 0


async def test_a_call_that_did_no_work_leaves_no_row(money: Store) -> None:
    """A refused connection is no billed call; an estimate is one, and so is a call at no price."""
    await money.settle(await made(money), Bill("openai", "gpt-6-luna", cost_usd=0.0))
    assert await money.spending(TEAM, DAY) == []
    await money.settle(await made(money), Bill("openai", "gpt-6-luna", tokens_in=7, estimated=True))
    (row,) = await money.spending(TEAM, DAY)
    assert (row.calls, row.estimated, row.tokens_in, row.cost_usd) == (1, 1, 7, 0.1)


async def test_a_killed_process_costs_what_it_reserved(url: str) -> None:
    """Killed between the reservation and the bill: the row counts as its upper bound after a restart."""
    await (await Store.open(url)).close()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        KILLED,
        url,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"reserved\n"
    process.kill()
    await process.wait()
    store = await Store.open(url)
    since = now() - timedelta(hours=1)
    assert (await store.spent(TEAM, since)).held_usd == pytest.approx(0.25)
    assert await store.estimate_abandoned(since) == 0, "it may still be at work"
    assert await store.estimate_abandoned(now()) == 1
    spent = await store.spent(TEAM, since)
    assert (spent.usd, spent.held_usd) == (0.25, 0.0)
    await store.close()


async def test_sums_by_model_purpose_and_channel(money: Store) -> None:
    """The dearest first; `until` ends a month."""
    for _ in range(2):
        bill = Bill("openai", "gpt-6-luna", tokens_in=100, tokens_cached=40, tokens_out=10, cost_usd=0.01)
        await money.settle(await made(money), bill)
    await made(money, 0.5, channel="C2", purpose="evaluation")
    await money.reserve(call(9.0), at=DAY + timedelta(days=1))
    rows = await money.spending(TEAM, DAY, DAY + timedelta(days=1))
    assert [(row.channel, row.purpose, row.calls) for row in rows] == [
        ("C2", "evaluation", 1),
        ("C1", "answer", 2),
    ]
    assert (rows[1].tokens_in, rows[1].tokens_cached, rows[1].tokens_out) == (200, 80, 20)
    assert await money.spent_by_channel(TEAM, DAY + timedelta(days=1)) == {"C1": 9.0}


async def test_one_of_many_tells_of_a_budget(money: Store) -> None:
    """Exactly one is to tell; after a failure the next may; told is told, also after a restart."""
    asked = [money.notice(TEAM, "day", "2026-11-23", 80) for _ in range(20)]
    assert sum(await asyncio.gather(*asked)) == 1
    await money.unnoticed(TEAM, "day", "2026-11-23", 80)
    assert await money.notice(TEAM, "day", "2026-11-23", 80)
    await money.noticed(TEAM, "day", "2026-11-23", 80, "1.5")
    await money.unnoticed(TEAM, "day", "2026-11-23", 80)
    assert not await money.notice(TEAM, "day", "2026-11-23", 80)
    assert await money.notice(TEAM, "day", "2026-11-24", 80)
    assert await money.notice(TEAM, "day", "2026-11-23", 100)


async def test_who_was_killed_while_telling_is_followed(
    money: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right to tell runs out when nobody said that it was done."""
    assert await money.notice(TEAM, "month", "2026-11", 100)
    assert not await money.notice(TEAM, "month", "2026-11", 100)
    monkeypatch.setattr("storage.spending.TELLING_S", -1.0)
    assert await money.notice(TEAM, "month", "2026-11", 100)
    await money.noticed(TEAM, "month", "2026-11", 100, "1.5")
    assert not await money.notice(TEAM, "month", "2026-11", 100)


async def test_totals_stay_what_the_rows_add_up_to(money: Store) -> None:
    """Calls that end in any order, in many channels and quarters of an hour; asked for any moment between them."""
    bills = [Bill("openai", "m", cost_usd=0.0), Bill("openai", "m", tokens_in=1, cost_usd=0.3), None]
    for number in range(30):
        at = DAY + timedelta(minutes=7 * number)
        reserved = await money.reserve(call(0.1, channel=f"C{number % 3}"), at=at)
        assert isinstance(reserved, Reserved)
        bill = bills[number % len(bills)]
        if bill is not None:
            await money.settle(reserved, bill)
    for minutes in (0, 15, 22, 100, 209):
        since = DAY + timedelta(minutes=minutes)
        total = sum(row.cost_usd for row in await money.spending(TEAM, since))
        assert (await money.spent(TEAM, since)).usd == pytest.approx(total)
        one = sum(row.cost_usd for row in await money.spending(TEAM, since) if row.channel == "C1")
        assert (await money.spent(TEAM, since, "C1")).usd == pytest.approx(one)
