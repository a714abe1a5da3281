"""Distilling as people meet it: in Slack from the quote to the training that learns from it, and in the terminal."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from answer_rig import MODEL, Room, room_at
from bot_process import ADMIN_CHANNEL, HELP, eventually, words_of
from databases import ask
from provider_standins import OpenAIServer, StandIn, served
from terminal import Terminal
from test_doctor import terminal  # noqa: F401
from test_provider_serving import tuned, typed

from bot.slack.shutdowns import Shutdowns
from bot.workshop import LOCAL_TEAM
from storage.records import now
from storage.store import Store
from storage.values import Message, Proposal
from training.runs import SALT

TEACHER = "gpt-6-sol"
ASKED = tuple(
    f"How many {word} does the {place} hold?"
    for word in ("crates", "barrels", "sacks")
    for place in ("loft", "shed")
)


async def salted(store: Store) -> None:
    """Which questions would be held out is the same in each run: the first of ASKED, and no other."""
    await store.keepsake(SALT, lambda: "salt")
    await store.change_keepsake(SALT, "salt")


async def told(room: Room, words: str) -> list[str]:
    """What stands in the admin channel with these words."""
    return [
        each["text"] for each in await room.team.ann.messages(ADMIN_CHANNEL) if words in each.get("text", "")
    ]


async def test_an_admin_lets_a_model_teach(tmp_path: Path) -> None:
    """Quote, yes, the end in the admin channel, once; nobody but an admin; and the clock of the bot does the work."""
    async with room_at(tmp_path) as room:
        room.api.models[TEACHER] = None
        shop = room.bot.workshop
        await shop.store.set_consent(shop.team, "U0CLEO", True)
        await salted(shop.store)
        for words in ASKED:
            await room.answer(await room.asked(words))
        before = len(room.api.requests)
        await room.team.cleo.command(HELP, "/apprentice", "distil")
        assert len(room.api.requests) == before
        quote = await typed(room, f"distil openai:{TEACHER} limit=4", "would be asked")
        print("QUOTE", quote)
        assert f"openai:{TEACHER} would be asked 4 questions of your team, for about $0.0" in quote
        assert "contract with the provider allows" in quote
        assert "`/apprentice distil confirm` begins" in quote
        assert "waits for a yes" in await typed(room, "distil status", "waits")
        await typed(room, "distil confirm", "is being asked")

        async def end() -> list[str] | None:
            return await told(room, "was asked: 4 answers") or None

        said = await eventually(end, what="the end is told", timeout_s=30)
        assert "The next training learns from that." in said[0]
        asked = [each for each in room.api.requests[before:] if each["model"] == TEACHER]
        assert len(asked) == 4
        await room.bot.clockwork.distils.tick()
        assert len(await told(room, "was asked: 4 answers")) == 1
        assert "4 answers of API models can be learned from" in await typed(
            room, "distil status", "4 answers of API"
        )
        assert "I do not understand 'limit=many'" in await typed(room, "distil limit=many", "understand")
        own = await typed(room, "distil", "for nothing")
        assert f"that openai:{MODEL} gave people here already would be taken as" in own
        assert "Cancelled." in await typed(room, "distil cancel", "Cancelled")
        assert "4 answers" in await typed(room, f"distil drop openai:{TEACHER}", "deleted")


async def test_the_end_of_a_promoted_fine_tune_is_told_with_what_can_be_kept(tmp_path: Path) -> None:
    """Its base is switched off: the admins read which version that is, and how the local model can learn from it."""
    async with room_at(tmp_path) as room:
        shop = room.bot.workshop
        ends = (now().date() + timedelta(days=20)).isoformat()
        name = "ft:gpt-6-sol:acme::1"
        room.api.models |= {TEACHER: ends, name: None}
        await tuned(shop.store, shop.team, model=name)
        client = room.bot.reports._client

        async def look() -> None:
            await Shutdowns(
                shop.store,
                client,
                shop.apis,
                team=shop.team,
                channel=ADMIN_CHANNEL,
                served=shop.serving.tuned_models,
            ).look()

        await look()
        assert not await told(room, "switched off")
        await typed(room, "promote openai-1", "openai-1")
        await look()
        await look()
        [said] = await told(room, "switched off")
        assert f"openai-1 ({name}) will be switched off" in said
        assert "`/apprentice distil openai-1` keeps what it knows" in said
        await shop.store.set_consent(shop.team, "U0CLEO", True)
        await salted(shop.store)
        asked = await room.asked(ASKED[1])
        assert "You asked" in words_of(await room.answer(asked))
        own = await typed(room, "distil openai-1", "for nothing")
        assert f"1 answer that openai:{name} gave people here already would be taken as it is" in own


async def test_in_the_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Without --yes nothing is asked; with it the answers come, can be read, and imported."""
    stand_in = StandIn(models={MODEL: None})
    async with served(stand_in, OpenAIServer(stand_in).routes()) as api:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{api.url}/v1")
        monkeypatch.setenv("OPENAI_MODEL", MODEL)
        nothing = await asyncio.to_thread(terminal.run, "distil")
        assert nothing.code == 1
        assert "Nobody has asked anything yet" in nothing.err
        store = await Store.open(terminal.database)
        await store.set_consent(LOCAL_TEAM, "U1", True)
        await salted(store)
        for number, words in enumerate(ASKED):
            row = await ask(store, team=LOCAL_TEAM, ts=f"{number}.0", text=words, place="channel")
            await store.answer(
                row, [Proposal("No idea.", "local", "starter")], messages=[Message("user", words)]
            )
        await store.close()
        quote = await asyncio.to_thread(terminal.run, "distil")
        assert quote.code == 3
        assert "would be asked" in quote.out
        assert "--yes begins" in quote.out
        assert not api.requests
        done = await asyncio.to_thread(terminal.run, "distil", "--yes")
        assert done.code == 0, done.err
        assert "The next training learns from that." in done.out
        assert len(api.requests) >= 4
        shown = await asyncio.to_thread(terminal.run, "distil", "--show")
        lines = shown.out.strip().splitlines()
        assert len(lines) == len(api.requests)
        assert '"You asked: How many' in lines[0]
        terminal.folder.joinpath("read.jsonl").write_text(shown.out)
        taken = await asyncio.to_thread(terminal.run, "import", "read.jsonl")
        assert taken.code == 0, taken.err
        status = (await asyncio.to_thread(terminal.run, "distil", "--status", "--json")).json
        assert (status["state"], status["answered"]) == ("done", len(lines))
        both = await asyncio.to_thread(terminal.run, "distil", "--yes", "--status")
        assert both.code == 1
        dropped = await asyncio.to_thread(terminal.run, "distil", "openai", "--drop")
        assert f"{len(lines)} answers of openai:{MODEL} deleted." in dropped.out
