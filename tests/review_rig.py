"""Candidates for review, for the tests of the store, of Slack and of the terminal: made as people make them."""

from collections.abc import Sequence

from storage.entries import NewEntry
from storage.records import Answer, Nomination
from storage.store import Store
from storage.values import Message, Proposal

ASKER, CORRECTOR = "U0CLEO", "U0BEN"


async def agreed(store: Store, team: str, *people: str) -> None:
    """These people opt in."""
    for person in people or (ASKER, CORRECTOR):
        await store.set_consent(team, person, True)


async def rated(
    store: Store,
    team: str,
    question: str,
    answer: str = "Press Forgot.",
    *,
    votes: Sequence[int] = (1,),
    better: str = "",
    asker: str = ASKER,
    channel: str = "C0HELP",
) -> Answer:
    """An answer that stands in Slack, with these votes, and a correction where there is a better one."""
    ts = f"{len(question)}.{abs(hash(question)) % 10**6:06d}"
    asked = await store.ask(team=team, channel=channel, ts=ts, thread_ts=ts, asker=asker, text=question)
    proposal = Proposal(answer, "local", "starter")
    given = await store.answer(asked.question, [proposal], messages=[Message("user", question)])
    await store.posted(given.answer.id, f"9{ts}")
    for number, value in enumerate(votes):
        await store.rate(given.answer.id, team=team, rater=f"U0VOTER{number}", value=value)
    if better:
        await store.correct(given.answer.id, team=team, author=CORRECTOR, text=better, may_train=True)
    return given.answer


async def proposed(store: Store, team: str, question: str, answer: str, *, topic: str = "") -> str:
    """An entry that came of a message which a colleague proposed; its id."""
    nomination = await store.nominate(
        Nomination(
            team=team,
            channel="C0HELP",
            ts=f"7.{abs(hash(question)) % 10**6:06d}",
            nominator="U0DAN",
            question=question,
            answer=answer,
            topic=topic,
            authors=[CORRECTOR],
            waiting_for=[],
        )
    )
    entry = NewEntry(question, answer, "a colleague", topic=topic, nomination_id=nomination.id)
    await store.add_entries(team, [entry])
    await store.nomination_taken(nomination.id)
    kept = await store.entry(team, question)
    assert kept is not None
    return kept.id
