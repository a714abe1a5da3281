"""In Slack: the note to be read before anything is learned, switches of learning, and the receipts of forgettings."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bot_process import ADMIN_CHANNEL, CLEOS_DM, HELP, Json, Team, ask, eventually, quick_settings, team_at
from people_rig import DRILL, answered, library, texts_in

from bot import legal
from bot.app import Bot, start
from bot.settings import MANIFEST
from bot.slack import forgetting_text, home_blocks, learning, text
from bot.slack.legal_notice import READ
from bot.workspace import LocalWorkspace
from bot.workspace.manifest import read_manifest
from bot.workspace.seed import APP_TOKEN, BOT_TOKEN
from training.runs import Declined


@asynccontextmanager
async def on_slack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Bot, Team]]:
    """A bot with tokens, as on real Slack; behind them is a local workspace of its own."""
    monkeypatch.setattr("bot.app.has_local_model", lambda _settings: False)
    workspace = LocalWorkspace(port=0, manifest=read_manifest(MANIFEST))
    await workspace.start()
    chosen: dict[str, Any] = {
        "slack_bot_token": BOT_TOKEN,
        "slack_app_token": APP_TOKEN,
        "slack_api_url": f"{workspace.url}/api/",
        "admin_users": ("U0ANN",),
        "admin_channel": ADMIN_CHANNEL,
    }
    bot = await start(quick_settings(folder / "data", **chosen), warm=False)
    try:
        async with team_at(workspace.url) as team:
            yield bot, team
    finally:
        await bot.stop()
        await workspace.stop()


async def test_nothing_is_frozen_on_slack_before_somebody_has_read_what_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note stands in the admin channel once, an admin's press is kept with who and when, and then runs are made."""
    async with on_slack(tmp_path, monkeypatch) as (bot, team):
        shop = bot.workshop
        refused = await shop.runs.request(by="U0ANN", occasion="first")
        assert isinstance(refused, Declined)
        assert refused.reason == legal.NOT_READ
        note = await team.ann.wait_for_message(
            ADMIN_CHANNEL, lambda each: each["text"] == legal.TITLE, timeout_s=30
        )
        assert "API terms" in texts_in(note["blocks"])
        await team.ben.click(ADMIN_CHANNEL, note["ts"], READ)
        await team.ben.wait_for_ephemeral(ADMIN_CHANNEL, lambda each: "admins" in each["text"])
        assert await legal.acknowledged(shop.store, shop.team) is None
        await team.ann.click(ADMIN_CHANNEL, note["ts"], READ)
        read = await team.ann.wait_for_message(
            ADMIN_CHANNEL, lambda each: "Read by <@U0ANN>" in texts_in_all(each), timeout_s=30
        )
        assert READ not in json.dumps(read["blocks"])
        decision = await legal.acknowledged(shop.store, shop.team)
        assert decision is not None
        assert decision.actor == "U0ANN"
        told = await shop.runs.request(by="U0ANN", occasion="second")
        assert isinstance(told, Declined)
        assert "examples to learn from" in told.reason
        assert bot.clockwork.notes is not None
        await bot.clockwork.notes.legal.tick()
        notes = [each for each in await team.ann.messages(ADMIN_CHANNEL) if each["text"] == legal.TITLE]
        assert len(notes) == 1


def texts_in_all(message: Json) -> str:
    """Everything a message says, its small print, too."""
    return json.dumps(message.get("blocks") or [], ensure_ascii=False)


