"""Ratings: thumbs and reactions mean the same, the last one counts, nobody sees anybody's, and none is lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bot_process import APPRENTICE, HELP, Json, ask, eventually, id_of, is_from_bot, rate, until
from people_rig import DRILL, DRILL_COSTS, answered, comes_to, library, rating_of, texts_in, value_of
from slack_sdk.web.async_client import AsyncWebClient

from bot.app import Bot
from bot.slack import blocks, feedback_blocks, text
from bot.slack.corrections import Corrections
from bot.slack.feedback import REACTIONS, Feedback, Heard, Reaction, vote_of
from storage.duels import DuelOrder
from storage.records import now
from storage.store import Store
from storage.values import STOPPED, Message, Proposal

BETTER = "Two coins; three on Sundays."


def correction(view: Json) -> bool:
    return bool(view["callback_id"] == blocks.CORRECTION_VIEW)


def filled_in(view: Json) -> bool:
    """Whether a correction window shows the question by now."""
    return correction(view) and DRILL in texts_in(view["blocks"])


async def test_a_reaction_and_a_thumb_mean_the_same_and_the_last_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up by thumb, down by reaction, up by another reaction; taking back the first of two reactions changes nothing."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        which, ts = id_of(answer), answer["ts"]
        await rate(team.ben, answer, 1)
        await comes_to(bot, which, "U0BEN", 1)
        await team.ben.react(HELP, ts, "thumbsdown")
        await comes_to(bot, which, "U0BEN", -1)
        await team.ben.react(HELP, ts, "white_check_mark")
        await comes_to(bot, which, "U0BEN", 1)
        await team.ben.react(HELP, ts, "thumbsdown", remove=True)
        await team.ben.react(HELP, ts, "tada")
        await team.dan.react(HELP, ts, "x")  # heard after them
        await comes_to(bot, which, "U0DAN", -1)
        assert await value_of(bot, which, "U0BEN") == 1
        await team.ben.react(HELP, ts, "white_check_mark", remove=True)
        await comes_to(bot, which, "U0BEN", None)
        tally = await bot.workshop.store.tally(bot.workshop.team)
        assert (tally.thumbs_up, tally.thumbs_down) == (0, 1)


async def test_nobody_sees_anybodys_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thanks come to the rater alone, with a way back; the message of the answer stays as it was."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        await rate(team.ben, answer, 1)
        thanks = await team.ben.wait_for_ephemeral(HELP, lambda each: each["text"] == text.THANKS)
        assert not [each for each in await seen_by(team.cleo, answer) if each["text"] == text.THANKS]
        now = next(
            each for each in await team.cleo.messages(HELP, root(answer)) if each["ts"] == answer["ts"]
        )
        assert now["blocks"] == answer["blocks"]
        await team.ben.click(HELP, thanks["ts"], feedback_blocks.TAKE_BACK)
        await team.ben.wait_for_ephemeral(HELP, lambda each: each["text"] == feedback_blocks.TAKEN_BACK)
        assert await value_of(bot, id_of(answer), "U0BEN") is None


async def test_only_reactions_of_people_on_answers_are_votes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a question, on a colleague's words, and where ratings are switched off, a thumb is just a thumb."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        unrated = await ask(team.cleo, DRILL, channel="C0GENERAL")
        await bot.workshop.store.set_channel(bot.workshop.team, "C0GENERAL", by="U0ANN", feedback=False)
        heard: list[Heard] = []
        listen_in(monkeypatch, heard)
        chat = await team.ben.post(HELP, "Lunch?")
        await team.dan.react(HELP, chat, "+1")
        await team.dan.react(HELP, root(answer), "+1")
        await team.dan.react("C0GENERAL", unrated["ts"], "-1")
        await team.ben.react(HELP, answer["ts"], "+1")
        await until(lambda: len(heard) >= 4, timeout_s=30, what="four reactions were heard")
        await comes_to(bot, id_of(answer), "U0BEN", 1)
        tally = await bot.workshop.store.tally(bot.workshop.team)
        assert (tally.thumbs_up, tally.thumbs_down) == (1, 0)
        whispered = [call["args"]["user"] for call in await team.calls("chat.postEphemeral")]
        assert "U0DAN" not in whispered


async def test_a_thumbs_down_opens_the_window_before_the_database_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window is there with the answer in it while the database has said nothing; then question and vote follow."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        goes_on = asyncio.Event()
        for name in ("rate", "answered", "consent"):
            slow_down(monkeypatch, bot, name, goes_on)
        pressing = asyncio.create_task(rate(team.cleo, answer, -1))
        opened = await team.cleo.wait_for_view(correction, timeout_s=30)
        assert DRILL_COSTS in texts_in(opened["blocks"])
        assert DRILL not in texts_in(opened["blocks"])
        await pressing  # acknowledged in time although the database is silent
        assert await value_of(bot, id_of(answer), "U0CLEO") is None
        goes_on.set()
        shown = await team.cleo.wait_for_view(filled_in, timeout_s=30)
        assert shown["id"] == opened["id"]
        await comes_to(bot, id_of(answer), "U0CLEO", -1)


@pytest.mark.parametrize("trouble", [{"error": "expired_trigger_id"}, {"status": 0, "times": 5}])
async def test_a_vote_is_kept_when_its_window_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: dict[str, Any]
) -> None:
    """Slack is late or away: the vote counts, and the rater gets a button that opens the window after all."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        await team.fault(method="views.open", **trouble)
        await rate(team.cleo, answer, -1)
        await comes_to(bot, id_of(answer), "U0CLEO", -1)
        asked = await team.cleo.wait_for_ephemeral(HELP, what_was_wrong)
        await team.all_well()
        await team.cleo.click(HELP, asked["ts"], feedback_blocks.SAY_WRONG)
        view = await team.cleo.wait_for_view(filled_in, timeout_s=30)
        await team.cleo.submit(view["id"], {blocks.REASON: "outdated"})
        await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"] == text.THANKS)
        assert (await rating_of(bot, id_of(answer), "U0CLEO")).reason == "outdated"


