"""What the store promises about questions, answers, ratings, people and itself, on SQLite and on PostgreSQL alike."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, ask, empty_database, lease_runs_out, reply, rows
from sqlalchemy.exc import IntegrityError

from storage.asking import Answered
from storage.entries import Imported, NewEntry
from storage.errors import PublicError
from storage.feedback import Vote
from storage.records import Question, QuestionState
from storage.store import Store
from storage.values import Message, Proposal


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


async def test_a_question_delivered_again_is_the_same_question(store: Store) -> None:
    """Slack delivers an event again when it is not acknowledged in time; nobody is answered twice."""
    delivered = {
        "team": TEAM,
        "channel": "C1",
        "ts": "1.0",
        "thread_ts": "1.0",
        "asker": "U1",
        "text": "hello?",
    }
    deliveries = await asyncio.gather(*(store.ask(**delivered) for _ in range(8)))
    assert sum(asked.new for asked in deliveries) == 1
    assert len({asked.question.id for asked in deliveries}) == 1
    assert await rows(store, "question") == 1


async def test_the_same_moment_in_two_channels_is_two_questions(store: Store) -> None:
    """Only workspace, channel and time together name a message."""
    first, second = await ask(store, channel="C1"), await ask(store, channel="C2")
    assert first.id != second.id


async def test_times_come_back_aware_and_in_utc(store: Store) -> None:
    """A time without a zone would be an hour wrong in summer."""
    kept = await store.question((await ask(store)).id)
    assert kept is not None
    assert kept.asked_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - kept.asked_at) < timedelta(minutes=1)


async def test_one_of_many_claims_a_question(store: Store) -> None:
    """Two replicas never answer the same question at the same time."""
    question = await ask(store)
    claims = await asyncio.gather(
        *(store.claim_question(question.id, worker=f"w{number}", lease_s=60) for number in range(6))
    )
    assert sum(claims) == 1
    assert await store.owed_questions() == []


async def test_a_claim_runs_out_when_its_holder_is_gone(store: Store) -> None:
    """A question whose worker died is owed again, and taken over."""
    question = await ask(store)
    assert await store.claim_question(question.id, worker="w1", lease_s=60)
    await lease_runs_out(store, "question", question.id)
    assert [owed.id for owed in await store.owed_questions()] == [question.id]
    assert await store.claim_question(question.id, worker="w2", lease_s=60)
    taken = await store.question(question.id)
    assert taken is not None
    assert (taken.claimed_by, taken.attempts, taken.state) == ("w2", 2, QuestionState.ANSWERING)


async def test_a_finished_question_cannot_be_claimed(store: Store) -> None:
    """Answered or dropped, nothing is owed any more."""
    answered, dropped = await ask(store, ts="1.0"), await ask(store, ts="2.0")
    await reply(store, answered)
    await store.drop_question(dropped.id, "too late")
    for question in (answered, dropped):
        assert not await store.claim_question(question.id, worker="w1", lease_s=60)
    assert await store.owed_questions() == []


async def test_an_answered_question_is_not_dropped(store: Store) -> None:
    """A slow worker that gives up cannot undo what a faster one has posted."""
    question = await ask(store)
    await reply(store, question)
    await store.drop_question(question.id, "too late")
    kept = await store.question(question.id)
    assert kept is not None
    assert (kept.state, kept.reason) == (QuestionState.ANSWERED, "")


async def test_a_question_has_one_answer(store: Store) -> None:
    """Whoever answers second gets the first one's answer, and leaves no candidates behind."""
    question = await ask(store)
    proposals = [Proposal(f"answer {number}", "openai", "gpt", cost_usd=0.5) for number in range(4)]
    answers = await asyncio.gather(
        *(store.answer(question, [proposal], messages=[Message("user", "q")]) for proposal in proposals)
    )
    assert len({answered.answer.id for answered in answers}) == 1
    assert await rows(store, "answer") == await rows(store, "candidate") == 1


async def test_an_answer_is_kept_with_what_the_model_saw(store: Store) -> None:
    """What is trained on later is exactly what was seen then."""
    question = await ask(store)
    chosen = Proposal("yes", "local", "starter", logprobs=(-1.0, -3.0))
    other = Proposal("no", "memory", "memory")
    seen = [Message("system", "Be kind."), Message("user", "Grüße 🙂?")]
    answer = (await store.answer(question, [chosen, other], messages=seen)).answer
    await store.posted(answer.id, "5.0")
    found = await store.answer_at(TEAM, "C1", "5.0")
    assert isinstance(found, Answered)
    assert found.answer.messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Grüße 🙂?"},
    ]
    assert (found.candidate.text, found.candidate.chosen, found.candidate.logprob_mean) == ("yes", True, -2.0)
    assert await rows(store, "candidate") == 2


