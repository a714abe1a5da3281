"""Where a person's words and votes lie, and what quotes them: the rows that go, and the rows from which something is cut.

Everything here is said again after a crash without harm: what is gone already is not found a second time.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Enum, String, Text, and_, cast, delete, literal, or_, tuple_, update
from sqlalchemy.types import TypeDecorator
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.identities import digest
from storage.records import (
    Answer,
    Candidate,
    Consent,
    Correction,
    DistilledAnswer,
    Duel,
    DuelPick,
    Entry,
    Expert,
    Forgetting,
    GoldenItem,
    GoldenState,
    MemberName,
    Nomination,
    Placeholder,
    Quarantine,
    Question,
    Rating,
    RatingEvent,
    Record,
    Review,
    Solicitation,
)
from storage.tombstones import ENTRY, MESSAGE, bury, tombstone_of

PERSON = "person"
QUOTABLE = 20  # characters
AT_ONCE = 500  # rows of one transaction, so that others can write in between
QUESTIONS_AT_ONCE = 100
FEW_WORDS = 50


def person_digest(key: bytes, person: str) -> str:
    """The keyed hash under which a forgotten person is remembered."""
    return digest(key, PERSON, person)


def pseudonym(marked: str) -> str:
    """What stands where the id of a forgotten person stood; `marked` is their keyed hash."""
    return f"forgotten-{marked[:10]}"


def held(team: str, person: str) -> dict[str, tuple[type[Any], Any]]:
    """Where a person's words and votes lie, those first that refer to others."""
    asked = select(Question.id).where(col(Question.team) == team, col(Question.asker) == person)
    answered = select(Answer.id).where(col(Answer.question_id).in_(asked))
    here = select(Duel.id).join(Question, col(Question.id) == col(Duel.question_id))
    nominated = and_(
        col(Nomination.team) == team,
        or_(col(Nomination.nominator) == person, lists(Nomination.authors, person)),
    )
    taken = select(Nomination.id).where(nominated)
    verified = or_(
        col(Entry.author) == person, col(Entry.answer_id).in_(answered), col(Entry.nomination_id).in_(taken)
    )
    in_team = col(DuelPick.duel_id).in_(here.where(col(Question.team) == team))
    golden = or_(lists(GoldenItem.authors, person), col(GoldenItem.answer_id).in_(answered))
    suspected = or_(col(Quarantine.person) == person, col(Quarantine.subject) == literal(person, String))
    distilled = or_(lists(DistilledAnswer.people, person), col(DistilledAnswer.answer_id).in_(answered))
    return {
        "distilled answers": (DistilledAnswer, and_(col(DistilledAnswer.team) == team, distilled)),
        "golden items": (GoldenItem, and_(col(GoldenItem.team) == team, golden)),
        "reviews": (Review, and_(col(Review.team) == team, col(Review.by) == person)),
        "entries": (Entry, and_(col(Entry.team) == team, verified)),
        "nominations": (Nomination, nominated),
        "picks": (DuelPick, and_(col(DuelPick.picker) == person, in_team)),
        "presses": (RatingEvent, and_(col(RatingEvent.team) == team, col(RatingEvent.rater) == person)),
        "requests": (Solicitation, and_(col(Solicitation.team) == team, col(Solicitation.person) == person)),
        "corrections": (Correction, and_(col(Correction.team) == team, col(Correction.author) == person)),
        "ratings": (Rating, and_(col(Rating.team) == team, col(Rating.rater) == person)),
        "questions": (Question, and_(col(Question.team) == team, col(Question.asker) == person)),
        "quarantined": (Quarantine, and_(col(Quarantine.team) == team, suspected)),
        "consent": (Consent, and_(col(Consent.team) == team, col(Consent.person) == person)),
    }


def known_as(team: str, person: str) -> dict[str, tuple[type[Any], Any]]:
    """Who somebody is to us: their role, the hashes of their names, the placeholders that stand for them."""
    return {
        "roles": (Expert, and_(col(Expert.team) == team, col(Expert.person) == person)),
        "names": (MemberName, and_(col(MemberName.team) == team, col(MemberName.person) == person)),
        "placeholders": (Placeholder, and_(col(Placeholder.team) == team, col(Placeholder.person) == person)),
    }


def lists(column: Any, person: str) -> Any:
    """Whether a JSON list holds this very string."""
    return cast(col(column), Text).like(literal(f'%"{_plain(person)}"%', Text), escape="\\")


def _plain(words: str) -> str:
    """For LIKE, without wildcards."""
    return re.sub(r"([\\%_])", r"\\\1", words)


# --- What goes ----------------------------------------------------------------------------------------------


async def delete_some(session: AsyncSession, team: str, person: str, kind: str, key: bytes) -> int:
    """Delete some of what is left of a kind that `held` names; how many, 0 once nothing is left."""
    record, where = held(team, person)[kind]
    if kind == "questions":
        return await _delete_questions(session, team, where, key)
    if kind == "entries":
        return await _delete_entries(session, team, where, key)
    return await _delete_rows(session, record, where)


