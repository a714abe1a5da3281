"""What the store promises about reviews and the golden set, on SQLite and on PostgreSQL alike."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, empty_database, rows
from review_rig import ASKER, CORRECTOR, agreed, proposed, rated

from storage.entries import NewEntry, question_hash
from storage.errors import PublicError
from storage.places import Place
from storage.records import GoldenItem, GoldenState
from storage.reviewable import CORRECTED, DISPUTED, LIKED, PROPOSED, RARE_TOPIC
from storage.reviewing import APPROVED, EDITED, REJECTED, Kept
from storage.store import Store


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return empty_database(request, tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A fresh store on each kind of database, in which two people have opted in."""
    opened = await Store.open(url)
    await agreed(opened, TEAM)
    yield opened
    await opened.close()


async def waiting(store: Store, **how: object) -> list[tuple[str, str]]:
    """What comes up, in order: why, and the question."""
    return [(each.why, each.question) for each in await store.to_review(TEAM, **how)]  # type: ignore[arg-type]


async def test_the_most_valuable_come_first(store: Store) -> None:
    """Corrections, disputed answers, rare topics, liked answers, then what colleagues proposed."""
    for number in range(4):
        await proposed(store, TEAM, f"Common question {number}?", "An answer.", topic="common")
    await proposed(store, TEAM, "A rare question?", "An answer.", topic="rare")
    await rated(store, TEAM, "Liked?")
    await rated(store, TEAM, "Disputed?", votes=(1, 1, -1))
    await rated(store, TEAM, "Corrected?", votes=(-1,), better="A better answer.")
    found = await waiting(store)
    assert found[:4] == [
        (CORRECTED, "Corrected?"),
        (DISPUTED, "Disputed?"),
        (RARE_TOPIC, "A rare question?"),
        (LIKED, "Liked?"),
    ]
    assert [why for why, _ in found[4:]] == [PROPOSED] * 4
    assert await store.reviews_waiting(TEAM) == 8


async def test_a_reviewer_sees_counts_and_what_stood_there_before(store: Store) -> None:
    """Votes without names, the answer that was corrected, whose words it is made of."""
    await rated(store, TEAM, "Corrected?", "The old answer.", votes=(1, -1, -1), better="The new answer.")
    [one] = await store.to_review(TEAM)
    assert (one.answer, one.before, one.up, one.down) == ("The new answer.", "The old answer.", 1, 2)
    assert one.authors == (CORRECTOR, ASKER)
    assert one.key == question_hash("Corrected?")[:32]


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_pages_give_each_once(store: Store, size: int) -> None:
    """Going on behind a place leaves nothing out and repeats nothing, across the kinds."""
    for number in range(3):
        await rated(store, TEAM, f"Liked {number}?")
        await rated(store, TEAM, f"Disputed {number}?", votes=(1, 1, -1))
        await proposed(store, TEAM, f"Proposed {number}?", "An answer.")
    found, after = [], ""
    while page := await store.to_review(TEAM, limit=size, after=after):
        found += [each.subject for each in page]
        after = page[-1].place
    assert len(found) == len(set(found)) == 9
    assert found == [each.subject for each in await store.to_review(TEAM, limit=50)]


async def test_what_may_not_be_learned_from_never_comes_up(store: Store) -> None:
    """No consent, a switch that is off, disliked, an import, a refusal, a correction of somebody who did not agree."""
    await rated(store, TEAM, "Nobody agreed?", asker="U0DAN")
    await rated(store, TEAM, "Disliked?", votes=(-1,))
    await rated(store, TEAM, "A tie?", votes=(1, -1))
    await rated(store, TEAM, "Switched off?", channel="C0QUIET")
    await store.set_channel(TEAM, "C0QUIET", by="U0ANN", learning=False)
    await store.add_entries(TEAM, [NewEntry("Imported?", "An answer.", "a file")])
    answer = await rated(store, TEAM, "Liked, but corrected by somebody who did not agree?")
    await store.correct(answer.id, team=TEAM, author="U0DAN", text="Mine.", may_train=False)
    assert await waiting(store) == []
    await proposed(store, TEAM, "Proposed?", "An answer.")
    assert await waiting(store) == [(PROPOSED, "Proposed?")]
    await store.set_consent(TEAM, CORRECTOR, False)
    assert await waiting(store) == [], "who thought better of it is not asked about either"
    assert await store.to_review("T2") == []