async def test_a_thread_is_remembered_in_order(store: Store) -> None:
    """The next question of a thread comes with what was said before it, and with nothing that was not posted."""
    first = await ask(store, ts="1.0", text="one?")
    await reply(store, first)
    second = await ask(store, ts="2.0", thread_ts="1.0", text="two?")
    await store.answer(second, [Proposal("unposted", "local", "starter")], messages=[Message("user", "two?")])
    said = await store.conversation(TEAM, "C1", "1.0", before="3.0")
    assert said == [Message("user", "one?"), Message("assistant", "Press Forgot.")]
    assert await store.knows_thread(TEAM, "C1", "1.0")
    assert not await store.knows_thread("T2", "C1", "1.0")


async def test_the_last_rating_of_a_person_wins(store: Store) -> None:
    """People change their minds; they never count twice."""
    answer = await reply(store, await ask(store))
    await store.rate(answer.id, team=TEAM, rater="U2", value=-1, reason="wrong")
    await store.rate(answer.id, team=TEAM, rater="U2", value=1)
    await store.rate(answer.id, team=TEAM, rater="U3", value=-1)
    (said,) = await store.feedback(TEAM)
    assert said.votes == (Vote("U2", 1), Vote("U3", -1))
    assert await store.withdraw_rating(answer.id, rater="U2")
    assert not await store.withdraw_rating(answer.id, rater="U2")
    assert await store.rating_of(answer.id, rater="U2") is None


async def test_a_double_click_is_one_rating(store: Store) -> None:
    """Two clicks that arrive together are one vote, and neither fails."""
    answer = await reply(store, await ask(store))
    await asyncio.gather(*(store.rate(answer.id, team=TEAM, rater="U2", value=1) for _ in range(8)))
    assert await rows(store, "rating") == 1


async def test_a_correction_by_the_same_person_replaces_theirs(store: Store) -> None:
    """One person has one better answer; two people have two, and the newest counts."""
    answer = await reply(store, await ask(store))
    await asyncio.gather(*(store.correct(answer.id, team=TEAM, author="U2", text="a") for _ in range(4)))
    await store.correct(answer.id, team=TEAM, author="U2", text="b", may_train=True)
    assert await rows(store, "correction") == 1
    await store.correct(answer.id, team=TEAM, author="U3", text="c")
    (said,) = await store.feedback(TEAM)
    assert (said.correction, said.corrector, said.may_train) == ("c", "U3", False)


async def test_consent_is_unknown_until_it_is_given_or_refused(store: Store) -> None:
    """Having been asked is not an answer."""
    assert await store.consent(TEAM, "U1") is None
    asked = await asyncio.gather(*(store.first_time_asked_for_consent(TEAM, "U1") for _ in range(5)))
    assert sum(asked) == 1
    assert await store.consent(TEAM, "U1") is None
    await store.set_consent(TEAM, "U1", True)
    assert (await store.consent(TEAM, "U1"), await store.consenting(TEAM)) == (True, {"U1"})
    await store.set_consent(TEAM, "U1", False)
    assert (await store.consent(TEAM, "U1"), await store.consenting(TEAM)) == (False, set())
    assert await store.consent("T2", "U1") is None


async def test_consent_given_twice_at_once_is_one_row(store: Store) -> None:
    """A modal submitted twice does no harm."""
    await asyncio.gather(*(store.set_consent(TEAM, "U1", True) for _ in range(6)))
    assert await rows(store, "consent") == 1


async def test_an_import_says_what_it_changed(store: Store) -> None:
    """Importing a file again changes nothing; a corrected line changes one."""
    pairs = [NewEntry(f"Question {number}?", "yes", "faq.csv", split="test") for number in range(1200)]
    assert await store.add_entries(TEAM, pairs) == Imported(1200, 0, 0)
    assert await store.add_entries(TEAM, pairs) == Imported(0, 0, 1200)
    again = [
        NewEntry("question 7", "no", "faq.csv"),
        NewEntry("Question 8?", "yes", "x"),
        NewEntry("New?", "1", "x"),
    ]
    assert await store.add_entries(TEAM, again) == Imported(1, 1, 1)
    kept = {row.question: row async for page in store.entries(TEAM) for row in page}
    assert len(kept) == 1201
    assert (kept["Question 7?"].answer, kept["Question 7?"].split) == ("no", "test")


