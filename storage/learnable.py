"""What may be learned from, page by page: rated and corrected answers, entries, duels that are over, reviews, switches.

Pages of plain columns in the order of their ids, each read in a transaction of its own, so that a million rows are read in
little memory while others write. Nothing is decided here; `training.examples` does that.
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import func, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from storage.database import Database, sqlite_file
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
from storage.stretches import Nearby, Stretch, halves, nearby, unchanged

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

    @property
    def seen_by_others(self) -> bool:
        """Whether another process can read it, too: every database but one in memory."""
        return self.database.engine.dialect.name != "sqlite" or sqlite_file(self.database.url) is not None

    async def answers_parted(self, *, fewest: int) -> tuple[Stretch, Stretch] | None:
        """All answers in two halves, so that two can read at once; None for fewer than so many."""
        return await halves(self.database, fewest=fewest)

    async def learnable(self, team: str, *, page: int = PAGE) -> AsyncIterator[list[Learnable]]:
        """All rated or corrected answers of a workspace, ordered by the answer's id."""
        async for rows in self._by_id(team, "", "", page):
            yield rows

    async def learnable_between(
        self, team: str, stretch: Stretch, *, page: int = PAGE
    ) -> AsyncIterator[list[Learnable]]:
        """Those of a stretch, in no order. Raises LaidOutAnew."""
        pages = self._along(team, stretch, page) if stretch.layout else self._by_id(team, *stretch[:2], page)
        async for rows in pages:
            yield rows

    async def _along(self, team: str, stretch: Stretch, page: int) -> AsyncIterator[list[Learnable]]:
        last: str | None = stretch.after
        while last is not None:
            async with self.database.reading() as session:
                connection = await session.connection()
                await _with_room(connection)
                near = await nearby(connection, stretch, last, page=page)
                rows = await _learnable(connection, team, _said_nearby(near))
                await unchanged(connection, stretch)
            if rows:
                yield rows
            last = near.until

    async def _by_id(self, team: str, after: str, until: str, page: int) -> AsyncIterator[list[Learnable]]:
        last = after
        while True:
            async with self.database.reading() as session:
                connection = await session.connection()
                await _with_room(connection)
                said = await _said_after(connection, last, page, until)
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
                LearnableEntry._make((*row[:8], micros(row[8]), *row[10:])) for row in rows if row[9] == team
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
    """What was said about some answers: their ids, their votes, their newest corrections; their numbers, where known."""

    ids: list[str]
    votes: dict[str, tuple[Vote, ...]]
    corrections: dict[str, tuple[str, str, bool]]
    numbers: Sequence[int] = ()


async def _said_after(connection: AsyncConnection, last: str, page: int, until: str = "") -> _Said:
    """The next answers, up to an id, about which anything was said.

    Both tables are read in order; where one filled its page, what lies behind its last whole answer waits for the next.
    """
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
    if until:
        rated = rated.where(col(Rating.answer_id) <= until)
        corrected = corrected.where(col(Correction.answer_id) <= until)
    while True:
        voted = (await connection.execute(rated.limit(page))).all()
        written = (await connection.execute(corrected.limit(page))).all()
        ends = [rows[-1][0] for rows in (voted, written) if len(rows) == page]
        end = min(ends) if ends else None
        ids = sorted({row[0] for rows in (voted, written) for row in rows if end is None or row[0] < end})
        if ids or end is None:
            break
        page *= 2  # so many people rated one answer
    newest = {row[0]: (row[1], row[2], row[3]) for row in written}
    return _Said(ids, _votes(voted), newest)


def _said_nearby(near: Nearby) -> _Said:
    newest = {row[1]: (row[2], row[3], row[4]) for row in near.corrections}
    numbers = {row[0]: row[1] for rows in (near.votes, near.corrections) for row in rows}
    votes = _votes([row[1:] for row in near.votes])
    return _Said(list(numbers.values()), votes, newest, list(numbers))


def _votes(voted: Iterable[Sequence[Any]]) -> dict[str, tuple[Vote, ...]]:
    votes: dict[str, tuple[Vote, ...]] = {}
    for answer_id, rater, value in voted:
        before = votes.get(answer_id)
        votes[answer_id] = (_vote(rater, value),) if before is None else (*before, _vote(rater, value))
    return votes


