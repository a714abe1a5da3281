"""The Home tab: everybody finds their own there, admins the workshop too, and whoever is none cannot change it."""

from pathlib import Path
from typing import Any

import pytest
from bot_process import ADMIN_CHANNEL, HELP, Json, Team, id_of, rate
from people_rig import DRILL, DRILL_COSTS, answered, comes_to, library, texts_in

from bot.app import Bot
from bot.slack import blocks, feedback_blocks, home_blocks, text
from bot.slack.home_blocks import CHANNEL_VIEW, DUEL_RATE, INSTRUCTIONS, POLICY, SWITCHES
from bot.workspace import Person
from storage.forgetting import Holdings
from storage.records import ChannelSettings, Promotion, RunState, now

BETTER = "Two coins; three on Sundays."


async def test_home_shows_what_answers_and_what_is_mine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks sees the model, the own votes and words, and nothing of the workshop."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        empty = await home_of(team.cleo)
        assert home_blocks.NO_RATINGS in texts_in(empty["blocks"])
        assert bot.workshop.engine.label in texts_in(empty["blocks"])
        assert "nothing was promoted so far" in texts_in(empty["blocks"])
        await rate(team.cleo, answer, 1)
        await rate(team.ben, answer, -1)
        await comes_to(bot, id_of(answer), "U0CLEO", 1)
        await comes_to(bot, id_of(answer), "U0BEN", -1)
        read = texts_in((await home_of(team.cleo, lambda view: ":+1: *" in view))["blocks"])
        assert f":+1: *{DRILL}*\n{DRILL_COSTS}" in read
        assert ":-1: *" not in read, "that is Ben's affair"
        assert "I hold 1 of your questions, 1 vote," in read
        assert "For admins" not in read


async def test_a_rating_is_changed_and_withdrawn_in_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up becomes down, with the window for the better answer; then it is taken back, and Home forgets it."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        await rate(team.cleo, answer, 1)
        await comes_to(bot, id_of(answer), "U0CLEO", 1)
        await wish(team.cleo, answer, home_blocks.BAD, shown=":+1: *")
        view = await team.cleo.wait_for_view(lambda each: DRILL in texts_in(each["blocks"]), timeout_s=30)
        await comes_to(bot, id_of(answer), "U0CLEO", -1)
        assert await team.cleo.submit(view["id"], {blocks.BETTER: BETTER}) == {"ok": True}
        await team.cleo.wait_for_view(
            lambda each: text.CORRECTED_NOT_TRAINED in texts_in(each["blocks"]), timeout_s=30
        )
        await wish(team.cleo, answer, home_blocks.WITHDRAW, shown=":-1: *")
        await comes_to(bot, id_of(answer), "U0CLEO", None)
        await home_of(team.cleo, lambda view: home_blocks.NO_RATINGS in view, opened=False)
        assert (await bot.workshop.store.tally(bot.workshop.team)).corrections == 1


async def test_consent_is_changed_in_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The button says what it would change, and the tab what holds now."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        view = await home_of(team.cleo, lambda view: "You have not decided yet" in view)
        await team.cleo.click_view(view["id"], f"{blocks.CONSENT}_yes")
        view = await home_of(team.cleo, lambda view: "You have *agreed*" in view, opened=False)
        assert await bot.workshop.store.consent(bot.workshop.team, "U0CLEO") is True
        await team.cleo.click_view(view["id"], f"{blocks.CONSENT}_no")
        await home_of(team.cleo, lambda view: "You have *not agreed*" in view, opened=False)
        assert await bot.workshop.store.consent(bot.workshop.team, "U0CLEO") is False


