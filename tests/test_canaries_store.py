"""What the store promises about canaries, on SQLite and on PostgreSQL alike."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES, TEAM, ask, empty_database, lease_runs_out, reply

from storage.errors import PublicError
from storage.records import Canary, CanaryState, Question, now
from storage.store import Store
from storage.values import Message, Proposal
from training.looks import QUARTER


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


async def begin(store: Store, decision: str = "d1", *, against: str | None = None) -> tuple[Canary, bool]:
    return await store.begin_canary(
        team=TEAM,
        version_id="m2",
        against_id=against,
        share=0.2,
        specification={"alpha": 0.05},
        by="U1",
        decision=decision,
    )


async def test_one_decision_begins_one_canary_and_there_is_one_at_a_time(store: Store) -> None:
    """Two replicas, or two presses, begin the same one; another one has to wait."""
    begun = await asyncio.gather(*(begin(store) for _ in range(6)))
    assert sum(new for _, new in begun) == 1
    assert len({canary.id for canary, _ in begun}) == 1
    with pytest.raises(PublicError, match="one at a time"):
        await begin(store, "d2")
    watched = await store.canary(TEAM)
    assert watched is not None
    assert (watched.share, watched.specification, watched.state) == (
        0.2,
        {"alpha": 0.05},
        CanaryState.WATCHING,
    )
    assert await store.canary("another team") is None


async def test_of_several_replicas_one_ends_it(store: Store) -> None:
    """The reason is the one of who was first; what ended stays as it is."""
    canary, _ = await begin(store)
    ended = await asyncio.gather(
        *(
            store.end_canary(canary.id, CanaryState.ROLLED_BACK, by=f"w{n}", reason=f"reason {n}")
            for n in range(6)
        )
    )
    assert sum(ended) == 1
    first = ended.index(True)
    row = await store.canary_by_id(canary.id)
    assert row is not None
    assert (row.state, row.ended_by, row.reason) == (CanaryState.ROLLED_BACK, f"w{first}", f"reason {first}")
    assert row.ended_at is not None
    assert not await store.end_canary(canary.id, CanaryState.PROMOTED, by="late", reason="late")
    assert await store.canary(TEAM) is None
    _, new = await begin(store, "d2")
    assert new
    assert [each.decision for each in await store.canaries(TEAM)] == ["d1", "d2"]


async def test_one_replica_counts_and_a_dead_one_is_followed(store: Store) -> None:
    """A claim holds for its lease, and is the claimant's to renew."""
    canary, _ = await begin(store)
    assert await store.claim_canary(canary.id, worker="w1", lease_s=60)
    assert not await store.claim_canary(canary.id, worker="w2", lease_s=60)
    assert await store.claim_canary(canary.id, worker="w1", lease_s=60)
    await lease_runs_out(store, "canary", canary.id)
    assert await store.claim_canary(canary.id, worker="w2", lease_s=60)


async def test_failures_of_several_replicas_add_up(store: Store) -> None:
    """None is lost."""
    canary, _ = await begin(store)
    await asyncio.gather(*(store.canary_failed(canary.id) for _ in range(8)))
    row = await store.canary_by_id(canary.id)
    assert row is not None
    assert row.failures == 8


async def test_it_passes_once_and_its_end_is_owed_until_it_is_told(store: Store) -> None:
    """Passing is noted by one; an end that nobody was told of is found again, for a while."""
    canary, _ = await begin(store)
    assert sum(await asyncio.gather(*(store.pass_canary(canary.id, "enough") for _ in range(4)))) == 1
    assert await store.untold_canaries(TEAM, now() - timedelta(days=1)) == []
    await store.end_canary(canary.id, CanaryState.PROMOTED, by="U1", reason="good")
    (owed,) = await store.untold_canaries(TEAM, now() - timedelta(days=1))
    assert owed.id == canary.id
    assert await store.untold_canaries(TEAM, now() + timedelta(days=1)) == []
    await store.note_on_canary(canary.id, told="123.4", tally={"odds": 2.0})
    assert await store.untold_canaries(TEAM, now() - timedelta(days=1)) == []