@lru_cache(maxsize=20_000)
def _vote(rater: str, value: int) -> Vote:
    return Vote(rater, value)


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
    if not said.ids:
        return []
    if connection.dialect.name == "postgresql":
        found = await connection.execute(_SAID_ABOUT_ON_POSTGRES, {"ids": said.ids})
    elif said.numbers:
        found = await connection.exec_driver_sql(_SAID_NEARBY, (json.dumps(said.numbers),))
    else:
        found = await connection.execute(_SAID_ABOUT_ON_SQLITE, {"ids": json.dumps(said.ids)})
    rows = sorted([row for row in found.all() if row[10] == team], key=itemgetter(0))
    seen = [_messages(row[9]) for row in rows]
    asked = [(row[1], row[2], row[3], told) for row, told in zip(rows, seen, strict=True)]
    earlier = await earlier_askers(connection, team, asked)
    votes, corrections = said.votes, said.corrections
    learnable = []
    for number, (answer_id, channel, thread, _, asker, question, at, text_, kind, _, _) in enumerate(rows):
        corrector, better, may_train = corrections.get(answer_id, _NOT_CORRECTED)
        learnable.append(
            Learnable(
                *(answer_id, channel, f"{channel}/{thread}", asker, question, at, seen[number], text_, kind),
                *(votes.get(answer_id, ()), better, corrector, bool(may_train), earlier.get(number, ())),
            )
        )
    return learnable


_NOT_CORRECTED = ("", None, False)
# All ids of a page in one parameter: thousands of them would take longer to be sent than what they name to be found. The
# moment comes as a number and what the model saw as text, because most rows need neither date nor list.
_SAID_ABOUT = (
    "SELECT answer.id, question.channel, question.thread_ts, question.ts, question.asker, question.text, "
    "{at}, candidate.text, candidate.kind, {messages}, question.team FROM {ids} "
    "JOIN question ON question.id = answer.question_id JOIN candidate ON candidate.id = answer.candidate_id {those}"
)
_AT_ON_SQLITE = (
    "CAST(strftime('%s', question.asked_at) AS INTEGER) * 1000000 "
    "+ CAST(substr(question.asked_at, 21, 6) AS INTEGER)"
)
_SAID_ABOUT_ON_SQLITE = text(
    _SAID_ABOUT.format(
        at=_AT_ON_SQLITE,
        messages="answer.messages",
        ids="json_each(:ids) AS given CROSS JOIN answer ON answer.id = given.value",
        those="",
    )
)
_SAID_NEARBY = _SAID_ABOUT.format(
    at=_AT_ON_SQLITE,
    messages="answer.messages",
    ids="json_each(?) AS given CROSS JOIN answer ON answer.rowid = given.value",
    those="",
)
_SAID_ABOUT_ON_POSTGRES = text(
    _SAID_ABOUT.format(
        at="CAST(extract(epoch FROM question.asked_at) * 1000000 AS bigint)",
        # A question alone, or one after an instruction, is what `_messages` gives an empty list for.
        messages="CASE WHEN jsonb_array_length(answer.messages) = 1 OR (jsonb_array_length(answer.messages) = 2 "
        "AND answer.messages->0->>'role' = 'system' AND answer.messages->1->>'role' = 'user') "
        "THEN '' ELSE CAST(answer.messages AS text) END",
        ids="answer",
        those="WHERE answer.id = ANY(:ids)",
    )
)


async def earlier_askers(
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
    if not told or (told.count('"role": "user"') == 1 and '"role": "assistant"' not in told):
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
    earlier = await earlier_askers(connection, team, [(row[2], row[3], row[4], row[8]) for row in rows])
    return [
        LearnableDuel(
            *(row[0], row[1], row[2], f"{row[2]}/{row[3]}", row[5], row[6], micros(row[7]), row[8]),
            text_a=row[9],
            text_b=row[10],
            picks=dict(sorted(picks[row[0]].items())),
            earlier=earlier.get(number, ()),
        )
        for number, row in enumerate(rows)
    ]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)


def micros(moment: datetime) -> int:
    """Microseconds since 1970; SQLite gives UTC without saying so."""
    since = moment - (_NAIVE_EPOCH if moment.tzinfo is None else _EPOCH)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