async def test_two_imports_at_once_both_arrive(store: Store) -> None:
    """The second sees what the first added, instead of failing on it."""
    pairs = [NewEntry(f"Question {number}?", "yes", "faq.csv") for number in range(50)]
    done = await asyncio.gather(*(store.add_entries(TEAM, pairs) for _ in range(4)))
    assert sorted(imported.added for imported in done) == [0, 0, 0, 50]
    assert await rows(store, "entry") == 50


async def test_entries_come_in_pages_and_none_is_missing(store: Store) -> None:
    """A large memory is read without holding all of it."""
    await store.add_entries(TEAM, [NewEntry(f"Question {number}?", "yes", "faq") for number in range(4500)])
    await store.add_entries("T2", [NewEntry("elsewhere?", "yes", "faq")])
    pages = [page async for page in store.entries(TEAM)]
    assert [len(page) for page in pages] == [2000, 2000, 500]
    assert len({row.id for page in pages for row in page}) == 4500


async def test_no_update_is_lost_between_writers(url: str) -> None:
    """Two connections that read, add and write count every step (a deferred BEGIN loses or refuses most of them)."""
    first, second = await Store.open(url), await Store.open(url)
    question = await ask(first)

    async def count_up(store: Store) -> None:
        for _ in range(25):
            async with store.database.writing(alone="counter") as session:
                row = await session.get_one(Question, question.id)
                await asyncio.sleep(0)
                row.attempts += 1
                session.add(row)

    await asyncio.gather(*(count_up(store) for store in (first, second, first, second)))
    kept = await second.question(question.id)
    assert kept is not None
    assert kept.attempts == 100
    await first.close()
    await second.close()


async def write_all(store: Store, questions: list[Question]) -> None:
    async with store.database.writing() as session:
        for question in questions:
            session.add(question)
            await session.flush()


async def test_a_failed_write_leaves_nothing(store: Store) -> None:
    """A block is one transaction."""
    twice = [Question(team=TEAM, channel="C", ts="1", thread_ts="1", asker="U", text="?") for _ in range(2)]
    with pytest.raises(IntegrityError):
        await write_all(store, twice)
    assert await rows(store, "question") == 0


WRITER = """
import asyncio, sys
from storage.store import Store

async def main() -> None:
    store = await Store.open(sys.argv[1])
    for number in range(1_000_000):
        await store.ask(team="T1", channel="C1", ts=str(number), thread_ts="0", asker="U1", text="x" * 2000)
        print(number, flush=True)

asyncio.run(main())
"""


def write_until_killed(command: list[str], root: Path) -> int:
    """The number of the last question that the writer said was kept."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
    return max(int(line) for line in lines if line.endswith("\n"))


async def test_a_writer_killed_at_work_leaves_a_readable_database(url: str) -> None:
    """What was acknowledged before kill -9 is there after it, and the next process goes on."""
    root = Path(__file__).parent.parent
    acknowledged = await asyncio.to_thread(write_until_killed, [sys.executable, "-c", WRITER, url], root)
    store = await Store.open(url)
    assert await rows(store, "question") >= acknowledged + 1
    assert (
        await store.ask(team=TEAM, channel="C1", ts="after", thread_ts="0", asker="U1", text="and now?")
    ).new
    await store.close()
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ("mysql://host/db", "SQLite and PostgreSQL are supported"),
        ("not a url", "sqlite:///apprentice.sqlite"),
        ("postgresql://nobody@127.0.0.1:1/none", "Start it, or check DATABASE_URL"),
        pytest.param(
            "sqlite:////proc/nowhere/a.sqlite",
            "Check DATA_DIR or DATABASE_URL",
            marks=pytest.mark.sqlite("where its file cannot be made"),
        ),
    ],
)
async def test_a_database_that_cannot_be_used_is_named_with_the_remedy(wrong: str, remedy: str) -> None:
    """A person reads one sentence, without a traceback."""
    with pytest.raises(PublicError, match=remedy):
        await Store.open(wrong)


async def test_a_password_is_never_shown() -> None:
    """An error about the database names it without its password."""
    with pytest.raises(PublicError) as refused:
        await Store.open("postgresql://bot:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(refused.value)
