"""*Add to training set*: a message becomes an example when everybody whose words it holds has allowed it, and not before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bot_process import HELP, Json, Team, ask, eventually, is_from_bot, words_of
from people_rig import DRILL, DRILL_COSTS, answered, library, texts_in

from bot.app import Bot
from bot.slack import shortcut_blocks
from bot.slack.shortcut_blocks import ALLOW, ANSWER, DENY, QUESTION, TOPIC
from bot.workspace import Person
from training.examples import Sieve
from training.gathering import allowed_today, pages

ASKED, SAID = "Where are the ladders?", "Behind the green door; ask at the desk for the key."
BENS_DM, DANS_DM = "D0BEN", "D0DAN"


async def test_words_of_somebody_else_wait_for_their_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dan proposes what Ben wrote: Ben reads exactly what would be kept and who asks; after his Allow it is served."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await ben_answers_and_dan_proposes(team)
        asked = await team.ben.wait_for_message(BENS_DM, is_a_request)
        read = texts_in(asked["blocks"])
        assert ASKED in read
        assert SAID in read
        assert "<@U0DAN>" in read
        assert await entry(bot) is None, "nothing is kept before he says yes"
        await team.ben.click(BENS_DM, asked["ts"], ALLOW)
        await team.dan.wait_for_message(DANS_DM, lambda each: "is in the training set now" in each["text"])
        await team.ben.wait_for_message(BENS_DM, lambda each: each["text"] == shortcut_blocks.ALLOWED_NOW)
        kept = await entry(bot)
        assert kept is not None
        assert (kept.answer, kept.topic, kept.source) == (SAID, "ladders", "a colleague")
        assert words_of(await ask(team.cleo, ASKED)) == SAID
        assert await authors_of_examples(bot) == {("U0BEN", "U0DAN")}
        await team.ben.delete(HELP, await ts_of(bot))

        async def gone() -> bool:
            return await entry(bot) is None

        await eventually(gone, timeout_s=30, what="a message that is gone takes its example along")


async def test_a_no_is_final_and_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ben denies: nothing is kept, Dan hears it kindly, and Ben is not asked again, by nobody."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        ts = await ben_answers_and_dan_proposes(team)
        asked = await team.ben.wait_for_message(BENS_DM, is_a_request)
        await team.ben.click(BENS_DM, asked["ts"], DENY)
        await team.dan.wait_for_message(DANS_DM, lambda each: "may not be used" in each["text"])
        await team.ben.wait_for_message(BENS_DM, lambda each: each["text"] == shortcut_blocks.DENIED_NOW)
        held = await bot.workshop.store.held_words(bot.workshop.team, "U0BEN")
        assert [(row["question"], row["answer"]) for row in held["nominations"]] == [("", "")]
        await proposes(team.ann, ts, {QUESTION: ASKED})
        await team.ann.wait_for_ephemeral(HELP, lambda each: each["text"] == shortcut_blocks.NOT_ALLOWED)
        requests = [call for call in await team.calls("chat.postMessage") if ALLOW in str(call["args"])]
        assert len(requests) == 1
        assert await entry(bot) is None


async def test_only_the_author_decides_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A press by somebody else is refused, a second press changes nothing, and what is gone is said to be gone."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await ben_answers_and_dan_proposes(team)
        asked = await team.ben.wait_for_message(BENS_DM, is_a_request)
        nominations = nominations_of(bot)
        which = asked["blocks"][-1]["elements"][0]["value"]
        assert await pressed(nominations.allow, "U0CLEO", which) == [shortcut_blocks.NOT_YOURS]
        assert await pressed(nominations.deny, "U0CLEO", which) == [shortcut_blocks.NOT_YOURS]
        assert await pressed(nominations.deny, "U0BEN", "n_gone") == [shortcut_blocks.NO_LONGER]
        assert await entry(bot) is None
        assert await pressed(nominations.allow, "U0BEN", which) == [shortcut_blocks.ALLOWED_NOW]
        assert await pressed(nominations.allow, "U0BEN", which) == [shortcut_blocks.NO_LONGER]
        assert await pressed(nominations.deny, "U0BEN", which) == [shortcut_blocks.NO_LONGER]
        assert (await bot.workshop.store.tally(bot.workshop.team)).entries == 33
        told = [call for call in await team.calls("chat.postMessage") if call["args"]["channel"] == DANS_DM]
        assert len(told) == 1


async def test_an_allow_that_was_cut_off_is_gone_through_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bot died between the Allow and the entry: the next press finishes it."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await ben_answers_and_dan_proposes(team)
        asked = await team.ben.wait_for_message(BENS_DM, is_a_request)
        which = asked["blocks"][-1]["elements"][0]["value"]
        await bot.workshop.store.allow_nomination(which, "U0BEN")
        await team.ben.click(BENS_DM, asked["ts"], ALLOW)
        await team.dan.wait_for_message(DANS_DM, lambda each: "is in the training set now" in each["text"])
        assert await entry(bot) is not None


async def test_own_words_are_allowed_by_sending_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ben proposes his own answer: the window says what sending means, nobody is asked, it is served at once."""
    async with library(tmp_path, monkeypatch) as (_bot, team):
        ts = await team.ben.post(HELP, SAID)
        view = await window(team.ben, ts)
        assert "you allow that for your own words" in texts_in(view["blocks"])
        empty = await team.ben.submit(view["id"], {QUESTION: "   "})
        assert list(empty["errors"].values()) == [shortcut_blocks.EMPTY_QUESTION]
        assert await team.ben.submit(view["id"], {QUESTION: ASKED}) == {"ok": True}
        await team.ben.wait_for_ephemeral(HELP, lambda each: each["text"] == shortcut_blocks.TAKEN)
        assert words_of(await ask(team.cleo, ASKED)) == SAID


