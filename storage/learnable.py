"""What may be learned from, page by page: rated and corrected answers, entries, duels that are over, reviews, switches.

Pages of plain columns in the order of their ids, each read in a transaction of its own, so that a million rows are read in
little memory while others write. Nothing is decided here; `training.examples` does that.
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Text, cast, func
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from storage.database import Database
from storage.feedback import Vote
from storage.records import (
    Answer,
    Candidate,
    ChannelSettings,
    Correction,
    Duel,
    DuelPick,
    Entry,
    Keepsake,
    Nomination,
    Question,
    Rating,
    Review,
)

PAGE = 4000
_AT_ONCE = 1000  # parameters of one IN
OFF = "off"


class Learnable(NamedTuple):
    """Everything said about one answer. `asked_at` is in microseconds since 1970, UTC.

    `messages` is what the model saw, empty where that was the question alone; `earlier` are the people who had asked in the
    thread before, where it saw their words. `correction` is the newest one, None where nobody wrote any.
    """

    answer_id: str
    channel: str
    thread: str
    asker: str
    question: str
    asked_at: int
    messages: Sequence[Mapping[str, Any]]
    text: str
    kind: str
    votes: tuple[Vote, ...]
    correction: str | None
    corrector: str
    may_train: bool
    earlier: tuple[str, ...]


class LearnableEntry(NamedTuple):
    """A verified entry. `channel` is where it was said and `asker` who had asked, "" for what was imported."""

    id: str
    question: str
    key: str
    answer: str
    thread: str
    split: str
    author: str
    nomination_id: str | None
    created_at: int
    channel: str
    asker: str
    topic: str


class LearnableDuel(NamedTuple):
    """A duel that is over, with the texts of both sides and everybody's last pick (picker -> "a", "b", ...)."""

    duel_id: str
    answer_id: str
    channel: str
    thread: str
    asker: str
    question: str
    asked_at: int
    messages: Sequence[Mapping[str, Any]]
    text_a: str
    text_b: str
    picks: Mapping[str, str]
    earlier: tuple[str, ...]


class Votes(NamedTuple):
    """The votes on one answer, and who had asked."""

    answer_id: str
    asker: str
    votes: tuple[Vote, ...]


class Reviewed(NamedTuple):
    """What was decided about a candidate: "approved", "edited" (with the better texts) or "rejected".

    `key` is that of the question as it was asked: an edit must not move it out of the split where it belongs.
    """

    state: str
    question: str
    answer: str
    by: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class LearningPlaces:
    """Where learning is switched off: in these channels, or in the whole workspace."""

    channels_off: frozenset[str] = frozenset()
    workspace_off: bool = False

    def allows(self, channel: str) -> bool:
        """Whether what is said there may be learned from."""
        return not self.workspace_off and channel not in self.channels_off


