"""Budgets where people meet them: notices in the admin channel, the channel's own limit in Home, the terminal's table."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bot_process import ADMIN_CHANNEL, HELP
from people_rig import library
from terminal import Terminal, logging_as_it_was
from test_home import filled, home_of, sent, settings_of, settings_window

from bot.app import Bot
from bot.errors import BudgetSpent
from bot.models import Bill, Call
from bot.models.prices import Price, Prices
from bot.money import Ledger
from bot.money_limits import Budgets
from bot.slack import home_blocks
from bot.slack.home_blocks import BUDGET, DUEL_RATE, POLICY, SWITCHES, read_budget
from bot.slack.spending import BudgetNotices
from storage.spending import Reservation, Reserved
from storage.store import Store

PRICES = Prices({"gpt": Price(1.0, 0.1, 1.0)}, as_of="2026-11-22", source="a test")


def ledger_of(bot: Bot) -> Ledger:
    """Four dollars a day."""
    shop = bot.workshop
    return Ledger(shop.store, team=shop.team, prices=PRICES, budgets=Budgets(day_usd=4.0))


def notices_of(bot: Bot, ledger: Ledger) -> BudgetNotices:
    shop = bot.workshop
    return BudgetNotices(
        shop.store, bot.people.channels._client, ledger, team=shop.team, channel=ADMIN_CHANNEL
    )


async def spend(ledger: Ledger, cost: float) -> None:
    meter = ledger.meter(channel=HELP)
    await meter.before(Call("openai", "gpt", 1_000_000, 0))
    meter.bill(Bill("openai", "gpt", tokens_in=10, cost_usd=cost))
    await ledger.flush()


async def test_admins_are_told_once_at_each_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 % and when it is used up; not again at the next look, nor by the next bot; after a failure it is tried again."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        ledger = ledger_of(bot)
        notices = notices_of(bot, ledger)

        async def said() -> list[str]:
            messages = await team.ann.messages(ADMIN_CHANNEL)
            return sorted(each["text"] for each in messages if "for API models is" in each["text"])

        for cost in (1.0, 1.0, 1.0):
            await spend(ledger, cost)
        await notices.tick()
        assert await said() == []
        await spend(ledger, 0.4)
        await team.fault(method="chat.postMessage", error="internal_error", times=1)
        await notices.tick()
        assert await said() == []
        for _ in range(3):
            await notices.tick()
        (warned,) = await said()
        assert (
            "Today's budget for API models is spent to 85 % ($3.40 of $4.00). Nothing changes yet." in warned
        )
        with pytest.raises(BudgetSpent):
            await spend(ledger, 0.1)
        await notices.tick()
        again = notices_of(bot, ledger_of(bot))
        await again.start()
        await again.tick()
        assert len(await said()) == 2
        assert any(
            "is used up ($3.40 of $4.00; a further call could have passed it" in each for each in await said()
        )


async def test_a_channels_budget_is_set_in_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written, listed, opened again, emptied; what is no amount says so beside its input."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        view = await home_of(team.ann)
        await team.ann.click_view(view["id"], home_blocks.HOME_CHANNEL, value=HELP)
        window = await settings_window(team.ann)
        wrong = filled(window)
        wrong["state"]["values"][BUDGET] = {BUDGET: {"type": "plain_text_input", "value": "1,000"}}
        assert (await sent(bot.people.channels, "U0ANN", wrong))["errors"] == {
            BUDGET: home_blocks.NO_SUCH_BUDGET
        }
        given = {POLICY: home_blocks.AS_THE_WORKSPACE, DUEL_RATE: "0", SWITCHES: [], BUDGET: "7,50"}
        assert await team.ann.submit(window["id"], given) == {"ok": True}
        view = await home_of(team.ann, lambda read: "$0.00 of $7.50 this month" in read, opened=False)
        assert (await settings_of(bot)).budget_month_usd == 7.5
        await team.ann.click_view(view["id"], home_blocks.HOME_EDIT)
        window = await settings_window(team.ann)
        assert "'initial_value': '7.50'" in str(window["blocks"])
        assert await team.ann.submit(window["id"], {**given, BUDGET: ""}) == {"ok": True}
        await home_of(team.ann, lambda read: "$7.50" not in read, opened=False)
        assert (await settings_of(bot)).budget_month_usd is None


@pytest.mark.parametrize(
    ("written", "amount"),
    [("", None), (" ", None), ("0", 0.0), ("20", 20.0), ("$ 7.5", 7.5), ("7,50", 7.5)],
)
def test_an_amount_is_read_as_people_write_it(written: str, amount: float | None) -> None:
    """With a dollar sign or a comma; empty is no limit of its own."""
    assert read_budget(written) == amount


@pytest.mark.parametrize("written", ["-1", "1,000", "much", "1e9", "nan", "inf", "12345678", "٣"])
def test_what_is_no_amount_is_refused(written: str) -> None:
    """Rather than read as something that nobody meant."""
    with pytest.raises(ValueError, match=r"."):
        read_budget(written)


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """An empty folder with nothing set but that the sample domain is left out."""
    monkeypatch.chdir(tmp_path)
    here = Terminal(tmp_path, capsys)
    here.configure(sample_domain="false")
    with logging_as_it_was():
        yield here


async def _one_call_in_october(store: Store) -> None:
    call = Reservation("T0LOCAL", None, "C1", "answer", "openai", "gpt", 10, 5, 0.5, "2026-11-22")
    reserved = await store.reserve(call, at=datetime(2026, 10, 3, tzinfo=UTC))
    assert isinstance(reserved, Reserved)
    await store.settle(reserved, Bill("openai", "gpt", tokens_in=1200, tokens_out=5, cost_usd=0.25))
    await store.close()


def test_the_terminal_shows_a_month(terminal: Terminal) -> None:
    """By model and channel, of the month that was asked for; what is no month is said."""

    async def before() -> None:
        await _one_call_in_october(await terminal.store())

    terminal.data.mkdir()
    asyncio.run(before())
    shown = terminal.run("spending", "--month", "2026-10")
    assert shown.code == 0, shown.err
    assert "Spent on API models in 2026-10: $0.25." in shown.out
    assert "1200" in shown.out
    told = terminal.run("spending", "--month", "2026-10", "--json").json
    assert (told["month"], told["cost_usd"], told["rows"][0]["channel"]) == ("2026-10", 0.25, "C1")
    assert "Spent on API models in 2026-09: $0.00." in terminal.run("spending", "--month", "2026-09").out
    assert "soon is no month" in terminal.run("spending", "--month", "soon").err