async def test_an_answer_of_ours_needs_the_consent_of_who_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked and agreed to training is not asked again; who did not decide is asked; who said no is left alone."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        answer = await answered(team)
        await store.set_consent(mine, "U0CLEO", True)
        view = await window(team.ben, answer["ts"], lambda each: DRILL in str(each["blocks"]))
        assert DRILL_COSTS in str(view["blocks"])
        await team.ben.submit(view["id"], {TOPIC: "prices"})
        await team.ben.wait_for_ephemeral(HELP, lambda each: each["text"] == shortcut_blocks.TAKEN)
        assert (await store.tally(mine)).entries == 32, "it was known already, word for word"
        dans = await ask(team.dan, "Price of a drill?")
        await proposes(team.ben, dans["ts"], {}, lambda each: "Price of a drill?" in str(each["blocks"]))
        await team.dan.wait_for_message(DANS_DM, is_a_request)
        await store.set_consent(mine, "U0DAN", False)
        again = await ask(team.dan, "Opening time?")
        await proposes(team.ben, again["ts"], {}, lambda each: "Opening time?" in str(each["blocks"]))
        await team.ben.wait_for_ephemeral(HELP, lambda each: each["text"] == shortcut_blocks.NOT_ALLOWED)


async def test_the_question_is_found_in_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague's better words under a question that the bot was asked: the window knows the question."""
    async with library(tmp_path, monkeypatch) as (_bot, team):
        answer = await answered(team)
        better = await team.ben.post(HELP, "Three coins since Monday.", answer["thread_ts"])
        view = await window(team.dan, better, lambda each: DRILL in str(each["blocks"]))
        assert "Three coins since Monday." in str(view["blocks"])