async def test_where_nothing_is_learned_nobody_is_asked_for_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An admin switches a channel off and everything; no consent question, no request for a rating; then on again."""
    async with library(tmp_path, monkeypatch, solicit_rate=1.0) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        await team.cleo.command(HELP, "/apprentice", "learning off")
        await team.cleo.wait_for_ephemeral(HELP, lambda each: "is for admins" in each["text"])
        await team.ann.command(HELP, "/apprentice", "learning off")
        off = await team.ann.wait_for_ephemeral(HELP, lambda each: "in this channel becomes" in each["text"])
        assert off["text"] == learning.standing(await store.learning_places(mine), HELP)
        await answered(team)
        await bot.questions.stop()
        assert await team.calls("chat.postEphemeral") == []
        await team.ann.command(HELP, "/apprentice", "learning on here")
        await team.ann.wait_for_ephemeral(HELP, lambda each: "may become training data" in each["text"])
        await team.ann.command(HELP, "/apprentice", "learning off everywhere")
        await team.ann.wait_for_ephemeral(HELP, lambda each: "in this workspace" in each["text"])
        assert not await store.may_learn(mine, HELP)
        assert (await store.learning_places(mine)).workspace_off
        await team.ann.command(HELP, "/apprentice", "learning perhaps")
        await team.ann.wait_for_ephemeral(HELP, lambda each: learning.USAGE in each["text"])
        await team.ann.command(HELP, "/apprentice", "learning on everywhere")
        await eventually(lambda: store.may_learn(mine, HELP), what="learning is on again")
        await ask(team.cleo, DRILL)
        await team.cleo.wait_for_ephemeral(HELP, lambda each: each["text"] == text.CONSENT_ASK)


async def test_the_switch_is_in_the_settings_of_a_channel_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box in Home's window, ticked by default."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await team.ann.open_home()
        await team.ann.wait_for_home(timeout_s=30)
        home = await team.ann.home()
        assert home is not None
        await team.ann.click_view(home["id"], home_blocks.HOME_CHANNEL, value=HELP)
        window = await team.ann.wait_for_view(
            lambda each: each["callback_id"] == home_blocks.CHANNEL_VIEW, timeout_s=30
        )
        assert "Learn from what is said to me here" in json.dumps(window)
        given = {
            home_blocks.POLICY: home_blocks.AS_THE_WORKSPACE,
            home_blocks.DUEL_RATE: "0",
            home_blocks.SWITCHES: [home_blocks.FEEDBACK],
        }
        await team.ann.submit(window["id"], given)
        store, mine = bot.workshop.store, bot.workshop.team

        async def off() -> bool:
            return not await store.may_learn(mine, HELP)

        await eventually(off, what="learning is off in the channel")


async def test_admins_read_what_was_forgotten_without_a_name_and_the_terminal_s_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for in a terminal while the bot runs: the bot does it, and posts the receipt once."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        await answered(team)
        work = (await store.ask_to_forget(mine, "U0CLEO", by="terminal:ann")).id
        said = await team.ann.wait_for_message(
            ADMIN_CHANNEL, lambda each: "Somebody was forgotten" in each["text"], timeout_s=30
        )
        assert "1 question with all answers" in said["text"]
        assert "U0CLEO" not in json.dumps(said)
        row = await store.forgetting(work)
        assert row is not None
        assert row.told_at is not None
        assert not [each for each in await team.cleo.messages(CLEOS_DM) if "Deleted" in each["text"]]


async def test_who_waits_in_vain_gets_the_receipt_as_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it takes longer than somebody waits (or the bot was killed meanwhile), it comes by itself."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        await answered(team)
        await store.ask_to_forget(mine, "U0CLEO", by="U0CLEO")
        receipt = await team.cleo.wait_for_message(
            CLEOS_DM, lambda each: each["text"].startswith("Deleted: 1 question"), timeout_s=30
        )
        assert forgetting_text.IN_SLACK in receipt["text"]


async def test_the_clean_model_is_one_press_away_for_admins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else is refused; the press is a promotion like every other, with its reason."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, mine = bot.workshop.store, bot.workshop.team
        marked = await store.register_model(
            team=mine,
            name="local-1",
            base_model="b",
            path="p",
            sha256="s",
            run_id=None,
            dataset_id=None,
            card={},
        )
        await store.promote(team=mine, decision="d", version_id=marked.id, by="U0ANN", reason="")
        work = await store.ask_to_forget(mine, "U0CLEO", by="terminal:ann")
        await store.forgetting_went_on(
            work.id, "receipt", done={"tainted": ["local-1"]}, undone={"serving": "local-1", "offer": "base"}
        )
        said = await team.ann.wait_for_message(
            ADMIN_CHANNEL, lambda each: "local-1 still answers" in each["text"], timeout_s=30
        )
        await team.ben.click(ADMIN_CHANNEL, said["ts"], forgetting_text.SWITCH)
        await team.ben.wait_for_ephemeral(ADMIN_CHANNEL, lambda each: "admins" in each["text"])
        await team.ann.click(ADMIN_CHANNEL, said["ts"], forgetting_text.SWITCH)
        await team.ann.wait_for_ephemeral(ADMIN_CHANNEL, lambda each: "base" in each["text"])
        newest = await store.newest_promotion(mine)
        assert newest is not None
        assert (newest.version_id, newest.by) == (None, "U0ANN")
        assert "deleted since" in newest.reason


async def test_people_of_other_workspaces_are_never_asked_and_never_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a channel that two workspaces share (Slack Connect) they get their answer, and that is all."""
    async with library(tmp_path, monkeypatch) as (bot, _team):
        store, mine = bot.workshop.store, bot.workshop.team
        event = {
            "type": "app_mention",
            "user": "U0STRANGER",
            "user_team": "T0OTHER",
            "channel": HELP,
            "ts": "1700000000.000100",
            "text": DRILL,
        }
        assert await bot.questions.take(event)
        assert await store.consent(mine, "U0STRANGER") is False
        assert not await store.first_time_asked_for_consent(mine, "U0STRANGER")
        assert "U0STRANGER" in await store.refusing(mine)
        await bot.questions.stop()
