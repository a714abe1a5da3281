"""Consent is asked once and never lost; what is held of a person they can see, take along and have deleted."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from bot_process import HELP, Json, Team, eventually, id_of, rate
from databases import DATABASES, TEAM, empty_database
from people_rig import DRILL, DRILL_COSTS, answered, comes_to, library, texts_in
from sqlalchemy import update
from sqlmodel import col

from bot.app import Bot
from bot.slack import blocks, feedback_blocks, text
from bot.workspace.seed import BOT_TOKEN
from storage.records import Consent, now
from storage.store import Store

CLEOS_DM = "D0CLEO"


async def test_consent_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first answer and not after the second, whether the person has answered or not."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await answered(team)
        await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"] == text.CONSENT_ASK)
        await answered(team)
        await bot.questions.stop()
        assert len(await asked_for_consent(team)) == 1


async def test_an_asking_that_slack_did_not_take_is_repeated_a_day_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never stood before the person: not asked again at once, but tomorrow."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        await team.fault(method="chat.postEphemeral", error="internal_error", times=1)
        await answered(team)
        await eventually(lambda: asked_for_consent(team), what="the first asking failed")
        await answered(team)
        assert len(await asked_for_consent(team)) == 1
        await a_day_passes(store, mine, "U0CLEO")
        await answered(team)
        await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"] == text.CONSENT_ASK)

        async def shown() -> bool:
            await a_day_passes(store, mine, "U0CLEO")
            return not await store.first_time_asked_for_consent(mine, "U0CLEO")

        await eventually(shown, what="it is known that it was shown")


@pytest.mark.parametrize("url", DATABASES, indirect=True)
async def test_an_asking_is_claimed_by_one_and_forgotten_by_nobody(url: str) -> None:
    """A bot that died between the claim and the question leaves the claim to somebody else, after a day."""
    store = await Store.open(url)
    try:
        assert await store.first_time_asked_for_consent(TEAM, "U1")
        assert not await store.first_time_asked_for_consent(TEAM, "U1")
        await a_day_passes(store, TEAM, "U1")
        assert await store.first_time_asked_for_consent(TEAM, "U1")
        await store.consent_shown(TEAM, "U1")
        await a_day_passes(store, TEAM, "U1")
        assert not await store.first_time_asked_for_consent(TEAM, "U1")
        await store.set_consent(TEAM, "U1", False)
        assert await store.refusing(TEAM) == {"U1"}
        assert not await store.first_time_asked_for_consent(TEAM, "U1")
    finally:
        await store.close()


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return empty_database(request, tmp_path)


async def test_the_command_changes_consent_and_explains_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """yes, no, something else, nothing: each answers the person alone."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        for words, granted, said in (("yes", True, text.CONSENT_YES), ("NO", False, text.CONSENT_WITHDRAWN)):
            await team.cleo.command(HELP, "/apprentice", f"Privacy {words}")
            await team.cleo.wait_for_ephemeral(HELP, says(said))
            assert await store.consent(mine, "U0CLEO") is granted
        await team.cleo.command(HELP, "/apprentice", "privacy maybe")
        await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"] == feedback_blocks.PRIVACY_USAGE)
        await team.cleo.command(HELP, "/apprentice", "privacy")
        shown = await team.cleo.wait_for_ephemeral(HELP, lambda each: "You have *not agreed*" in each["text"])
        await team.cleo.click(HELP, shown["ts"], f"{blocks.CONSENT}_yes")
        await team.cleo.wait_for_ephemeral(HELP, is_replaced(shown["ts"], text.CONSENT_YES))
        assert await store.consent(mine, "U0CLEO") is True


async def test_an_export_is_a_file_with_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Question, answer, vote, presses, correction and consent are in the file in one's own direct messages."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await cleo_leaves_traces(bot, team)
        await team.cleo.command(HELP, "/apprentice", "privacy export")
        await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"] == feedback_blocks.EXPORTED)
        message = await team.cleo.wait_for_message(CLEOS_DM, lambda each: bool(each.get("files")))
        held = json.loads(await content_of(team, message["files"][0]))
        assert held["person"] == "U0CLEO"
        assert [row["text"] for row in held["questions"]] == [DRILL]
        assert [row["text"] for row in held["answers"]] == [DRILL_COSTS]
        assert [row["value"] for row in held["ratings"]] == [-1]
        assert [row["value"] for row in held["presses"]][:1] == [-1]
        assert [row["text"] for row in held["corrections"]] == ["Two coins; three on Sundays."]
        assert [row["granted"] for row in held["consent"]] == [True]
        assert "Two coins; three on Sundays." in [row["answer"] for row in held["entries"]]
        assert not [each for each in await team.ben.messages(HELP) if each.get("files")]