async def answered(
    store: Store, ts: str, version: str | None, *, kind: str = "local", text: str = "Press Forgot."
) -> tuple[Question, str]:
    question = await ask(store, ts=ts)
    said = Proposal(text, kind, "starter", version_id=version, seconds=0.5)
    answer = (await store.answer(question, [said], messages=[Message("user", question.text)])).answer
    await store.posted(answer.id, f"9{ts}")
    return question, answer.id


async def test_both_sides_answers_come_with_their_votes_and_no_others(store: Store) -> None:
    """The base where that serves; not the answers of other models, of an API, or from before; votes taken back are none."""
    await answered(store, "0.5", None)
    canary, _ = await begin(store)
    _, ours = await answered(store, "1.0", "m2")
    _, theirs = await answered(store, "2.0", None)
    await answered(store, "3.0", "m9")
    await answered(store, "4.0", None, kind="openai")
    await store.rate(ours, team=TEAM, rater="U1", value=1, via="solicited")
    await store.rate(ours, team=TEAM, rater="U2", value=-1)
    await store.rate(theirs, team=TEAM, rater="U3", value=-1)
    await store.rate(theirs, team=TEAM, rater="U3", value=0)
    found = await store.canary_answers(canary)
    assert [(each.thread_ts, each.version_id) for each in found] == [("1.0", "m2"), ("2.0", None)]
    assert [(vote.value, vote.solicited) for vote in found[0].votes] == [(1, True), (-1, False)]
    assert found[1].votes == ()
    assert found[0].seconds == 0.5


async def test_an_agreement_is_written_once_and_sees_the_looks_before(store: Store) -> None:
    """Evaluations that are asked for together see each other; a second wish to agree changes nothing."""

    async def request() -> dict[str, object]:
        row = await store.request_evaluation(
            team=TEAM,
            by="U1",
            challenger_id="m2",
            current_id=None,
            dataset_id=None,
            since=now() - QUARTER,
            specify=lambda looks: {"alpha": 0.01 / (len(looks) + 1), "looks": len(looks)},
        )
        return row.specification

    agreed = await asyncio.gather(*(request() for _ in range(4)))
    assert sorted(each["looks"] for each in agreed) == [0, 1, 2, 3]  # type: ignore[type-var]
    bare = await store.request_evaluation(
        team=TEAM, by="U1", challenger_id="m2", current_id=None, dataset_id=None
    )

    def specification(n: int, looks: Sequence[object]) -> dict[str, Any]:
        return {"n": n, "looks": len(looks)}

    wishes = [
        await store.agree(bare.id, since=now() - QUARTER, specify=partial(specification, n)) for n in range(3)
    ]
    assert wishes == [{"n": 0, "looks": 4}] * 3
    row = await store.evaluation(bare.id)
    assert row is not None
    assert row.specification == {"n": 0, "looks": 4}


async def test_who_stands_behind_an_answer_is_who_wrote_it_or_liked_it_first(store: Store) -> None:
    """A correction's author before whoever liked; nobody for what nobody liked, and nothing of another workspace."""
    liked, corrected, disliked = [await reply(store, await ask(store, ts=f"{n}.0")) for n in range(3)]
    for rater in ("U5", "U6"):
        await store.rate(liked.id, team=TEAM, rater=rater, value=1)
        await store.rate(corrected.id, team=TEAM, rater=rater, value=1)
    await store.rate(disliked.id, team=TEAM, rater="U7", value=-1)
    await store.correct(corrected.id, team=TEAM, author="U8", text="Press Forgot twice.", may_train=True)
    subjects = [liked.id, corrected.id, disliked.id, "nothing"]
    assert await store.vouchers(TEAM, subjects) == {liked.id: "U5", corrected.id: "U8"}
    assert await store.vouchers("T2", subjects) == {}