async def test_closing_the_window_keeps_the_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "Only the vote" means that."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        await rate(team.cleo, answer, -1)
        view = await team.cleo.wait_for_view(filled_in, timeout_s=30)
        assert view["close"]["text"] == "Only the vote"
        await team.cleo.close_view(view["id"])
        await comes_to(bot, id_of(answer), "U0CLEO", -1)
        tally = await bot.workshop.store.tally(bot.workshop.team)
        assert (tally.thumbs_down, tally.corrections) == (1, 0)


async def test_what_was_wrong_can_be_said_after_a_reaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reaction opens no window, so its maker alone is offered one; what is sent there is the reason and a correction."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        await team.ben.react(HELP, answer["ts"], "-1::skin-tone-3")
        asked = await team.ben.wait_for_ephemeral(HELP, what_was_wrong)
        await team.ben.click(HELP, asked["ts"], feedback_blocks.SAY_WRONG)
        view = await team.ben.wait_for_view(filled_in, timeout_s=30)
        given = {blocks.BETTER: BETTER, blocks.REASON: "wrong", blocks.MAY_TRAIN: ["yes"]}
        assert await team.ben.submit(view["id"], given) == {"ok": True}
        await team.ben.wait_for_ephemeral(HELP, lambda each: each["text"] == text.CORRECTED)
        rating = await rating_of(bot, id_of(answer), "U0BEN")
        assert (rating.value, rating.reason) == (-1, "wrong")
        assert await bot.workshop.store.consent(bot.workshop.team, "U0BEN") is True


