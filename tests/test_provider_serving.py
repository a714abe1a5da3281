"""A fine-tune of a provider answers people: promoted, in some threads first, and never so that a question is lost to it."""

import re
from pathlib import Path
from typing import Any

from answer_rig import MODEL, Room, room_at
from bot_process import ADMIN_CHANNEL, bot_in_here, words_of
from sqlmodel import col, select

from storage.records import Candidate, ModelVersion
from storage.records_learned import Canary, CanaryState
from storage.store import Store

TUNED = "ft:gpt-6-luna:acme::1"


async def tuned(store: Store, team: str, *, model: str = TUNED, name: str = "openai-1") -> ModelVersion:
    return await store.register_model(
        team=team,
        name=name,
        base_model=MODEL,
        path="",
        sha256="",
        run_id=None,
        dataset_id=None,
        card={},
        kind="openai",
        model=model,
    )


async def typed(room: Room, words: str, said: str) -> str:
    """What an admin reads after a command."""
    await room.team.ann.command(ADMIN_CHANNEL, "/apprentice", words)
    heard = await room.team.ann.wait_for_ephemeral(ADMIN_CHANNEL, lambda message: said in message["text"])
    return str(heard["text"])


async def answered(room: Room, words: str) -> tuple[str, Candidate]:
    """The model that the provider was asked for last, and the answer as it is stored."""
    await room.answer(await room.asked(words))
    return str(room.api.requests[-1]["model"]), await newest_candidate(room.bot.workshop.store)


async def newest_candidate(store: Store) -> Candidate:
    async with store.database.reading() as session:
        wanted = (
            select(Candidate)
            .where(col(Candidate.chosen).is_(True))
            .order_by(col(Candidate.created_at).desc())
        )
        found = (await session.exec(wanted.limit(1))).one()
    return found


async def only_canary(store: Store) -> Canary:
    """Also one that has ended, as the bot's own look may end it at any moment."""
    async with store.database.reading() as session:
        return (await session.exec(select(Canary))).one()


async def test_promoted_it_answers_over_a_restart_until_it_is_rolled_back(tmp_path: Path) -> None:
    """By a command, at once; its version is on the answer; afterwards the model of the settings answers again."""
    async with room_at(tmp_path) as room:
        room.api.models[TUNED] = None
        version = await tuned(room.bot.workshop.store, room.bot.workshop.team)
        assert (await answered(room, "Before?"))[0] == MODEL
        await typed(room, "promote openai-1", "openai-1")
        model, candidate = await answered(room, "What now?")
        assert (model, candidate.version_id, candidate.kind) == (TUNED, version.id, "openai")
        settings: dict[str, Any] = {
            name: getattr(room.bot.workshop.settings, name)
            for name in ("answer_policy", "openai_api_key", "openai_base_url", "openai_model")
        }
        await room.bot.stop()
        async with bot_in_here(tmp_path / "data", **settings) as (bot, team):
            again = Room(bot, team, room.api)
            assert (await answered(again, "And after a restart?"))[0] == TUNED
            await typed(again, "rollback", "base")
            model, candidate = await answered(again, "And now?")
            assert (model, candidate.version_id) == (MODEL, None)


async def test_as_a_canary_it_answers_its_threads_and_is_counted(tmp_path: Path) -> None:
    """The same thread, the same model; both sides are counted with their own answers; it can be promoted out of it."""
    async with room_at(tmp_path) as room:
        room.api.models[TUNED] = None
        shop = room.bot.workshop
        version = await tuned(shop.store, shop.team)
        await typed(room, "promote openai-1 canary=0.5", "50")
        canary = await shop.store.canary(shop.team)
        assert canary is not None
        assert (canary.version_id, canary.against_id) == (version.id, None)
        models = [(await answered(room, f"Question {number}?"))[0] for number in range(18)]
        assert set(models) == {TUNED, MODEL}
        tally = await shop.canaries.count(canary)
        assert (tally.canary.answers, tally.current.answers) == (models.count(TUNED), models.count(MODEL))
        await shop.canaries.look(canary)
        assert await shop.store.canary(shop.team) is not None, "nothing speaks against it so far"
        await shop.canaries.promote(canary, by="U0ANN")
        assert {(await answered(room, f"More {number}?"))[0] for number in range(3)} == {TUNED}


async def test_one_that_is_gone_loses_no_question_and_is_told_once(tmp_path: Path) -> None:
    """The provider does not know it any more: the usual model answers, and the admins read why, once."""
    async with room_at(tmp_path) as room:
        room.says("The usual model says so.")
        shop = room.bot.workshop
        await tuned(shop.store, shop.team)
        await typed(room, "promote openai-1", "openai-1")
        for number in range(2):
            said = await room.answer(await room.asked(f"Question {number}?"))
            assert "The usual model says so." in words_of(said)
        for _ in range(2):
            await shop.canaries.tick()
        told = [each["text"] for each in await room.team.ann.messages(ADMIN_CHANNEL)]
        warned = [text for text in told if "openai-1 is promoted but cannot answer" in text]
        assert len(warned) == 1
        assert f"{MODEL} answers instead" in warned[0]
        assert shop.serving.fallen is not None
        await typed(room, "rollback", "base")
        await answered(room, "And now?")
        assert shop.serving.fallen is None


async def test_a_canary_that_is_gone_counts_against_itself(tmp_path: Path) -> None:
    """Its threads are answered by the usual model, each counts as one that it failed, and for these it is taken back."""
    async with room_at(tmp_path) as room:
        shop = room.bot.workshop
        await tuned(shop.store, shop.team)
        await typed(room, "promote openai-1 canary=0.5", "50")
        models = [(await answered(room, f"Question {number}?"))[0] for number in range(18)]
        assert set(models) == {MODEL}
        await shop.canaries.tick()
        canary = await only_canary(shop.store)
        assert canary.failures >= 4
        assert canary.state == CanaryState.ROLLED_BACK
        assert re.fullmatch(r"it failed to answer (\d+) of \1 times", canary.reason)
        assert (await shop.canaries.count(canary)).canary.answers == 0
