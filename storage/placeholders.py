"""The map of placeholders: the same thing has the same number all through one conversation.

`<EMAIL_1>` in a question, in its answer and in a correction is one address. What it was is kept nowhere; the map holds keyed
hashes (`storage.identities`), beside the words and not in them. Where it is erased, the words stay and nobody can tell any
more which placeholders of two texts mean the same.
"""

import re
from collections.abc import Callable, Sequence

from sqlalchemy import delete, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.identities import IdentityStore, digest
from storage.records import Answer, Placeholder, Question
from storage.redaction import PLACEHOLDER, Kind, redact
from storage.words import clean

SLACK_ID = re.compile(r"[UW][0-9A-Z]{2,20}")


def scope_of(channel: str, thread_ts: str) -> str:
    """The name of a conversation in the map."""
    return f"{channel}/{thread_ts}"


def scope_of_question(question: Question) -> str:
    """The conversation in which a question stands; one asked by a command begins its own."""
    return scope_of(question.channel, question.thread_ts or question.ts)


class Numbers:
    """The numbers of one conversation: known ones by keyed hash, and `fresh` ones given since."""

    def __init__(self, key: bytes, rows: Sequence[Placeholder] = ()) -> None:
        self._key = key
        self._known = {row.digest: row.number for row in rows}
        self._taken: dict[str, int] = {}
        for row in rows:
            self._take(row.kind, row.number)
        self.fresh: list[tuple[str, str, int, str]] = []

    def number(self, kind: Kind, identity: str) -> int:
        """The number of this thing here; equal for two spellings of one thing."""
        mark = digest(self._key, str(kind), identity)
        if mark not in self._known:
            number = self._taken.get(str(kind), 0) + 1
            self._known[mark] = number
            self._take(str(kind), number)
            person = identity if SLACK_ID.fullmatch(identity) else ""
            self.fresh.append((str(kind), mark, number, person))
        return self._known[mark]

    def pass_over(self, texts: Sequence[str]) -> None:
        """Numbers that stand in these texts already are not given to something else."""
        for text in texts:
            for kind, number in PLACEHOLDER.findall(text):
                self._take(kind, int(number))

    def _take(self, kind: str, number: int) -> None:
        self._taken[kind] = max(self._taken.get(kind, 0), number)


class PlaceholderStore(IdentityStore):
    """Strikes out what belongs to one conversation, with its numbers."""

    async def strike(self, team: str, scope: str, *texts: str) -> tuple[str, ...]:
        """These texts as they may be stored, numbered as the conversation is. Most hold nothing: then nothing is read."""
        if all(clean(text) == text for text in texts):
            return texts
        key = await self.identity_key(team)
        async with self.database.writing(alone=f"placeholders {team} {scope}", urgent=True) as session:
            numbers = Numbers(key, await _rows(session, team, scope))
            struck = _strike(texts, numbers)
            session.add_all(
                Placeholder(team=team, scope=scope, kind=kind, digest=mark, number=number, person=person)
                for kind, mark, number, person in numbers.fresh
            )
        return struck

    async def strike_about(self, answer_id: str, *texts: str) -> tuple[str, ...]:
        """The same for what is said about an answer, which belongs to the conversation of its question."""
        if all(clean(text) == text for text in texts):
            return texts
        wanted = (
            select(Question)
            .join(Answer, col(Answer.question_id) == col(Question.id))
            .where(col(Answer.id) == answer_id)
        )
        async with self.database.reading() as session:
            question = (await session.exec(wanted)).first()
        if question is None:
            return tuple(clean(text) for text in texts)
        return await self.strike(question.team, scope_of_question(question), *texts)

    async def striker(self, question: Question) -> Callable[[str], str]:
        """What strikes out an answer to this question while it is written: with the numbers that `strike` will give."""
        key = await self.identity_key(question.team)
        async with self.database.reading() as session:
            rows = await _rows(session, question.team, scope_of_question(question))
        return lambda text: _strike([text], Numbers(key, rows))[0]


async def move_scope(session: AsyncSession, team: str, before: str, after: str) -> None:
    """A conversation has another name now."""
    here = (col(Placeholder.team) == team, col(Placeholder.scope) == before)
    await session.exec(update(Placeholder).where(*here).values(scope=after))


async def delete_scope(session: AsyncSession, team: str, scope: str) -> None:
    """Nobody shall be able to tell any more what is the same in this conversation."""
    here = (col(Placeholder.team) == team, col(Placeholder.scope) == scope)
    await session.exec(delete(Placeholder).where(*here))


async def _rows(session: AsyncSession, team: str, scope: str) -> list[Placeholder]:
    here = (col(Placeholder.team) == team, col(Placeholder.scope) == scope)
    return list((await session.exec(select(Placeholder).where(*here))).all())


def _strike(texts: Sequence[str], numbers: Numbers) -> tuple[str, ...]:
    numbers.pass_over(texts)
    return tuple(redact(text, numbering=numbers).text for text in texts)
