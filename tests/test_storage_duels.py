"""What the store promises about duels, on SQLite and on PostgreSQL alike."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, ask, empty_database, rows

from bot.dueling import outcome
from storage.duels import DuelOrder, DuelShown, DuelTally
from storage.errors import PublicError
from storage.records import Question, now
from storage.store import Store
from storage.values import Message, Proposal

LOCAL, API = Proposal("Press Forgot.", "local", "starter"), Proposal("Click it.", "openai", "gpt-6-luna")


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return empty_database(request, tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(url)
    yield opened
    await opened.close()


def order(*, swapped: bool = False, closes_in_s: float = 3600) -> DuelOrder:
    return DuelOrder("sampled", 0.25, swapped, now() + timedelta(seconds=closes_in_s))


async def opened(store: Store, question: Question | None = None, how: DuelOrder | None = None) -> DuelShown:
    """A duel that stands in Slack."""
    question = question or await ask(store)
    shown = await store.open_duel(
        question, LOCAL, API, messages=[Message("user", question.text)], order=how or order()
    )
    await store.duel_posted(shown.duel.id, f"9{question.ts}")
    await store.posted(shown.answer.id, f"9{question.ts}")
    return shown


async def picks(store: Store, duel_id: str, chosen: dict[str, str]) -> None:
    for picker, pick in chosen.items():
        assert await store.pick(duel_id, picker=picker, pick=pick)


async def due(store: Store, *, votes: int = 3) -> list[str]:
    return [each.duel.id for each in await store.duels_due(TEAM, votes=votes)]


@pytest.mark.parametrize("swapped", [False, True])
async def test_the_order_shown_is_kept(store: Store, swapped: bool) -> None:
    """A and B are what people see; what would have been answered without a duel stands as the answer."""
    shown = await opened(store, how=order(swapped=swapped))
    assert (shown.a.model, shown.b.model) == (
        ("gpt-6-luna", "starter") if swapped else ("starter", "gpt-6-luna")
    )
    assert (shown.duel.swapped, shown.duel.origin, shown.duel.probability) == (swapped, "sampled", 0.25)
    answered = await store.answer_to(shown.question.id)
    assert answered is not None
    assert answered.candidate.model == "starter"


async def test_a_question_has_one_duel_however_often_it_is_opened(store: Store) -> None:
    """Two processes that open it at once, and one that opens it again after a crash, get the same duel."""
    question = await ask(store)
    found = await asyncio.gather(*(opened(store, question) for _ in range(4)), return_exceptions=True)
    ids = {each.duel.id for each in found if isinstance(each, DuelShown)}
    assert len(ids) == 1
    assert await rows(store, "duel") == 1
    assert await rows(store, "candidate") == 2


async def test_a_duel_about_a_deleted_question_is_refused(store: Store) -> None:
    """The question went away while two models were writing."""
    question = await ask(store)
    await store.delete_question(TEAM, question.channel, question.ts)
    with pytest.raises(PublicError, match="deleted"):
        await opened(store, question)


async def test_the_last_pick_of_a_person_counts(store: Store) -> None:
    """Also where an earlier press arrives later."""
    shown = await opened(store)
    duel_id, moment = shown.duel.id, now()
    assert await store.pick(duel_id, picker="U1", pick="b", at=moment)
    assert await store.pick(duel_id, picker="U1", pick="tie", at=moment - timedelta(seconds=1))
    assert await store.pick(duel_id, picker="U2", pick="a")
    found = await store.duel(duel_id)
    assert found is not None
    assert {each.picker: each.pick for each in found.picks} == {"U1": "b", "U2": "a"}
    with pytest.raises(ValueError, match="'c' is none of"):
        await store.pick(duel_id, picker="U1", pick="c")


async def test_a_duel_is_due_by_picks_or_by_time(store: Store) -> None:
    """Three picks in a channel, one in a direct message, or its hour."""
    in_channel = await opened(store)
    direct = await opened(store, await ask(store, channel="D1", ts="2.0"))
    late = await opened(store, await ask(store, ts="3.0"), order(closes_in_s=-1))
    assert await due(store) == [late.duel.id]
    await picks(store, in_channel.duel.id, {"U1": "a", "U2": "b"})
    await picks(store, direct.duel.id, {"U1": "a"})
    assert set(await due(store)) == {late.duel.id, direct.duel.id}
    await picks(store, in_channel.duel.id, {"U3": "b"})
    assert set(await due(store)) == {late.duel.id, direct.duel.id, in_channel.duel.id}
    assert set(await due(store, votes=4)) == {late.duel.id, direct.duel.id}


async def test_a_duel_that_does_not_stand_in_slack_is_never_due(store: Store) -> None:
    """Nobody could have picked, and there is no message to tell the end in."""
    question = await ask(store)
    await store.open_duel(question, LOCAL, API, messages=[], order=order(closes_in_s=-1))
    assert await due(store) == []


async def test_a_duel_is_closed_once_and_its_winner_is_the_answer(store: Store) -> None:
    """Closing decides over the picks there are at that moment; later ones are refused, and telling is still owed."""
    shown = await opened(store)
    await picks(store, shown.duel.id, {"U1": "b", "U2": "b", "U3": "a"})
    closed = await asyncio.gather(*(store.close_duel(shown.duel.id, outcome) for _ in range(4)))
    assert sorted(closed) == [False, False, False, True]
    assert not await store.pick(shown.duel.id, picker="U4", pick="a")
    answered = await store.answer_to(shown.question.id)
    assert answered is not None
    assert (answered.candidate.model, answered.candidate.chosen) == ("gpt-6-luna", True)
    found = await store.duel(shown.duel.id)
    assert found is not None
    assert (found.open, found.duel.outcome, found.a.chosen) == (False, "b", False)
    assert await due(store) == [shown.duel.id]
    await store.duel_revealed(shown.duel.id)
    assert await due(store) == []


@pytest.mark.parametrize("chosen", [{"U1": "tie"}, {"U1": "both bad"}, {}])
async def test_without_a_winner_the_answer_stays(store: Store, chosen: dict[str, str]) -> None:
    """A tie, two bad answers, nobody picked."""
    shown = await opened(store)
    await picks(store, shown.duel.id, chosen)
    assert await store.close_duel(shown.duel.id, outcome)
    answered = await store.answer_to(shown.question.id)
    assert answered is not None
    assert answered.candidate.model == "starter"


async def test_duels_are_told_as_wins_by_model(store: Store) -> None:
    """Who fought how often and won; ties, bad pairs, those without a pick, and those still open."""
    assert await store.duel_tally(TEAM) == DuelTally()
    ends: Sequence[dict[str, str]] = (
        {"U1": "a"},
        {"U1": "a"},
        {"U1": "b"},
        {"U1": "tie"},
        {"U1": "both bad"},
        {},
    )
    for number, chosen in enumerate(ends):
        shown = await opened(store, await ask(store, ts=f"{number + 1}.5"))
        await picks(store, shown.duel.id, chosen)
        await store.close_duel(shown.duel.id, outcome)
    await opened(store, await ask(store, ts="8.0"))
    await opened(store, await ask(store, ts="8.0", team="T2"))
    tally = await store.duel_tally(TEAM)
    assert tally == DuelTally(
        open=1,
        ties=1,
        both_bad=1,
        unpicked=1,
        wins={"starter": 2, "gpt-6-luna": 1},
        fought={"starter": 5, "gpt-6-luna": 5},
    )
    assert tally.decided == 5


async def test_a_deleted_question_takes_its_duel_and_picks_along(store: Store) -> None:
    """Nothing of it stays, and a late pick is told so."""
    shown = await opened(store)
    await picks(store, shown.duel.id, {"U1": "a"})
    assert await store.delete_question(TEAM, shown.question.channel, shown.question.ts)
    assert await store.duel(shown.duel.id) is None
    assert not await store.pick(shown.duel.id, picker="U2", pick="a")
    assert not await store.close_duel(shown.duel.id, outcome)
    assert [await rows(store, table) for table in ("duel", "duel_pick", "candidate", "answer")] == [
        0,
        0,
        0,
        0,
    ]


async def test_a_forgotten_persons_picks_go(store: Store) -> None:
    """The duel of somebody else stays, with everybody else's picks."""
    shown = await opened(store)
    await picks(store, shown.duel.id, {"U8": "a", "U9": "b"})
    await store.forget(TEAM, "U9")
    found = await store.duel(shown.duel.id)
    assert found is not None
    assert [each.picker for each in found.picks] == ["U8"]


async def test_a_reaction_to_a_duel_is_said_to_neither_answer(store: Store) -> None:
    """Its message holds two answers, so it is found as no answer, open or closed."""
    shown = await opened(store)
    assert await store.answer_at(TEAM, shown.question.channel, f"9{shown.question.ts}") is None


async def test_a_request_for_a_rating_is_claimed_once_a_day(store: Store) -> None:
    """One answer is asked about once, one person once a day; the chance is kept whether they were asked or not."""
    first, second = await opened(store), await opened(store, await ask(store, ts="2.0"))
    today: dict[str, object] = {"team": TEAM, "person": "U1", "probability": 0.5, "day": "2026-11-22"}
    claims = await asyncio.gather(*(store.solicit(first.answer.id, **today) for _ in range(4)))  # type: ignore[arg-type]
    assert sorted(claims) == [False, False, False, True]
    assert not await store.solicit(second.answer.id, **today)  # type: ignore[arg-type]
    assert await store.solicit(second.answer.id, **{**today, "day": "2026-11-23"})  # type: ignore[arg-type]
    await store.posted(first.answer.id, "7.5", solicit_probability=0.5)
    drawn = await store.answered(first.answer.id)
    assert drawn is not None
    assert drawn.answer.solicit_probability == 0.5