async def _delete_rows(session: AsyncSession, record: type[Any], where: Any) -> int:
    ids = (await session.exec(select(record.id).where(where).limit(AT_ONCE))).all()
    if ids:
        await session.exec(delete(record).where(record.id.in_(ids)))
    return len(ids)


async def _delete_entries(session: AsyncSession, team: str, where: Any, key: bytes) -> int:
    columns: Any = (Entry.id, Entry.question_hash, Entry.answer)
    rows = (await session.exec(select(*columns).where(where).limit(AT_ONCE))).all()
    if rows:
        marked = [tombstone_of(key, ENTRY, row.question_hash, row.answer) for row in rows]
        await bury(session, team, ENTRY, marked)
        await session.exec(delete(Entry).where(col(Entry.id).in_([row.id for row in rows])))
    return len(rows)


async def _delete_questions(session: AsyncSession, team: str, where: Any, key: bytes) -> int:
    """With all that hangs on them, cut out of what others' models were shown in the same threads."""
    columns: Any = (Question.id, Question.channel, Question.ts, Question.thread_ts, Question.text)
    rows = (await session.exec(select(*columns).where(where).limit(QUESTIONS_AT_ONCE))).all()
    if not rows:
        return 0
    ids = [row.id for row in rows]
    await _cut_threads(session, team, rows)
    await bury(session, team, MESSAGE, [tombstone_of(key, MESSAGE, row.channel, row.ts) for row in rows])
    await session.exec(delete(Question).where(col(Question.id).in_(ids)))
    await _delete_empty_scopes(session, team, {(row.channel, row.thread_ts) for row in rows})
    return len(rows)


async def _cut_threads(session: AsyncSession, team: str, rows: Sequence[Any]) -> None:
    ids = [row.id for row in rows]
    said: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    places = {row.id: (row.channel, row.thread_ts) for row in rows}
    for row in rows:
        said[places[row.id]].add(row.text)
    replied: Any = (Candidate.question_id, Candidate.text)
    for question_id, text in (
        await session.exec(select(*replied).where(col(Candidate.question_id).in_(ids)))
    ).all():
        said[places[question_id]].add(text)
    columns: Any = (Answer.id, Answer.messages, Question.channel, Question.thread_ts)
    threads = sorted({thread_ts for _, thread_ts in said})
    others = (
        select(*columns)
        .join(Question, col(Question.id) == col(Answer.question_id))
        .where(col(Question.thread_ts).in_(threads), col(Question.team) == team)
        .where(col(Question.id).not_in(ids))
    )
    for answer_id, messages, channel, thread_ts in (await session.exec(others)).all():
        words = said.get((channel, thread_ts), set())
        kept = without_words(messages, Quotes(words))
        if kept != messages:
            await session.exec(update(Answer).where(col(Answer.id) == answer_id).values(messages=kept))


async def _delete_empty_scopes(session: AsyncSession, team: str, places: Collection[tuple[str, str]]) -> None:
    """The numbers of placeholders in conversations that are gone as a whole."""
    where = (
        col(Question.team) == team,
        tuple_(col(Question.channel), col(Question.thread_ts)).in_(list(places)),
    )
    columns: Any = (Question.channel, Question.thread_ts)
    left = {
        (row.channel, row.thread_ts) for row in (await session.exec(select(*columns).where(*where))).all()
    }
    gone = [f"{channel}/{thread_ts}" for channel, thread_ts in places if (channel, thread_ts) not in left]
    here = (col(Placeholder.team) == team, col(Placeholder.scope).in_(gone))
    await session.exec(delete(Placeholder).where(*here))


async def step_back(session: AsyncSession, team: str, person: str) -> None:
    """Nobody stands behind a golden item by a person who is gone; with fewer than two it is a proposal again."""
    where = (col(GoldenItem.team) == team, lists(GoldenItem.approvals, person))
    for item in (await session.exec(select(GoldenItem).where(*where))).all():
        item.approvals = [each for each in item.approvals if each != person]
        if item.state is GoldenState.GOLDEN and len(item.approvals) < 2:
            item.state = GoldenState.PROPOSED
        session.add(item)


# --- What names them ----------------------------------------------------------------------------------------