class LearnableStore:
    """Pages of what may be learned from."""

    database: Database

    async def learnable(self, team: str, *, page: int = PAGE) -> AsyncIterator[list[Learnable]]:
        """All rated or corrected answers of a workspace, ordered by the answer's id."""
        last = ""
        while True:
            async with self.database.reading() as session:
                connection = await session.connection()
                await _with_room(connection)
                said = await _said_after(connection, last, page)
                rows = await _learnable(connection, team, said)
            if not said.ids:
                return
            if rows:
                yield rows
            last = said.ids[-1]

    async def votes_to_weigh(self, team: str, *, page: int = PAGE) -> AsyncIterator[list[Votes]]:
        """The same answers with their votes alone, for whoever only counts those."""
        last = ""
        columns: Any = (Answer.id, Answer.team, Question.asker)
        wanted = select(*columns).join(Question, col(Question.id) == col(Answer.question_id))
        while True:
            async with self.database.reading() as session:
                connection = await session.connection()
                said = await _said_after(connection, last, page)
                asked = await _looked_up(connection, wanted, col(Answer.id), said.ids)
            if not said.ids:
                return
            yield [
                Votes(row[0], row[2], said.votes.get(row[0], ()))
                for row in sorted(asked, key=lambda row: row[0])
                if row[1] == team
            ]
            last = said.ids[-1]

    async def learnable_entries(self, team: str, *, page: int = PAGE) -> AsyncIterator[list[LearnableEntry]]:
        """All verified entries of a workspace, ordered by id."""
        last = ""
        columns: Any = (
            *(Entry.id, Entry.question, Entry.question_hash, Entry.answer, Entry.thread, Entry.split),
            *(Entry.author, Entry.nomination_id, Entry.created_at, Entry.team),
            func.coalesce(Answer.channel, Nomination.channel, ""),
            *(func.coalesce(Question.asker, ""), Entry.topic),
        )
        wanted = (
            select(*columns)
            .outerjoin(Answer, col(Answer.id) == col(Entry.answer_id))
            .outerjoin(Question, col(Question.id) == col(Answer.question_id))
            .outerjoin(Nomination, col(Nomination.id) == col(Entry.nomination_id))
            .order_by(col(Entry.id))
            .limit(page)
        )
        while True:
            async with self.database.reading() as session:
                found = await (await session.connection()).execute(wanted.where(col(Entry.id) > last))
                rows = found.all()
            if not rows:
                return
            yield [
                LearnableEntry._make((*row[:8], _micros(row[8]), *row[10:])) for row in rows if row[9] == team
            ]
            last = rows[-1][0]

    async def learnable_duels(self, team: str, *, page: int = 1000) -> AsyncIterator[list[LearnableDuel]]:
        """All duels of a workspace that are over and were picked in, ordered by id."""
        last = ""
        while True:
            async with self.database.reading() as session:
                connection = await session.connection()
                found = (await connection.execute(_duels_after(last, page))).all()
                rows = await _duels(connection, team, found)
            if not found:
                return
            if rows:
                yield rows
            last = found[-1][0]

    async def reviewed(self, team: str) -> dict[str, Reviewed]:
        """What was decided about candidates, by the id of the answer or entry. An entry shares the fate of its answer."""
        columns: Any = (Review.state, Review.question, Review.answer, Review.by, Review.key)
        decided = select(Review.subject, *columns).where(col(Review.team) == team)
        made_of = select(Entry.id, *columns).join(Review, col(Review.answer_id) == col(Entry.answer_id))
        async with self.database.reading() as session:
            rows = list((await session.exec(made_of.where(col(Review.team) == team))).all())
            rows += (await session.exec(decided)).all()
            return {row[0]: Reviewed(*row[1:]) for row in rows}

    async def learning_places(self, team: str) -> LearningPlaces:
        """Where learning is switched off."""
        off = (col(ChannelSettings.team) == team, col(ChannelSettings.learning).is_(False))
        async with self.database.reading() as session:
            channels = (await session.exec(select(ChannelSettings.channel).where(*off))).all()
            kept = await session.get(Keepsake, f"learning:{team}")
        return LearningPlaces(frozenset(channels), kept is not None and kept.value == OFF)


class _Said(NamedTuple):
    """What was said after some answer: the answers' ids in order, their votes, their newest corrections."""

    ids: list[str]
    votes: dict[str, tuple[Vote, ...]]
    corrections: dict[str, tuple[str, str, bool]]


async def _said_after(connection: AsyncConnection, last: str, page: int) -> _Said:
    """The next answers about which anything was said. Both tables are read in order; where one of them filled its page, what
    lies behind its last whole answer waits for the next page."""
    ratings: Any = (Rating.answer_id, Rating.rater, Rating.value)
    corrections: Any = (Correction.answer_id, Correction.author, Correction.text, Correction.may_train)
    rated = (
        select(*ratings)
        .where(col(Rating.answer_id) > last, col(Rating.value) != 0)
        .order_by(col(Rating.answer_id), col(Rating.rater))
    )
    corrected = (
        select(*corrections)
        .where(col(Correction.answer_id) > last)
        .order_by(col(Correction.answer_id), col(Correction.corrected_at), col(Correction.id))
    )
    while True:
        voted = (await connection.execute(rated.limit(page))).all()
        written = (await connection.execute(corrected.limit(page))).all()
        ends = [rows[-1][0] for rows in (voted, written) if len(rows) == page]
        end = min(ends) if ends else None
        ids = sorted({row[0] for rows in (voted, written) for row in rows if end is None or row[0] < end})
        if ids or end is None:
            break
        page *= 2  # so many people rated one answer
    votes: dict[str, list[Vote]] = defaultdict(list)
    for answer_id, rater, value in voted:
        votes[answer_id].append(Vote(rater, value))
    newest = {row[0]: (row[1], row[2], row[3]) for row in written}
    return _Said(ids, {each: tuple(votes[each]) for each in ids if each in votes}, newest)