async def test_everything_of_mine_is_sent_and_deleted_from_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file comes into the direct messages; the receipt stands in a window; the tab is empty then."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        await rate(team.cleo, answer, 1)
        await comes_to(bot, id_of(answer), "U0CLEO", 1)
        view = await home_of(team.cleo, lambda view: ":+1: *" in view)
        await team.cleo.click_view(view["id"], feedback_blocks.EXPORT_ME)
        said = await team.cleo.wait_for_view(
            lambda each: feedback_blocks.EXPORTED in texts_in(each["blocks"]), timeout_s=30
        )
        await team.cleo.wait_for_message("D0CLEO", lambda each: bool(each.get("files")))
        await team.cleo.close_view(said["id"])
        await team.cleo.click_view(view["id"], feedback_blocks.FORGET_ME)
        await team.cleo.wait_for_view(
            lambda each: "Deleted: 1 question with all answers" in texts_in(each["blocks"]), timeout_s=30
        )
        await home_of(team.cleo, lambda view: "I hold 0 of your questions, 0 votes" in view, opened=False)


async def test_admins_see_the_workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When training comes next, the last report as a link, what was spent, what waits, and who promoted what."""
    async with library(tmp_path, monkeypatch, train_cron="0 3 * * *") as (bot, team):
        run = await a_reported_run(bot, team)
        read = texts_in((await home_of(team.ann))["blocks"])
        assert "*Next training:* every day at 03:00 (UTC)" in read
        assert f"|#{run} " in read
        assert "*Spent on API models this month:* $0.00" in read
        assert "*Questions waiting for an answer:* 0" in read
        assert home_blocks.NO_CHANNELS in read


async def test_channel_settings_make_the_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen, filled in, saved, listed, opened again with what was saved, changed back."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        view = await home_of(team.ann)
        await team.ann.click_view(view["id"], home_blocks.HOME_CHANNEL, value=HELP)
        window = await settings_window(team.ann)
        given = {
            INSTRUCTIONS: "Answer in German.",
            POLICY: "api-first",
            DUEL_RATE: "0.1",
            SWITCHES: [home_blocks.FOLLOW_UPS],
        }
        assert await team.ann.submit(window["id"], given) == {"ok": True}
        view = await home_of(team.ann, lambda view: "Answer in German." in view, opened=False)
        assert f"<#{HELP}>" in texts_in(view["blocks"])
        shown = "asks an API model first, then the local one · 10 % duels · no ratings · follow-ups"
        assert shown in texts_in(view["blocks"])
        kept = await settings_of(bot)
        assert (kept.instructions, kept.policy, kept.duel_rate) == ("Answer in German.", "api-first", 0.1)
        assert (kept.feedback, kept.follow_ups, kept.changed_by) == (False, True, "U0ANN")
        await team.ann.click_view(view["id"], home_blocks.HOME_EDIT)
        window = await settings_window(team.ann)
        assert "Answer in German." in str(window["blocks"])
        back = {INSTRUCTIONS: "", POLICY: home_blocks.AS_THE_WORKSPACE, SWITCHES: [home_blocks.FEEDBACK]}
        assert await team.ann.submit(window["id"], back) == {"ok": True}
        await home_of(team.ann, lambda view: "ratings" in view and "German" not in view, opened=False)
        kept = await settings_of(bot)
        assert (kept.instructions, kept.policy, kept.duel_rate, kept.feedback) == ("", "", 0.1, True)


async def test_who_is_no_admin_changes_no_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by opening the window nor by sending one that was opened before the rights were gone."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        view = await home_of(team.ann)
        await team.ann.click_view(view["id"], home_blocks.HOME_CHANNEL, value=HELP)
        window = await settings_window(team.ann)
        channels = bot.people.channels
        refused = await sent(channels, "U0DAN", filled(window))
        assert "is for admins. Please ask <@U0ANN>" in refused["errors"][INSTRUCTIONS]
        wrong = filled(window, **{POLICY: "the-best", DUEL_RATE: "0.9"})
        answered_with = await sent(channels, "U0ANN", wrong)
        assert answered_with["errors"] == {
            POLICY: home_blocks.NO_SUCH_POLICY,
            DUEL_RATE: home_blocks.NO_SUCH_RATE,
        }
        too_long = await sent(channels, "U0ANN", filled(window, **{INSTRUCTIONS: "x" * 3001}))
        assert too_long["errors"] == {INSTRUCTIONS: home_blocks.TOO_LONG}
        assert await bot.workshop.store.channels_with_settings(bot.workshop.team) == []


async def test_a_home_that_slack_does_not_take_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and the next opening shows it."""
    async with library(tmp_path, monkeypatch) as (_bot, team):
        await team.fault(method="views.publish", error="internal_error", times=1)
        await team.cleo.open_home()
        await team.cleo.open_home()
        await team.cleo.wait_for_home(timeout_s=30)


