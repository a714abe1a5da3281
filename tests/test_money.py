"""The ledger: what is reserved, what is refused and in which words, and that no bill is lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from bot.errors import BudgetSpent, ModelUnavailable
from bot.models import Bill, Call
from bot.models.prices import Price, Prices
from bot.money import FULL, WARNED, Ledger
from bot.money_limits import Budgets, Calendar, limits_at
from bot.money_words import bar
from storage.spending import SpendSum
from storage.store import Store

TEAM, HELP, OTHER = "T1", "C0HELP", "C0OTHER"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PRICES = Prices({"gpt": Price(1.0, 0.1, 2.0, cache_write=1.25)}, as_of="2026-11-22", source="a test")
CALL = Call("openai", "gpt", 400_000, 250_000)
"""Costs a dollar at most: 0.4 million tokens written to the cache at 1.25, and 0.25 million out at 2."""


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def time() -> Time:
    """Noon on 23 November."""
    return Time()


@pytest.fixture
async def ledger(store: Store, time: Time) -> AsyncIterator[Ledger]:
    """Two dollars a day, five a month, three in each channel."""
    made = ledger_of(store, time, Budgets(2.0, 5.0, 3.0))
    yield made
    await made.close()


def ledger_of(store: Store, time: Time, budgets: Budgets, **more: object) -> Ledger:
    return Ledger(store, team=TEAM, prices=PRICES, budgets=budgets, clock=time, **more)  # type: ignore[arg-type]


def bill(cost: float | None, *, estimated: bool = False, tokens: int = 10) -> Bill:
    return Bill("openai", "gpt", tokens_in=tokens, tokens_out=5, cost_usd=cost, estimated=estimated)


async def spend(ledger: Ledger, cost: float, channel: str = HELP, most_usd: float | None = None) -> None:
    """One call from its reservation to its bill."""
    meter = ledger.meter(question_id="q1", channel=channel, most_usd=most_usd)
    await meter.before(CALL)
    meter.bill(bill(cost))
    await ledger.flush()


async def rows(store: Store) -> list[SpendSum]:
    return await store.spending(TEAM, NOON - timedelta(days=60))


async def test_a_call_is_reserved_with_the_most_and_settled_with_its_bill(
    ledger: Ledger, store: Store
) -> None:
    """Between the two it counts with its upper bound; the row then holds what the provider said."""
    meter = ledger.meter(question_id="q1", channel=HELP, purpose="evaluation")
    await meter.before(CALL)
    assert (await ledger.standings())[0].spent.held_usd == pytest.approx(1.0)
    meter.bill(bill(0.25))
    await ledger.flush()
    (row,) = await rows(store)
    assert (row.purpose, row.channel, row.tokens_in, row.cost_usd) == ("evaluation", HELP, 10, 0.25)
    assert (await ledger.standings())[0].spent.held_usd == 0


async def test_a_full_budget_is_refused_in_words(ledger: Ledger, time: Time, store: Store) -> None:
    """Which budget, how much of it, until when; the next day calls are made again, until the month is spent."""
    await spend(ledger, 1.0)
    await spend(ledger, 0.9)
    with pytest.raises(BudgetSpent) as refused:
        await spend(ledger, 1.0)
    assert str(refused.value) == (
        "Today's budget for API models is used up ($1.90 of $2.00 are spent), "
        "so only the local model and memory answer until 24 November, 00:00 UTC."
    )
    assert not refused.value.fault
    time.moment += timedelta(days=1)
    await spend(ledger, 1.0, OTHER)
    with pytest.raises(BudgetSpent, match=r"This channel's budget for the month .* until 1 December"):
        await spend(ledger, 1.0, HELP, 2.0)
    time.moment += timedelta(days=1)
    await spend(ledger, 1.0, OTHER)
    await spend(ledger, 1.0, OTHER, 9.0)
    time.moment += timedelta(days=1)
    with pytest.raises(BudgetSpent, match=r"This month's budget .*\$4.90 of \$5.00"):
        await spend(ledger, 1.0, "C0THIRD")
    time.moment = datetime(2026, 12, 1, tzinfo=UTC)
    await spend(ledger, 1.0)
    assert sum(row.calls for row in await rows(store)) == 6


async def test_a_refusal_for_now_is_no_empty_budget(ledger: Ledger) -> None:
    """While others hold the rest it is said so, and no admin is told that the money is gone."""
    first, second = ledger.meter(channel=HELP), ledger.meter(channel=HELP)
    await first.before(CALL)
    await second.before(CALL)
    with pytest.raises(BudgetSpent, match="may be used up by answers that are being written"):
        await ledger.meter(channel=HELP).before(CALL)
    first.bill(bill(0.1))
    second.bill(bill(0.1))
    await ledger.flush()
    assert await ledger.due() == []
    await spend(ledger, 0.1)


async def test_a_budget_of_nothing_lets_nothing_through_that_costs(store: Store, time: Time) -> None:
    """0 means never, in a channel too; a server that costs nothing is asked all the same."""
    never = ledger_of(store, time, Budgets(month_usd=0.0))
    with pytest.raises(BudgetSpent, match=r"is \$0, so only the local model"):
        await spend(never, 0.1)
    unlimited = ledger_of(store, time, Budgets())
    with pytest.raises(BudgetSpent, match="This channel's budget"):
        await spend(unlimited, 0.1, HELP, 0.0)
    await spend(unlimited, 0.1, OTHER)
    free = ledger_of(store, time, Budgets(month_usd=0.0), free=frozenset({"openai"}))
    await spend(free, 0.1)
    assert sorted(row.cost_usd for row in await rows(store)) == [0.0, 0.1]


async def test_a_model_without_a_price_is_not_asked_on_a_budget(store: Store, time: Time) -> None:
    """Its cost could pass any limit. Without one it is asked, and counts as nothing with no price version."""
    unknown = Call("openai", "mystery", 10, 10)
    with pytest.raises(
        ModelUnavailable, match=r"price of mystery is not known .*PRICES_FILE, or set OPENAI_FREE"
    ):
        await ledger_of(store, time, Budgets(day_usd=1.0)).meter(channel=HELP).before(unknown)
    assert await rows(store) == []
    without = ledger_of(store, time, Budgets())
    meter = without.meter(channel=HELP)
    await meter.before(unknown)
    meter.bill(Bill("openai", "mystery", tokens_in=10, tokens_out=5))
    await without.flush()
    (row,) = await rows(store)
    assert (row.cost_usd, row.price_version, row.tokens_in) == (0.0, "", 10)
    assert "The price of mystery is not known" in "\n".join(await without.status_lines())


async def test_a_bill_survives_the_task_that_made_the_call(ledger: Ledger, store: Store) -> None:
    """Stop is pressed in the middle of a call: its estimate is written after the task is gone."""
    meter = ledger.meter(channel=HELP)
    under_way = asyncio.Event()

    async def asking() -> None:
        await meter.before(CALL)
        try:
            under_way.set()
            await asyncio.Event().wait()
        finally:
            meter.bill(bill(0.6, estimated=True))

    task = asyncio.create_task(asking())
    await under_way.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await ledger.close()
    (row,) = await rows(store)
    assert (row.cost_usd, row.estimated) == (0.6, 1)


async def test_a_cancelled_reservation_holds_nothing(ledger: Ledger, store: Store) -> None:
    """Whoever is cancelled while the money is put aside never makes the call, and is never billed."""
    for _ in range(5):
        task = asyncio.create_task(ledger.meter(channel=HELP).before(CALL))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await ledger.flush()
    assert await rows(store) == []
    assert (await ledger.standings())[0].spent.usd == 0


async def test_a_second_attempt_is_a_second_call(ledger: Ledger, store: Store) -> None:
    """One that did no work leaves nothing, one whose end nobody heard is estimated, the last is as billed."""
    meter = ledger.meter(channel=HELP)
    for each in (Bill("openai", "gpt", cost_usd=0.0), bill(0.5, estimated=True), bill(0.1)):
        await meter.before(CALL)
        meter.bill(each)
        await ledger.flush()
    (row,) = await rows(store)
    assert (row.calls, row.estimated, round(row.cost_usd, 6)) == (2, 1, 0.6)


async def test_a_bill_above_the_most_is_kept(ledger: Ledger, store: Store) -> None:
    """The provider says what it takes; the next call sees it."""
    await spend(ledger, 2.5)
    assert [row.cost_usd for row in await rows(store)] == [2.5]
    with pytest.raises(BudgetSpent):
        await spend(ledger, 0.1)


async def test_who_is_told_when(ledger: Ledger) -> None:
    """80 % of the day; then a refusal, which is 100 %; nothing where nothing happened."""
    await spend(ledger, 1.0)
    assert await ledger.due() == []
    await spend(ledger, 0.6)
    assert [(due.standing.limit.scope, due.level) for due in await ledger.due()] == [("day", WARNED)]
    assert await ledger.due() == []
    with pytest.raises(BudgetSpent):
        await spend(ledger, 0.1)
    assert [(due.standing.limit.scope, due.level) for due in await ledger.due()] == [("day", FULL)]


async def test_after_a_restart_every_budget_is_looked_at(ledger: Ledger, store: Store, time: Time) -> None:
    """What the bot before did not come to tell is due again, with the channel's own budget."""
    await store.set_channel(TEAM, HELP, by="U1", budget_month_usd=1.2)
    await spend(ledger, 1.0, HELP, 1.2)
    again = ledger_of(store, time, Budgets())
    assert await again.due() == []
    await again.touch_all()
    assert [(due.standing.limit.scope, due.level) for due in await again.due()] == [
        (f"channel:{HELP}", WARNED)
    ]