async def test_the_last_decision_counts(store: Store) -> None:
    """A decision can be made again; the texts are kept of an edit only, and each decision is on record."""
    answer = await rated(store, TEAM, "Liked?")
    key = question_hash("Liked?")[:32]
    assert await store.review(TEAM, answer.id, key, EDITED, "U0ANN", "Better?", "Best.") is Kept.KEPT
    assert await store.review(TEAM, answer.id, key, REJECTED, "U0BEN", reason="wrong") is Kept.KEPT
    found = [row async for page in store.reviews(TEAM) for row in page]
    assert [(row.state, row.by, row.question, row.answer, row.reason) for row in found] == [
        (REJECTED, "U0BEN", "", "", "wrong")
    ]
    assert await waiting(store) == []
    decided = [(each.actor, each.detail) for each in await store.decisions(TEAM) if each.action == "review"]
    assert decided == [("U0BEN", REJECTED), ("U0ANN", EDITED)]
    assert (await store.reviewed(TEAM))[answer.id].state == REJECTED


async def test_the_first_decision_stands_where_two_look_at_once(store: Store) -> None:
    """Of many who decide at the same moment one is heard, and the others are told."""
    answer = await rated(store, TEAM, "Liked?")
    states = (APPROVED, REJECTED) * 4
    deciding = [
        store.review(TEAM, answer.id, "", state, f"U{number}", only_first=True)
        for number, state in enumerate(states)
    ]
    kept = await asyncio.gather(*deciding)
    assert sorted(kept) == [Kept.DECIDED] * 7 + [Kept.KEPT]
    assert await rows(store, "review") == 1
    assert await store.review(TEAM, "a_gone", "", APPROVED, "U0ANN") is Kept.GONE
    assert await store.review("T2", answer.id, "", APPROVED, "U0ANN") is Kept.GONE
    with pytest.raises(ValueError, match="no decision"):
        await store.review(TEAM, answer.id, "", "maybe", "U0ANN")


async def test_a_decision_is_taken_back_by_who_made_it(store: Store) -> None:
    """And the candidate waits again."""
    answer = await rated(store, TEAM, "Liked?")
    await store.review(TEAM, answer.id, "", APPROVED, "U0ANN")
    assert not await store.take_back_review(TEAM, answer.id, "U0BEN")
    assert await waiting(store) == []
    assert await store.take_back_review(TEAM, answer.id, "U0ANN")
    assert not await store.take_back_review(TEAM, answer.id, "U0ANN")
    assert await waiting(store) == [(LIKED, "Liked?")]


async def test_words_that_came_after_the_decision_wait_again(store: Store) -> None:
    """Who was approved once must not slip in another text: a new correction or a new answer of an entry is reviewed anew."""
    answer = await rated(store, TEAM, "Corrected?", better="Good.")
    await store.review(TEAM, answer.id, "", APPROVED, "U0ANN")
    await store.correct(answer.id, team=TEAM, author=CORRECTOR, text="Not so good.", may_train=True)
    entry = await proposed(store, TEAM, "Proposed?", "Good.")
    await store.review(TEAM, entry, "", APPROVED, "U0ANN")
    await proposed(store, TEAM, "Proposed?", "Not so good.")
    assert [each.answer for each in await store.to_review(TEAM)] == ["Not so good."] * 2


async def test_a_review_goes_with_what_it_is_about(store: Store) -> None:
    """Nothing that a reviewer wrote about a deleted question, correction or entry is left."""
    answer = await rated(store, TEAM, "Liked?")
    corrected = await rated(store, TEAM, "Corrected?", better="Good.")
    for subject in (answer.id, corrected.id):
        await store.review(TEAM, subject, "", EDITED, "U0ANN", "Their words?", "Their words.")
    [item] = [await store.propose_golden(TEAM, "Liked?", "Yes.", "", "", "U0ANN", subject=answer.id)]
    found = await store.answered(answer.id)
    assert found is not None
    await store.delete_question(TEAM, found.question.channel, found.question.ts)
    assert await store.golden_item(TEAM, item.id) is None
    async with store.database.writing() as session:
        await (await session.connection()).exec_driver_sql("DELETE FROM correction")
    assert await rows(store, "review") == 0


# --- The golden set -----------------------------------------------------------------------------------------


async def propose(store: Store, question: str = "What is golden?", by: str = "U0ANN", **more: str) -> str:
    item = await store.propose_golden(TEAM, question, "This is.", "topic", "a file", by, **more)
    return item.id