def test_a_full_home_stays_within_slacks_limits() -> None:
    """A hundred channels with long instructions: fewer than 100 blocks, no paragraph too long, and the rest is told of."""
    channels = tuple(
        ChannelSettings(team="T", channel=f"C{number}", instructions="& < > " * 400) for number in range(100)
    )
    promotion = Promotion(sequence=1, team="T", decision="d", version_id="m", by="U0ANN", promoted_at=now())
    admin = home_blocks.AdminShown(
        schedule="nightly",
        last_run=None,
        report_link="",
        spent_month=1.0,
        waiting=0,
        policy="local-first",
        channels=channels,
    )
    shown = home_blocks.Shown("starter + local-1", promotion, (), held())
    view = home_blocks.home_view(shown, admin)
    assert len(view["blocks"]) < 100
    assert "And 70 more" in texts_in(view["blocks"])
    assert "promoted by <@U0ANN>" in texts_in(view["blocks"])
    sections = [block["text"]["text"] for block in view["blocks"] if block["type"] == "section"]
    assert max(len(each) for each in sections) <= 3000


# --- Helpers -----------------------------------------------------------------------------------------------


def held() -> Holdings:
    return Holdings(questions=0, ratings=0, corrections=0, entries=0, consent=None)


async def home_of(person: Person, fits: Any = lambda read: True, *, opened: bool = True) -> Json:
    """The Home tab, once what it says fits. `opened` says that the person opens it now."""
    if opened:
        await person.open_home()
    return await person.wait_for_home(lambda view: fits(texts_in(view["blocks"])), timeout_s=30)


async def wish(person: Person, answer: Json, what: str, *, shown: str) -> None:
    """Choose from the menu beside the only rating."""
    view = await home_of(person, lambda read: shown in read)
    block = next(each for each in view["blocks"] if each.get("accessory", {}).get("type") == "overflow")
    await person.click_view(
        view["id"], home_blocks.HOME_RATING, value=f"{id_of(answer)}:{what}", block_id=block["block_id"]
    )


async def settings_window(person: Person) -> Json:
    return await person.wait_for_view(lambda view: view["callback_id"] == CHANNEL_VIEW, timeout_s=30)


async def settings_of(bot: Bot) -> ChannelSettings:
    return await bot.workshop.store.channel_settings(bot.workshop.team, HELP)


async def a_reported_run(bot: Bot, team: Team) -> int:
    """A training run that ended with a report in the admin channel; its number."""
    store, mine = bot.workshop.store, bot.workshop.team
    ts = await team.ann.post(ADMIN_CHANNEL, "stands for the report")
    run = (await store.request_run(team=mine, occasion="test", by="U0ANN", options={})).run
    await store.advance_run(run, RunState.CANCELLED, outcome="cancelled", reason="for the test")
    await store.note_on_run(run.id, report_channel=ADMIN_CHANNEL, report_ts=ts)
    return int(run.number)


def filled(window: Json, **changed: str) -> Json:
    """A settings window as Slack sends it, with these values."""
    given = {POLICY: home_blocks.AS_THE_WORKSPACE, DUEL_RATE: "0"} | changed
    values: Json = {
        name: {name: {"type": "static_select", "selected_option": {"value": given[name]}}}
        for name in (POLICY, DUEL_RATE)
    }
    values[INSTRUCTIONS] = {
        INSTRUCTIONS: {"type": "plain_text_input", "value": given.get(INSTRUCTIONS) or None}
    }
    values[SWITCHES] = {SWITCHES: {"type": "checkboxes", "selected_options": []}}
    return {**window, "state": {"values": values}}


async def sent(channels: Any, person: str, view: Json) -> Json:
    """What the acknowledgement says when this person sends the window."""
    said: Json = {}

    async def ack(**answer: Any) -> None:
        said.update(answer)

    await channels.save(ack, {"user": {"id": person}}, view)
    return said