async def test_calls_of_a_killed_bot_count_on(ledger: Ledger, time: Time) -> None:
    """An hour later nobody can be at work on them."""
    await ledger.meter(channel=HELP).before(CALL)
    assert await ledger.recover() == 0
    time.moment += timedelta(hours=1, seconds=1)
    assert await ledger.recover() == 1
    assert (await ledger.standings())[0].spent.sure_usd == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("moment", "zone", "day", "month", "period"),
    [
        ("2026-11-30T23:30+00:00", "Europe/Berlin", "2026-11-30T23:00", "2026-11-30T23:00", "2026-12"),
        ("2026-12-01T02:00+00:00", "America/New_York", "2026-11-30T05:00", "2026-11-01T04:00", "2026-11"),
        ("2026-10-25T12:00+00:00", "Europe/Berlin", "2026-10-24T22:00", "2026-09-30T22:00", "2026-10"),
        ("2026-03-29T12:00+00:00", "Europe/Berlin", "2026-03-28T23:00", "2026-02-28T23:00", "2026-03"),
        ("2026-11-23T20:00+00:00", "Asia/Kathmandu", "2026-11-23T18:15", "2026-10-31T18:15", "2026-11"),
    ],
)
def test_days_and_months_begin_at_midnight(moment: str, zone: str, day: str, month: str, period: str) -> None:
    """In the operator's time zone, also where the clock was changed since."""
    calendar, at = Calendar(zone), datetime.fromisoformat(moment)
    assert calendar.day(at) == datetime.fromisoformat(f"{day}+00:00")
    assert calendar.month(at) == datetime.fromisoformat(f"{month}+00:00")
    assert calendar.period("month", at) == period


def test_a_budget_begins_anew_with_the_next_day_or_month() -> None:
    """In words, also in December."""
    calendar = Calendar("Europe/Berlin")
    day, month = limits_at(datetime(2026, 12, 31, 12, tzinfo=UTC), Budgets(1.0, 1.0), calendar)
    assert calendar.anew(day) == "1 January, 00:00 Europe/Berlin"
    assert calendar.anew(month) == "1 January, 00:00 Europe/Berlin"


def test_a_bar_stays_a_bar() -> None:
    """Also above the limit."""
    assert bar(0.42) == "████░░░░░░ 42 %"
    assert bar(1.3) == "██████████ 130 %"