@pytest.mark.parametrize("way", ["button", "shortcut"])
async def test_an_answer_is_improved_without_a_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A correction from the button or the message's menu is a correction and nothing else; a reason alone is not enough."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        await rate(team.ben, answer, 1)
        await comes_to(bot, id_of(answer), "U0BEN", 1)
        if way == "button":
            await team.ben.click(HELP, answer["ts"], "improve_answer")
        else:
            await team.ben.shortcut(HELP, answer["ts"], "improve")
        view = await team.ben.wait_for_view(filled_in, timeout_s=30)
        assert view["title"]["text"] == "Improve this answer"
        refused = await team.ben.submit(view["id"], {blocks.REASON: "wrong"})
        assert refused == {"errors": {blocks.BETTER: feedback_blocks.IMPROVEMENT_EMPTY}}
        assert await team.ben.submit(view["id"], {blocks.BETTER: BETTER}) == {"ok": True}
        await team.ben.wait_for_ephemeral(HELP, lambda each: each["text"] == text.CORRECTED_NOT_TRAINED)
        assert await value_of(bot, id_of(answer), "U0BEN") == 1
        assert (await bot.workshop.store.tally(bot.workshop.team)).corrections == 1


async def test_what_is_no_answer_cannot_be_improved_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a colleague's words and on a sentence of the bot's that is no answer, the window explains what to choose."""
    async with library(tmp_path, monkeypatch) as (_bot, team):
        chat = await team.ben.post(HELP, "Lunch?")
        await team.dan.shortcut(HELP, chat, "improve")
        view = await team.dan.wait_for_view(explains, timeout_s=30)
        await team.dan.close_view(view["id"])
        bare = await team.cleo.post(HELP, "@apprentice")
        sentence = await team.cleo.wait_for_message(HELP, is_from_bot, thread_ts=bare)
        await team.dan.shortcut(HELP, sentence["ts"], "improve")
        await team.dan.wait_for_view(explains, timeout_s=30)


async def test_votes_that_overtake_one_another_end_with_the_last_press(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal that arrives before the reaction it takes back, and one delivered twice, leave what the person wanted."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        which, store = id_of(answer), bot.workshop.store
        feedback = bot_feedback(bot)
        at = float(answer["ts"])
        await eventually(lambda: store.answer_at(bot.workshop.team, HELP, answer["ts"]), what="it is stored")
        await feedback.hear(reaction("reaction_removed", "+1", answer["ts"], at + 2))
        await feedback.hear(reaction("reaction_added", "+1", answer["ts"], at + 1))
        assert await value_of(bot, which, "U0BEN") is None
        down = reaction("reaction_added", "-1", answer["ts"], at + 3)
        assert (await feedback.hear(down)).counts
        assert not (await feedback.hear(down)).counts, "delivered twice, said once"
        assert await value_of(bot, which, "U0BEN") == -1
        held = await store.held_words(bot.workshop.team, "U0BEN")
        assert [row["value"] for row in held["presses"]].count(-1) == 1


def test_skin_tones_and_names_of_reactions() -> None:
    """The same thumb in every colour; anything else is no vote."""
    assert vote_of("+1") == vote_of("thumbsup::skin-tone-6") == vote_of("white_check_mark") == 1
    assert vote_of("-1::skin-tone-2") == vote_of("x") == -1
    assert vote_of("tada") == vote_of("") == vote_of("+1x") == 0
    assert set(REACTIONS.values()) == {1, -1}


async def test_a_vote_about_a_deleted_answer_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question was deleted: nothing is kept, and both windows and whispers say it."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        answer = await answered(team)
        await bot.workshop.store.delete_question(bot.workshop.team, HELP, root(answer))
        await rate(team.cleo, answer, -1)
        await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"] == text.GONE)
        await team.cleo.wait_for_view(lambda view: text.GONE in texts_in(view["blocks"]), timeout_s=30)
        again = await ask(team.dan, DRILL)
        await rate(team.dan, again, 1)
        await comes_to(bot, id_of(again), "U0DAN", 1)


async def test_a_duel_and_a_stopped_answer_take_no_thumbs(tmp_path: Path) -> None:
    """Of a duel nobody may know whose answer it would be; of a stopped answer nobody has seen the whole."""
    store = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    try:
        mine = {"team": "T1", "channel": HELP, "asker": "U0CLEO", "text": DRILL}
        asked = (await store.ask(ts="1.0", thread_ts="1.0", **mine)).question
        order = DuelOrder("asked", 1.0, swapped=False, closes_at=now())
        first, second = (Proposal(words, "local", "starter") for words in ("Two coins.", "Three."))
        duel = await store.open_duel(asked, first, second, messages=[Message("user", DRILL)], order=order)
        await store.duel_posted(duel.duel.id, "1.5")
        await store.posted(duel.answer.id, "1.5")
        stopped = (await store.ask(ts="2.0", thread_ts="2.0", **mine)).question
        half = Proposal("A drill co", "local", "starter", finish=STOPPED)
        answer = (await store.answer(stopped, [half], messages=[Message("user", DRILL)])).answer
        await store.posted(answer.id, "2.5")
        feedback = feedback_on(store, "T1")
        assert (await feedback.hear(reaction("reaction_added", "+1", "1.5", 3.0))).answered is None
        assert not (await feedback.hear(reaction("reaction_added", "+1", "2.5", 3.0))).counts
        tally = await store.tally("T1")
        assert (tally.thumbs_up, tally.thumbs_down) == (0, 0)
    finally:
        await store.close()


# --- Helpers -----------------------------------------------------------------------------------------------


def root(answer: Json) -> str:
    return str(answer["thread_ts"])


def what_was_wrong(message: Json) -> bool:
    return bool(message["text"] == feedback_blocks.WHAT_WAS_WRONG)


def explains(view: Json) -> bool:
    return feedback_blocks.NOT_AN_ANSWER in texts_in(view["blocks"])


async def seen_by(person: Any, answer: Json) -> list[Json]:
    """The thread of an answer and the channel, with what was whispered to this person."""
    return [*await person.messages(HELP), *await person.messages(HELP, root(answer))]


def slow_down(monkeypatch: pytest.MonkeyPatch, bot: Bot, name: str, goes_on: asyncio.Event) -> None:
    """One method of the store does nothing before `goes_on`."""
    store = bot.workshop.store
    quick = getattr(store, name)

    async def slow(*args: Any, **named: Any) -> Any:
        await goes_on.wait()
        return await quick(*args, **named)

    monkeypatch.setattr(store, name, slow)


def listen_in(monkeypatch: pytest.MonkeyPatch, heard: list[Heard]) -> None:
    """Note what becomes of reactions."""
    hear = Feedback.hear

    async def noted(self: Feedback, reaction: Reaction) -> Heard:
        found = await hear(self, reaction)
        heard.append(found)
        return found

    monkeypatch.setattr(Feedback, "hear", noted)


def reaction(kind: str, name: str, ts: str, at: float) -> Reaction:
    event = {
        "type": kind,
        "user": "U0BEN",
        "reaction": name,
        "item": {"type": "message", "channel": HELP, "ts": ts},
        "item_user": APPRENTICE,
        "event_ts": f"{at:.6f}",
    }
    read = Reaction.of(event, APPRENTICE)
    assert read is not None
    return read


def bot_feedback(bot: Bot) -> Feedback:
    """The part of the bot that hears reactions, as another process would have it."""
    return feedback_on(bot.workshop.store, bot.workshop.team)


def feedback_on(store: Store, team: str) -> Feedback:
    async def remember() -> None:
        pass

    client = AsyncWebClient()
    corrections = Corrections(store, client, team=team, bot_user=APPRENTICE, remember=remember)
    return Feedback(store, client, corrections, team=team, bot_user=APPRENTICE)