async def rename(session: AsyncSession, team: str, person: str, name: str) -> int:
    """Write `name` wherever any column of the workspace's rows still holds the id; how many rows that were."""
    whole = re.compile(rf"(?<![A-Za-z0-9]){re.escape(person)}(?![A-Za-z0-9])")
    changed = 0
    connection = await session.connection()
    for table in Record.metadata.sorted_tables:
        columns = [each for each in table.columns if _holds_text(each) and not each.primary_key]
        if table.name == Forgetting.__tablename__:  # who is being forgotten stands there until it is done
            columns = [each for each in columns if each.name != "person"]
        if not columns:
            continue
        keys = list(table.primary_key.columns)
        pattern = literal(f"%{_plain(person)}%", Text)
        found = or_(*(cast(each, Text).like(pattern, escape="\\") for each in columns))
        rows = await connection.execute(
            select(*keys, *columns).where(found, _of_workspace(table, team), _of_others(table, person))
        )
        for row in rows.all():
            told = dict(zip(columns, row[len(keys) :], strict=True))
            values = {each.name: _renamed(value, whole, name) for each, value in told.items()}
            if any(values[each.name] != value for each, value in told.items()):
                same = [each == value for each, value in zip(keys, row, strict=False)]
                await connection.execute(update(table).where(*same).values(**values))
                changed += 1
    return changed


def _of_workspace(table: Any, team: str) -> Any:
    columns = table.columns
    if "team" in columns:
        return columns["team"] == team
    if "question_id" in columns:
        return columns["question_id"].in_(select(Question.id).where(col(Question.team) == team))
    return columns["name"].like(f"%:{_plain(team)}", escape="\\") if "name" in columns else literal(False)


def _of_others(table: Any, person: str) -> Any:
    """Not the work of forgetting them, which still has to tell who asked for it; its end renames that."""
    return table.columns["person"] != person if table.name == Forgetting.__tablename__ else literal(True)


def _holds_text(column: Any) -> bool:
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    return isinstance(kind, String | JSON) and not isinstance(kind, Enum)


def _renamed(value: Any, whole: re.Pattern[str], name: str) -> Any:
    if isinstance(value, str):
        return whole.sub(name, value)
    if isinstance(value, Mapping):
        return {whole.sub(name, str(each)): _renamed(inner, whole, name) for each, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(each, whole, name) for each in value]
    return value


# --- What quotes them ---------------------------------------------------------------------------------------


class Quotes:
    """Tells whether a text quotes any of many others, in one walk over it however many there are.

    A short one counts as quoted only where it is all there is: "hi" is in "this". A long one counts wherever it begins
    with a word.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._whole = {text for text in words if text}
        self._by_beginning: dict[str, dict[int, set[str]]] = {}
        self._first_words: set[str] = set()
        for text in self._whole:
            first = _WORD.search(text)
            rest = text[first.start() :] if first is not None else text
            if len(rest) >= QUOTABLE:
                begun = self._by_beginning.setdefault(rest[:QUOTABLE], {})
                begun.setdefault(len(rest), set()).add(rest)
                self._first_words.add(first.group() if first is not None else rest[:1])

    def __bool__(self) -> bool:
        return bool(self._whole)

    def are_in(self, content: str) -> bool:
        """Whether any of them is quoted there."""
        if content in self._whole:
            return True
        for start in self._beginnings(content):
            begun = self._by_beginning.get(content[start : start + QUOTABLE])
            if begun and any(content[start : start + length] in texts for length, texts in begun.items()):
                return True
        return False

    def _beginnings(self, content: str) -> Iterator[int]:
        """Where one of them may begin: at few known words, else at every word."""
        if len(self._first_words) > FEW_WORDS:
            yield from (word.start() for word in _WORD.finditer(content))
            return
        for word in self._first_words:
            start = content.find(word)
            while start >= 0:
                yield start
                start = content.find(word, start + 1)


_WORD = re.compile(r"\w+|[^\w\s]")


def without_words(
    messages: Sequence[dict[str, Any]], words: "Quotes | Collection[str]"
) -> list[dict[str, Any]]:
    """The messages without system prompts that quote these words, and without a history that holds them.

    The question itself, which comes last, always stays.
    """
    quotes = words if isinstance(words, Quotes) else Quotes(words)
    *before, question = messages
    prompts = [turn for turn in before if turn["role"] == "system" and not quotes.are_in(turn["content"])]
    history = [turn for turn in before if turn["role"] != "system"]
    if any(quotes.are_in(turn["content"]) for turn in history):
        history = []
    return [*prompts, *history, question]


def without_rows(sheet: Mapping[str, Any], gone: Callable[[str, str], bool]) -> dict[str, Any] | None:
    """An evaluation's sheet without the answers for which `gone(example, text)` holds; None where it has none of them."""
    rows = sheet.get("rows") or []
    kept = [row for row in rows if not gone(str(row["answered"]["example"]), str(row["answered"]["text"]))]
    if len(kept) == len(rows):
        return None
    left = {**sheet, "rows": kept}
    there = {str(row["answered"]["example"]) for row in kept}
    if judge := sheet.get("judge"):
        left["judge"] = {**judge, "pairs": [pair for pair in judge["pairs"] if pair["example"] in there]}
    if topics := sheet.get("topics"):
        left["topics"] = [
            {**topic, "examples": [each for each in topic["examples"] if each in there]} for topic in topics
        ]
    return left


KINDS = tuple(held("", ""))
"""In the order in which they go."""