async def test_where_no_file_is_taken_the_words_come_as_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack refuses the upload: the person reads it all the same, and is told whom to ask for the rest."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await cleo_leaves_traces(bot, team)
        await team.fault(method="files.getUploadURLExternal", error="not_allowed_token_type", times=9)
        await team.cleo.command(HELP, "/apprentice", "privacy export")
        said = await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"].startswith("```"))
        assert feedback_blocks.EXPORT_CUT in said["text"]
        assert "U0CLEO" in said["text"]


async def test_deleting_asks_first_and_gives_a_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command only asks; the button with its confirmation deletes, says what, and Home and export show nothing."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        await cleo_leaves_traces(bot, team)
        await team.cleo.command(HELP, "/apprentice", "privacy delete")
        sure = await team.cleo.wait_for_ephemeral(
            HELP, lambda each: each["text"] == feedback_blocks.SURE_TO_DELETE
        )
        assert sure["blocks"][-1]["elements"][0]["confirm"]["confirm"]["text"] == "Delete"
        assert (await store.holdings(mine, "U0CLEO")).questions == 1
        await team.cleo.click(HELP, sure["ts"], feedback_blocks.FORGET_ME)
        receipt = await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"].startswith("Deleted: 1"))
        assert "1 question with all answers, 1 vote, 1 correction," in receipt["text"]
        assert all(not rows for rows in (await store.held_words(mine, "U0CLEO")).values())
        await team.cleo.command(HELP, "/apprentice", "privacy export")
        await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"] == feedback_blocks.NOTHING_HELD)
        await team.cleo.open_home()
        home = await team.cleo.wait_for_home(timeout_s=30)
        assert "I hold 0 of your questions, 0 votes, 0 corrections" in texts_in(home["blocks"])
        assert DRILL not in texts_in(home["blocks"])


# --- Helpers -----------------------------------------------------------------------------------------------


async def cleo_leaves_traces(bot: Bot, team: Team) -> None:
    """She asks, votes down, writes the better answer and agrees to training."""
    store, mine = bot.workshop.store, bot.workshop.team
    answer = await answered(team)
    await store.set_consent(mine, "U0CLEO", True)
    await rate(team.cleo, answer, -1)
    view = await team.cleo.wait_for_view(lambda each: DRILL in texts_in(each["blocks"]), timeout_s=30)
    given = {blocks.BETTER: "Two coins; three on Sundays.", blocks.MAY_TRAIN: ["yes"]}
    await team.cleo.submit(view["id"], given)
    await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"] == text.CORRECTED)
    await comes_to(bot, id_of(answer), "U0CLEO", -1)


async def asked_for_consent(team: Team) -> list[Json]:
    """Every time that Slack was given the question for consent; of a call that met trouble nothing else is known."""
    calls = await team.calls("chat.postEphemeral")
    return [call for call in calls if call["args"].get("text", text.CONSENT_ASK) == text.CONSENT_ASK]


async def a_day_passes(store: Store, team: str, person: str) -> None:
    """For the claim to ask somebody."""
    async with store.database.writing() as session:
        where = (col(Consent.team) == team, col(Consent.person) == person)
        await session.exec(update(Consent).where(*where).values(asked_at=now() - timedelta(days=1.5)))


async def content_of(team: Team, file: Json) -> str:
    """The bytes of a file, as its owner would download it."""
    headers = {"Authorization": f"Bearer {BOT_TOKEN}"}
    async with team.http.get(file["url_private"], headers=headers) as response:
        assert response.status == 200
        return await response.text()


def says(words: str) -> Callable[[Json], bool]:
    return lambda each: bool(each["text"] == words)


def is_replaced(ts: str, words: str) -> Callable[[Json], bool]:
    return lambda each: each["ts"] == ts and each["text"] == words
