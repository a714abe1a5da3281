"""The choke point: nothing that people or models wrote gets into a table with a secret in it, whichever way it takes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES, TEAM, ask, empty_database
from sqlalchemy import JSON, String, insert, text, update
from sqlalchemy import Enum as SAEnum
from sqlalchemy.types import TypeDecorator
from sqlmodel import col, select

from storage.entries import NewEntry, question_hash
from storage.records import Answer, Candidate, Entry, Nomination, Question, Rating, Record
from storage.store import Store
from storage.values import Message, Proposal
from storage.words import OF_WORDS, clean

MAIL, CARD = "jane.roe@customer.example.com", "4111 1111 1111 1111"
SAID = f"Please write to {MAIL}, my card is {CARD}."

IDS = "an id that we or Slack made"
STATE = "a word of ours out of a fixed list"
CLAIM = "which process holds it"
TIME = "a time, a day or a period as text"
PLACE = "a path or a handle of ours"
HASH = "a hash"
NAME = "the name of a model, a provider or a method, from the settings"

MACHINE_ONLY: dict[str, str] = {
    "id": IDS,
    "team": IDS,
    "channel": IDS,
    "person": IDS,
    "asker": IDS,
    "rater": IDS,
    "author": IDS,
    "nominator": IDS,
    "picker": IDS,
    "actor": IDS,
    "by": IDS,
    "asked_by": IDS,
    "granted_by": IDS,
    "requested_by": IDS,
    "changed_by": IDS,
    "refused_by": IDS,
    "lifted_by": IDS,
    "kept_by": IDS,
    "cancel_requested_by": IDS,
    "answer_id": IDS,
    "candidate_id": IDS,
    "correction_id": IDS,
    "candidate_a": IDS,
    "candidate_b": IDS,
    "question_id": IDS,
    "nomination_id": IDS,
    "entry_id": IDS,
    "dataset_id": IDS,
    "parent_id": IDS,
    "run_id": IDS,
    "version_id": IDS,
    "previous_id": IDS,
    "challenger_id": IDS,
    "current_id": IDS,
    "evaluation_id": IDS,
    "against_id": IDS,
    "started_by": IDS,
    "ended_by": IDS,
    "confirmed_by": IDS,
    "duel_id": IDS,
    "report_channel": IDS,
    "authors": "ids of people",
    "waiting_for": "ids of people",
    "approvals": "ids of people",
    "provider_file.file_id": "the provider's name of a file that we sent",
    "review.subject": IDS,
    "decision.subject": "the id of what was decided about",
    "promotion.decision": "the name of a decision, made of ids",
    "canary.decision": "the name of a decision, made of ids",
    "canary.specification": "figures by name",
    "canary.tally": "figures by name",
    "canary.told": STATE,
    "distillation.quote": "figures by name, and reasons that are ours",
    "distillation.told": STATE,
    "distillation.teacher": "the name of a model",
    "distillation.confirmed_by": IDS,
    "distillation.stopped_by": IDS,
    "distilled_answer.teacher": "the name of a model",
    "distilled_answer.people": IDS,
    "distilled_answer.distillation_id": IDS,
    "evaluation.specification": "figures, ids and names of metrics",
    "evaluation.options": "names of models from the settings",
    "training_run.occasion": "the name of an occasion, made of ids and times",
    "ts": TIME,
    "thread_ts": TIME,
    "draft_ts": TIME,
    "posted_ts": TIME,
    "told_ts": TIME,
    "report_ts": TIME,
    "report_drawn": TIME,
    "day": TIME,
    "budget_notice.period": TIME,
    "price_version": TIME,
    "schedule.cron": "checked when it is set: five fields of numbers",
    "schedule.timezone": "checked when it is set: the name of a zone",
    "schedule.last_fired_local": TIME,
    "state": STATE,
    "surface": STATE,
    "place": "Slack's word for a kind of conversation",
    "kind": STATE,
    "via": STATE,
    "origin": STATE,
    "outcome": STATE,
    "pick": STATE,
    "finish": STATE,
    "purpose": STATE,
    "policy": STATE,
    "split": STATE,
    "action": STATE,
    "step": STATE,
    "scope": "a period, or the channel and time that name a conversation",
    "claimed_by": CLAIM,
    "model": NAME,
    "provider": NAME,
    "finetuner": NAME,
    "base_model": NAME,
    "model_version.name": "a name that we give: local-3",
    "path": PLACE,
    "directory": PLACE,
    "handle": PLACE,
    "sha256": HASH,
    "digest": HASH,
    "key": HASH,
    "question_hash": HASH,
    "cluster": HASH,
    "keepsake.name": "our own name for it",
    "keepsake.value": "salts, keys and marks of ours, one by one; words of people never lie there",
    "candidate.features": "numbers by name",
    "router_version.parameters": "numbers",
    "router_version.scores": "numbers",
    "dataset_version.manifest": "counts, hashes, settings; what it quotes comes out of columns of words",
    "dataset_version.difference": "counts by word, and ids",
    "training_run.options": "settings of ours",
    "model_version.card": "settings, figures and hashes of a training",
    "model_version.tainted": "a sentence of ours",
}
"""Columns that are stored as they are: by name, or by table and name where one name means several things."""


def held_columns() -> dict[str, Any]:
    """Every column in which a text can lie, by table and name."""
    return {
        f"{table.name}.{column.name}": column.type
        for table in Record.metadata.sorted_tables
        for column in table.columns
        if isinstance(_bare(column.type), String | JSON) and not isinstance(column.type, SAEnum)
    }


def _bare(kind: Any) -> Any:
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


def test_every_text_is_struck_out_or_is_written_by_machines_only() -> None:
    """A new column that holds words takes `text_column`, `json_column` or `ShortWords`; another one says here why not."""
    columns = held_columns()
    assert len(columns) > 150
    unknown = {
        name
        for name, kind in columns.items()
        if not isinstance(kind, OF_WORDS) and not {name, name.partition(".")[2]} & set(MACHINE_ONLY)
    }
    assert unknown == set()
    for name in MACHINE_ONLY:
        assert any(
            name in {each, each.partition(".")[2]} and not isinstance(kind, OF_WORDS)
            for each, kind in columns.items()
        ), f"{name} is in no table as it is"
    words = {name for name, kind in columns.items() if isinstance(kind, OF_WORDS)}
    assert {"question.text", "answer.messages", "rating.reason", "correction.text", "entry.topic"} <= words


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


async def everything(store: Store) -> str:
    """Every value of every table, as the database shows it, past all our types."""
    found = []
    async with store.database.reading() as session:
        connection = await session.connection()
        for table in Record.metadata.sorted_tables:
            rows = await connection.execute(text(f'SELECT * FROM "{table.name}"'))
            found += [repr(tuple(row)) for row in rows]
    return "\n".join(found)


async def test_no_way_into_a_table_leads_past_it(either: Store) -> None:
    """Rows of the session, changes of rows, Core inserts of many and updates: all the same."""
    asked = await ask(either, text=SAID)
    assert MAIL not in asked.text, "what the store hands back is what it keeps"
    said = Proposal(f"Call {MAIL}.", "local", "starter", source=f"from {MAIL}")
    answered = await either.answer(asked, [said], messages=[Message("user", SAID)], route={"notice": MAIL})
    assert MAIL not in answered.candidate.text + repr(answered.answer.messages)
    await either.rate(answered.answer.id, team=TEAM, rater="U2", value=-1, reason=SAID)
    await either.correct(answered.answer.id, team=TEAM, author="U2", text=SAID, reason=SAID)
    await either.drop_question(asked.id, SAID)
    await either.nominate(
        Nomination(
            team=TEAM, channel="C1", ts="5.0", nominator="U2", question=SAID, answer=SAID, topic=SAID,
            authors=["U2"], waiting_for=[],
        )
    )  # fmt: skip
    await either.add_entries(TEAM, [NewEntry(SAID, SAID, source=MAIL, topic=MAIL, thread=MAIL)])
    await either.set_channel(TEAM, "C1", by="U2", instructions=SAID)
    await either.decide(team=TEAM, actor="U2", action="test", detail=SAID)
    async with either.database.writing() as session:
        connection = await session.connection()
        row = {"team": TEAM, "source": MAIL, "split": "", "author": "", "thread": "", "change": 1}
        many = [
            {**row, "id": f"e_{n}", "question": f"{n} {SAID}", "question_hash": f"{n}", "answer": SAID}
            | {"topic": "", "created_at": asked.asked_at}
            for n in range(3)
        ]
        await connection.execute(insert(Entry), many)
        await connection.execute(update(Candidate).values(text=SAID))
        await session.exec(update(Question).values({"text": SAID, "reason": SAID}))
        await session.exec(update(Answer).values(messages=[{"role": "user", "content": SAID}]))
        loaded = (await session.exec(select(Rating))).one()
        loaded.reason = f"again {SAID}"
        session.add(loaded)
    kept = await everything(either)
    assert MAIL not in kept
    assert CARD not in kept
    assert kept.count("<EMAIL_1>") > 20


async def test_a_query_for_what_was_said_finds_what_was_kept(either: Store) -> None:
    """Comparing with a column of words compares with what the choke point makes of it."""
    asked = await ask(either, text=SAID)
    async with either.database.reading() as session:
        found = (await session.exec(select(Question).where(col(Question.text) == SAID))).all()
    assert [row.id for row in found] == [asked.id]


async def test_a_question_has_one_hash_however_it_arrives(either: Store) -> None:
    """The hash is that of the words that are kept, so a second import and a lookup by the raw words find the entry."""
    first = await either.add_entries(
        TEAM, [NewEntry(SAID, "Noted.", "faq"), NewEntry("Hello?", "Hi.", "faq")]
    )
    assert (first.added, first.struck) == (2, 1)
    again = await either.add_entries(TEAM, [NewEntry(SAID, "Noted.", "faq")])
    assert (again.unchanged, again.struck) == (1, 1)
    entry = await either.entry(TEAM, SAID)
    assert entry is not None
    assert entry.question_hash == question_hash(entry.question) == question_hash(clean(SAID))
    assert len(await either.known_entries(TEAM, ids=[], question=SAID)) == 1


async def test_phrasings_stay_joined_by_a_name_that_is_not_kept(either: Store) -> None:
    """A file may join its rows by what nobody shall read: they stay joined, by a keyed hash."""
    rows = [("How?", MAIL), ("In which way?", MAIL), ("When?", "joe@customer.example.com"), ("Who?", "plain")]
    await either.add_entries(TEAM, [NewEntry(asked, "So.", "faq", thread=thread) for asked, thread in rows])
    threads = [entry.thread async for page in either.entries(TEAM) for entry in page]
    assert len(set(threads)) == 3
    assert "plain" in threads
    assert not [thread for thread in threads if "example" in thread or thread.startswith("<")]
