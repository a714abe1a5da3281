"""Members' names are struck out, are kept as hashes only, and leave with who bears them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bot_process import HELP, bot_in_here, eventually
from databases import DATABASES, TEAM, ask, empty_database
from test_choke import everything

from bot.slack.members import names_of
from storage.names import install_names
from storage.store import Store
from storage.words import clean

ANNA, OTTO = "Annegret Sommerfeld", "Ottokar Lindqvist"


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


def test_names_are_those_of_people_who_are_there() -> None:
    """Real and display names in every spelling that Slack has; none of bots, of Slackbot, of who left."""
    profile = {"real_name": ANNA, "display_name": "anne s.", "first_name": "Annegret", "last_name": ""}
    person = {"id": "U1", "name": "annegret", "profile": profile}
    assert names_of(person) == (ANNA, "anne s.", "annegret", "Annegret")
    assert names_of(person | {"is_bot": True}) == ()
    assert names_of(person | {"deleted": True}) == ()
    assert names_of({"id": "USLACKBOT", "real_name": "Slackbot"}) == ()
    assert names_of({"id": "U2"}) == ()


async def test_the_book_follows_the_workspace(either: Store) -> None:
    """Who is there is struck out, who left is not, and only hashes lie in the table."""
    assert await either.keep_names(TEAM, {"U1": [ANNA], "U2": [OTTO]}, all_of_them=True)
    assert not await either.keep_names(TEAM, {"U1": [ANNA], "U2": [OTTO]}, all_of_them=True)
    await install_names(either, TEAM)
    said = f"I saw {ANNA} and {OTTO.upper()} there."
    assert clean(said) == "I saw <PERSON_1> and <PERSON_2> there."
    kept = (await everything(either)).casefold()
    assert "sommerfeld" not in kept
    assert "lindqvist" not in kept
    assert await either.keep_names(TEAM, {"U2": []}, all_of_them=False)
    await install_names(either, TEAM)
    assert clean(said) == f"I saw <PERSON_1> and {OTTO.upper()} there."
    other = await either.member_names("T2")
    assert len(other) == 0


async def test_new_names_are_struck_out_of_what_lay_there(either: Store) -> None:
    """The store says that it has to be gone over again, and it is."""
    asked = await ask(either, text=f"Where is {ANNA}?")
    while not (await either.strike_again()).done:
        pass
    assert await either.struck_with()
    await either.keep_names(TEAM, {"U1": [ANNA]}, all_of_them=True)
    await install_names(either, TEAM)
    assert not await either.struck_with()
    while not (await either.strike_again()).done:
        pass
    row = await either.question(asked.id)
    assert row is not None
    assert row.text == "Where is <PERSON_1>?"


async def test_the_bot_learns_the_names_of_its_workspace(tmp_path: Path) -> None:
    """From Slack's list when it starts, from events afterwards; its own name stays."""
    async with bot_in_here(tmp_path / "data") as (bot, team):
        store = bot.workshop.store

        async def book_has(name: str) -> bool:
            kept = any((await store.member_names(bot.workshop.team)).find(f"by {name} yesterday"))
            return kept and "PERSON" in clean(f"by {name} yesterday")

        async def known(name: str) -> bool | None:
            return await book_has(name) or None

        await eventually(lambda: known("Cleo"), what="the list is read")
        assert not await book_has("Apprentice")
        await team._post("member", {"user": "U0EVA", "real_name": ANNA})
        await eventually(lambda: known(ANNA), what="somebody who joins is known")
        await team._post("member", {"user": "U0CLEO", "name": "nile", "real_name": "Cleopatra Nakamura"})
        await eventually(lambda: known("Cleopatra Nakamura"), what="another name is known")
        assert not await book_has("Cleo")
        await team._post("member", {"user": "U0EVA", "deleted": True})

        async def gone() -> bool | None:
            return None if await book_has(ANNA) else True

        await eventually(gone, what="who left is in no book")
        ts = await team.cleo.post(HELP, "@apprentice is Cleopatra Nakamura in, apprentice?")

        async def asked() -> str | None:
            row = await store.question_at(bot.workshop.team, HELP, ts)
            return row.text if row else None

        assert await eventually(asked, what="the question is kept") == "is <PERSON_1> in, apprentice?"