async def test_who_said_no_to_training_is_reminded_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A general no wins over a window sent by mistake; and taken back later it takes the example out of training."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        ts = await team.ben.post(HELP, SAID)
        await bot.workshop.store.set_consent(bot.workshop.team, "U0BEN", False)
        await proposes(team.ben, ts, {QUESTION: ASKED})
        await team.ben.wait_for_ephemeral(HELP, lambda each: each["text"] == shortcut_blocks.OWN_REFUSAL)
        assert await entry(bot) is None
        await bot.workshop.store.set_consent(bot.workshop.team, "U0BEN", True)
        await proposes(team.ben, ts, {QUESTION: ASKED})
        await team.ben.wait_for_ephemeral(HELP, lambda each: each["text"] == shortcut_blocks.TAKEN)
        assert await authors_of_examples(bot) == {("U0BEN",)}
        await bot.workshop.store.set_consent(bot.workshop.team, "U0BEN", False)
        assert await authors_of_examples(bot) == set()


async def test_a_sentence_of_the_bot_is_no_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is neither a person's nor an answer of ours cannot be proposed; the window says what can."""
    async with library(tmp_path, monkeypatch) as (_bot, team):
        bare = await team.cleo.post(HELP, "@apprentice")
        sentence = await team.cleo.wait_for_message(HELP, is_from_bot, thread_ts=bare)
        await team.dan.shortcut(HELP, sentence["ts"], "train_add")
        view = await team.dan.wait_for_view(
            lambda each: shortcut_blocks.NOT_FROM_A_PERSON in texts_in(each["blocks"]), timeout_s=30
        )
        assert view["submit"] is None


# --- Helpers -----------------------------------------------------------------------------------------------


async def window(
    person: Person, ts: str, fits: Callable[[Json], bool] = lambda view: True, *, channel: str = HELP
) -> Json:
    """The window of the shortcut on a message, once it shows what is waited for."""
    await person.shortcut(channel, ts, "train_add")
    return await person.wait_for_view(
        lambda view: view["callback_id"] == shortcut_blocks.NOMINATION_VIEW and fits(view), timeout_s=30
    )


async def proposes(
    person: Person, ts: str, given: dict[str, Any], fits: Callable[[Json], bool] = lambda view: True
) -> None:
    view = await window(person, ts, fits)
    assert await person.submit(view["id"], given) == {"ok": True}


async def ben_answers_and_dan_proposes(team: Team) -> str:
    """Ben answers a colleague; Dan writes the question into the window and sends it. The ts of Ben's message."""
    ts = await team.ben.post(HELP, SAID)
    view = await window(team.dan, ts)
    assert SAID in str(view["blocks"])
    assert await team.dan.submit(view["id"], {QUESTION: ASKED, ANSWER: SAID, TOPIC: "ladders"}) == {
        "ok": True
    }
    await team.dan.wait_for_ephemeral(HELP, lambda each: "I have asked <@U0BEN>" in each["text"])
    return ts


def is_a_request(message: Json) -> bool:
    return is_from_bot(message) and ALLOW in str(message.get("blocks"))


async def entry(bot: Bot) -> Any:
    return await bot.workshop.store.entry(bot.workshop.team, ASKED)


async def ts_of(bot: Bot) -> str:
    """Where the message stands of which the only nomination is."""
    held = await bot.workshop.store.held_words(bot.workshop.team, "U0BEN")
    return str(held["nominations"][0]["ts"])


async def authors_of_examples(bot: Bot) -> set[tuple[str, ...]]:
    """Whose words would be trained on, of what came by nomination."""
    store, team = bot.workshop.store, bot.workshop.team
    nominated = {row.id async for page in store.entries(team) for row in page if row.nomination_id}
    sieve = Sieve(await allowed_today(store, team))
    found = [example async for page in pages(store, team, sieve) for example in page.examples]
    return {example.authors for example in found if example.id in nominated}


def nominations_of(bot: Bot) -> Any:
    """What listens to Allow and Deny in the running bot."""
    return bot.people.nominations


async def pressed(listener: Any, person: str, which: str) -> list[str]:
    """What somebody reads who presses a button, however they came by it."""
    said: list[str] = []

    async def ack() -> None:
        pass

    async def respond(**message: Any) -> None:
        said.append(message["text"])

    await listener(ack, {"user": {"id": person}}, {"value": which}, respond)
    return said