async def test_two_people_stand_behind_a_golden_item(store: Store) -> None:
    """Not one of them twice, however often and at once they try; and two suffice."""
    item = await propose(store)
    tried = await asyncio.gather(
        *(store.approve_golden(TEAM, item, "U0ANN") for _ in range(3)), return_exceptions=True
    )
    assert [type(each) for each in tried] == [PublicError] * 3
    assert (await store.golden_tally(TEAM)).golden == 0
    approved = await store.approve_golden(TEAM, item, "U0BEN")
    assert (approved.state, approved.approvals) == (GoldenState.GOLDEN, ["U0ANN", "U0BEN"])
    again = await store.approve_golden(TEAM, item, "U0CLEO")
    assert again.approvals == ["U0ANN", "U0BEN"]
    assert (await store.golden_tally(TEAM)).golden == 1


async def test_one_who_is_left_alone_with_it_does_not_suffice(store: Store) -> None:
    """Who proposed it was forgotten: two others have to stand behind it."""
    item = await propose(store)
    async with store.database.writing() as session:
        row = await session.get(GoldenItem, item)
        assert row is not None
        row.approvals = []
        session.add(row)
    assert (await store.approve_golden(TEAM, item, "U0BEN")).state is GoldenState.PROPOSED
    with pytest.raises(PublicError, match="two people"):
        await store.approve_golden(TEAM, item, "U0BEN")
    assert (await store.approve_golden(TEAM, item, "U0DAN")).state is GoldenState.GOLDEN


async def test_a_known_item_stays_and_a_retired_one_begins_anew(store: Store) -> None:
    """Proposing again changes no text that somebody approved; after retirement two people are needed again."""
    item = await propose(store)
    await store.approve_golden(TEAM, item, "U0BEN")
    same = await store.propose_golden(TEAM, "what is GOLDEN", "Something else.", "", "", "U0DAN")
    assert (same.id, same.answer, same.state) == (item, "This is.", GoldenState.GOLDEN)
    await store.retire_golden(TEAM, item, "U0DAN")
    assert await store.golden_questions(TEAM) == []
    with pytest.raises(PublicError, match="retired"):
        await store.approve_golden(TEAM, item, "U0BEN")
    anew = await store.propose_golden(TEAM, "What is golden?", "Something else.", "", "", "U0DAN")
    assert (anew.id, anew.answer, anew.approvals, anew.state) == (
        item,
        "Something else.",
        ["U0DAN"],
        GoldenState.PROPOSED,
    )
    for act in (store.approve_golden, store.retire_golden):
        with pytest.raises(PublicError, match="not there any more"):
            await act(TEAM, "g_gone", "U0BEN")
        with pytest.raises(PublicError, match="not there any more"):
            await act("T2", item, "U0BEN")


async def test_a_golden_question_is_not_up_for_training(store: Store) -> None:
    """From its proposal on it comes up in no review; what was trained on cannot become golden."""
    await rated(store, TEAM, "What is golden?")
    item = await propose(store)
    assert await waiting(store) == []
    assert await store.golden_questions(TEAM) == ["What is golden?"]
    await store.retire_golden(TEAM, item, "U0ANN")
    assert await waiting(store) == [(LIKED, "What is golden?")]
    await store.place(TEAM, [Place(question_hash("Trained on?")[:32], "train", "c1")])
    with pytest.raises(PublicError, match="in a training set already"):
        await propose(store, "Trained on?")
    with pytest.raises(PublicError, match="needs a question and an answer"):
        await propose(store, "  ")
    assert await rows(store, "golden_item") == 1


async def test_secrets_are_struck_out_of_what_reviewers_write(store: Store) -> None:
    """The one choke point holds for edited texts and golden items too, and the key is that of what is stored."""
    secret, said = "jane.roe@customer.example.com", "Write to {}?"
    answer = await rated(store, TEAM, "Liked?")
    await store.review(TEAM, answer.id, "", EDITED, "U0ANN", said.format(secret), f"Or {secret}.")
    item = await store.propose_golden(TEAM, said.format(secret), f"Yes, {secret}.", "", "", "U0ANN")
    review = await store.review_of(TEAM, answer.id)
    assert review is not None
    held = f"{review.question} {review.answer} {item.question} {item.answer}"
    assert "customer.example.com" not in held
    stored = await store.golden_item(TEAM, item.id)
    assert stored is not None
    assert stored.key == question_hash(stored.question)[:32]