async def _with_room(connection: AsyncConnection) -> None:
    """SQLite's cache of 2 MB would not hold even the inner pages of large tables, and each look-up would read them again."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("PRAGMA cache_size=-48000")


async def _looked_up(
    connection: AsyncConnection, wanted: Any, column: Any, ids: Sequence[str]
) -> list[Sequence[Any]]:
    # Not by the team as well: SQLite would rather read the whole team than look up these ids.
    found: list[Sequence[Any]] = []
    for start in range(0, len(ids), _AT_ONCE):
        found += (await connection.execute(wanted.where(column.in_(ids[start : start + _AT_ONCE])))).all()
    return found


async def _learnable(connection: AsyncConnection, team: str, said: _Said) -> list[Learnable]:
    columns: Any = (
        *(
            Answer.id,
            cast(col(Answer.messages), Text),
            Question.channel,
            Question.thread_ts,
            Question.ts,
            Question.asker,
        ),
        *(Question.text, Question.asked_at, Candidate.text, Candidate.kind, Question.team),
    )
    wanted = (
        select(*columns)
        .select_from(Answer)
        .join(Question, col(Question.id) == col(Answer.question_id))
        .join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
    )
    found = [row for row in await _looked_up(connection, wanted, col(Answer.id), said.ids) if row[10] == team]
    found.sort(key=lambda row: row[0])
    seen = [_messages(row[1]) for row in found]
    asked = [(row[2], row[3], row[4], told) for row, told in zip(found, seen, strict=True)]
    earlier = await _earlier(connection, team, asked)
    rows = []
    for number, row in enumerate(found):
        corrector, better, may_train = said.corrections.get(row[0], ("", None, False))
        rows.append(
            Learnable(
                *(
                    row[0],
                    row[2],
                    f"{row[2]}/{row[3]}",
                    row[5],
                    row[6],
                    _micros(row[7]),
                    seen[number],
                    row[8],
                    row[9],
                ),
                votes=said.votes.get(row[0], ()),
                correction=better,
                corrector=corrector,
                may_train=bool(may_train),
                earlier=earlier.get(number, ()),
            )
        )
    return rows


async def _earlier(
    connection: AsyncConnection, team: str, asked: Sequence[tuple[str, str, str, Sequence[Mapping[str, Any]]]]
) -> dict[int, tuple[str, ...]]:
    """Who had asked before in the same thread, by the question's place in `asked` (channel, thread, ts, messages), where the
    messages quote what was said there."""
    followed = {number: each for number, each in enumerate(asked) if quotes_history(each[3])}
    threads = sorted({each[1] for each in followed.values()})
    columns: Any = (Question.thread_ts, Question.channel, Question.ts, Question.asker, Question.team)
    before: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for thread, channel, ts, asker, of_team in await _looked_up(
        connection, select(*columns), col(Question.thread_ts), threads
    ):
        if of_team == team:
            before[channel, thread].append((ts, asker))
    return {
        number: tuple(sorted({asker for at, asker in before[channel, thread] if at < ts}))
        for number, (channel, thread, ts, _) in followed.items()
    }


def _messages(told: str) -> list[dict[str, Any]]:
    """What a model saw; where that was one question and nothing else that was said, an empty list, without reading it."""
    if told.count('"role": "user"') == 1 and '"role": "assistant"' not in told:
        return []
    found: list[dict[str, Any]] = json.loads(told)
    return found


def quotes_history(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a model saw more of the conversation than the question."""
    return len(messages) > 1 and sum(1 for _ in spoken(messages)) > 1


def spoken(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """What was said here, of all that a model saw: no instructions, and no verified answers shown as examples."""
    return (turn for turn in messages if turn["role"] != "system" and not turn.get("verified"))


def _duels_after(last: str, page: int) -> Any:
    a, b = aliased(Candidate), aliased(Candidate)
    columns: Any = (
        *(Duel.id, Answer.id, Question.channel, Question.thread_ts, Question.ts, Question.asker),
        *(Question.text, Question.asked_at, Answer.messages, a.text, b.text, Question.team),
    )
    return (
        select(*columns)
        .select_from(Duel)
        .join(Question, col(Question.id) == col(Duel.question_id))
        .join(Answer, col(Answer.question_id) == col(Question.id))
        .join(a, col(a.id) == col(Duel.candidate_a))
        .join(b, col(b.id) == col(Duel.candidate_b))
        .where(col(Duel.id) > last, col(Duel.closed_at).is_not(None), col(Duel.outcome) != "")
        .order_by(col(Duel.id))
        .limit(page)
    )


async def _duels(connection: AsyncConnection, team: str, found: Sequence[Any]) -> list[LearnableDuel]:
    rows = [row for row in found if row[11] == team]
    columns: Any = (DuelPick.duel_id, DuelPick.picker, DuelPick.pick)
    picks: dict[str, dict[str, str]] = defaultdict(dict)
    for duel_id, picker, pick in await _looked_up(
        connection, select(*columns), col(DuelPick.duel_id), [row[0] for row in rows]
    ):
        picks[duel_id][picker] = pick
    earlier = await _earlier(connection, team, [(row[2], row[3], row[4], row[8]) for row in rows])
    return [
        LearnableDuel(
            *(row[0], row[1], row[2], f"{row[2]}/{row[3]}", row[5], row[6], _micros(row[7]), row[8]),
            text_a=row[9],
            text_b=row[10],
            picks=dict(sorted(picks[row[0]].items())),
            earlier=earlier.get(number, ()),
        )
        for number, row in enumerate(rows)
    ]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)


def _micros(moment: datetime) -> int:
    """Microseconds since 1970; SQLite gives UTC without saying so."""
    since = moment - (_NAIVE_EPOCH if moment.tzinfo is None else _EPOCH)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
