"""What the store does around a question: asked, claimed, answered, posted, dropped, deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Update, bindparam, delete, func, or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from storage.database import Database
from storage.errors import PublicError
from storage.placeholders import PlaceholderStore, delete_scope, move_scope, scope_of, scope_of_question
from storage.records import (
    Answer,
    AnswerPart,
    Candidate,
    ChannelSettings,
    Consent,
    Duel,
    Question,
    QuestionState,
    new_id,
    now,
)
from storage.rows import first_row, insert_rows, insert_values, new_row, table_of, touched
from storage.tombstones import MESSAGE, TombstoneStore, was_forgotten
from storage.values import Message, Proposal
from storage.words import clean

_THIS: Any = bindparam("this")
_STANDING: Any = (Answer.question_id, Answer.team, Answer.channel, Answer.posted_ts)
_WHERE_IT_STANDS = select(*_STANDING).where(col(Answer.id) == _THIS)
_WITHOUT_PARTS = delete(table_of(AnswerPart)).where(col(AnswerPart.answer_id) == _THIS)
_ANSWER = update(table_of(Answer)).where(col(Answer.id) == _THIS)
_QUESTION = update(table_of(Question)).where(col(Question.id) == _THIS)

OWED = (QuestionState.ASKED, QuestionState.ANSWERING)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and whether it is new; a redelivered one is not."""

    question: Question
    new: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer with what it answers and the candidate that was chosen."""

    question: Question
    answer: Answer
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Taken:
    """A claimed question, what holds in its channel, and whether its asker was asked for consent before."""

    question: Question
    settings: ChannelSettings
    asked_for_consent: bool


class AskingStore(PlaceholderStore, TombstoneStore):
    """Questions and their answers."""

    database: Database

    async def ask(
        self,
        *,
        team: str,
        channel: str,
        ts: str,
        thread_ts: str,
        asker: str,
        text: str,
        surface: str = "mention",
        place: str = "",
    ) -> Asked:
        """Record a question once; a second delivery returns the first row. Its words are struck out, here as there.

        A message that was forgotten is not taken in again: what is returned for it is empty, not new, and not stored.
        """
        if clean(text) != text:
            # Numbers are given in a transaction of their own, and to nothing that was forgotten.
            if await self.is_tombstoned(team, MESSAGE, channel, ts):
                return Asked(_forgotten(team, channel, ts), new=False)
            (text,) = await self.strike(team, scope_of(channel, thread_ts or ts), text)
        question = new_row(
            Question,
            team=team,
            channel=channel,
            ts=ts,
            thread_ts=thread_ts,
            asker=asker,
            text=text,
            surface=surface,
            place=place,
        )
        try:
            return await self.database.at_once(partial(_ask, question), urgent=True)
        except IntegrityError:
            known = await self.question_at(team, channel, ts)
            if known is None:
                raise
            return Asked(known, new=False)

    async def question_at(self, team: str, channel: str, ts: str) -> Question | None:
        """The question with this natural key."""
        async with self.database.reading() as session:
            where = (col(Question.team) == team, col(Question.channel) == channel, col(Question.ts) == ts)
            return (await session.exec(select(Question).where(*where))).first()

    async def question_before(self, team: str, channel: str, thread_ts: str, ts: str) -> Question | None:
        """The last question asked to the bot in this thread before message `ts`."""
        place = (col(Question.team) == team, col(Question.channel) == channel)
        earlier = (col(Question.thread_ts) == thread_ts, col(Question.ts) < ts)
        wanted = select(Question).where(*place, *earlier).order_by(col(Question.ts).desc()).limit(1)
        async with self.database.reading() as session:
            return (await session.exec(wanted)).first()

    async def question(self, question_id: str) -> Question | None:
        """The question with this id; None after it was deleted."""
        async with self.database.reading() as session:
            return await session.get(Question, question_id)

    async def claim_question(self, question_id: str, *, worker: str, lease_s: float) -> bool:
        """Take the question for `lease_s` seconds; False when somebody holds it or it is finished."""
        claim = _claim(question_id, worker, lease_s)
        return await self.database.at_once(lambda connection: touched(connection.execute(claim)) == 1)

    async def take_question(self, question_id: str, *, worker: str, lease_s: float) -> "Taken | None":
        """Claim a question, with all that is needed to answer it; None when somebody holds it or it is finished."""
        return await self.database.at_once(partial(_take, question_id, _claim(question_id, worker, lease_s)))

    async def owed_questions(self, *, limit: int = 50) -> list[Question]:
        """Questions that nobody is answering: new ones, and those whose claim has run out. Oldest first."""
        free = or_(col(Question.lease_until).is_(None), col(Question.lease_until) < now())
        wanted = (
            select(Question)
            .where(col(Question.state).in_(OWED), free)
            .order_by(col(Question.asked_at))
            .limit(limit)
        )
        async with self.database.reading() as session:
            return list((await session.exec(wanted)).all())

    async def put_off_question(self, question_id: str, *, after_s: float) -> None:
        """Let go of a question that is still owed; from `after_s` seconds on somebody may take it up again."""
        async with self.database.writing() as session:
            await session.exec(
                update(Question)
                .where(col(Question.id) == question_id, col(Question.state).in_(OWED))
                .values(lease_until=now() + timedelta(seconds=after_s))
            )

    async def drop_question(self, question_id: str, reason: str) -> None:
        """Give a question up, for a reason that is kept. One that is answered stays answered."""
        async with self.database.writing() as session:
            await session.exec(
                update(Question)
                .where(col(Question.id) == question_id, col(Question.state).in_(OWED))
                .values(state=QuestionState.DROPPED, reason=reason, lease_until=None)
            )

    async def delete_question(self, team: str, channel: str, ts: str) -> bool:
        """Delete a question and everything that came of it; True if there was one."""
        where = (col(Question.team) == team, col(Question.channel) == channel, col(Question.ts) == ts)
        async with self.database.writing() as session:
            question = (await session.exec(select(Question).where(*where))).first()
            if question is None:
                return False
            scope = scope_of_question(question)
            await session.exec(delete(Question).where(*where))
            thread = (col(Question.team) == team, col(Question.channel) == channel)
            others = select(Question.id).where(*thread, col(Question.thread_ts) == question.thread_ts)
            if (await session.exec(others.limit(1))).first() is None:
                await delete_scope(session, team, scope)
            return True

    async def answer(
        self,
        question: Question,
        candidates: Sequence[Proposal],
        *,
        messages: Sequence[Message],
        route: Mapping[str, Any] | None = None,
    ) -> Answered:
        """Store the proposals, the first of them as the Answer, with its `route`. A question keeps the answer that it has.

        Raises PublicError where the question was deleted meanwhile.
        """
        scope = scope_of_question(question)
        said = await self.strike(question.team, scope, *(proposal.text for proposal in candidates))
        rows = [
            candidate_row(question.id, replace(proposal, text=text))
            for proposal, text in zip(candidates, said, strict=True)
        ]
        rows[0].chosen = True
        answer = new_row(
            Answer,
            question_id=question.id,
            candidate_id=rows[0].id,
            team=question.team,
            channel=question.channel,
            messages=[message.stored() for message in messages],
            route=dict(route or {}),
        )
        try:
            await self.database.at_once(partial(_keep_answer, rows, answer))
            return Answered(question, answer, rows[0])
        except IntegrityError:
            known = await self.answer_to(question.id)
            if known is None:
                raise PublicError("The question was deleted while I was answering it.") from None
            return known

    async def posted(
        self,
        answer_id: str,
        ts: str,
        *,
        before: Sequence[str] = (),
        solicit_probability: float | None = None,
    ) -> None:
        """The answer stands in Slack as message `ts`, after the parts `before` of a long one; its question is done.

        `solicit_probability` is the chance with which a rating of it is asked for; None where nobody draws.
        """
        values: dict[str, Any] = {"posted_ts": ts, "posted_at": now()}
        if solicit_probability is not None:
            values["solicit_probability"] = solicit_probability
        work = partial(_stands, answer_id, values, [*before, ts])
        await self.database.at_once(work, alone=f"posted {answer_id}")

    async def answer_to(self, question_id: str) -> Answered | None:
        """The answer to a question, posted or not."""
        return await self._answered(col(Answer.question_id) == question_id)

    async def answered(self, answer_id: str) -> Answered | None:
        """An answer by its opaque id."""
        return await self._answered(col(Answer.id) == answer_id)

    async def answer_at(self, team: str, channel: str, ts: str) -> Answered | None:
        """The answer that stands in Slack as this message, or of which this message is a part.

        None for the messages of a duel: they hold two answers, and what is said to them is said to neither.
        """
        where = (col(AnswerPart.team) == team, col(AnswerPart.channel) == channel, col(AnswerPart.ts) == ts)
        here = col(Answer.id).in_(select(AnswerPart.answer_id).where(*where))
        return await self._answered(here, col(Answer.question_id).not_in(select(Duel.question_id)))

    async def draft_stands(self, question_id: str, ts: str) -> None:
        """The answer is being written in message `ts`; whoever goes on after a crash goes on there. "" takes it back."""
        async with self.database.writing() as session:
            await session.exec(update(Question).where(col(Question.id) == question_id).values(draft_ts=ts))

    async def is_draft(self, team: str, channel: str, ts: str) -> bool:
        """Whether an answer is being written in this message just now."""
        where = (col(Question.team) == team, col(Question.channel) == channel, col(Question.draft_ts) == ts)
        owed = select(Question.id).where(*where, col(Question.state).in_(OWED)).limit(1)
        async with self.database.reading() as session:
            return (await session.exec(owed)).first() is not None

    async def place_question(self, question_id: str, ts: str) -> None:
        """A question asked by a command got its message: it stands at `ts` and is answered in its thread."""
        async with self.database.writing() as session:
            question = await session.get(Question, question_id)
            if question is None:
                return
            await move_scope(
                session, question.team, scope_of_question(question), scope_of(question.channel, ts)
            )
            question.ts = question.thread_ts = ts
            session.add(question)

    async def note_place(self, question_id: str, kind: str) -> None:
        """What kind of conversation a question was asked in, where its event did not say; as `Question.place`."""
        noted = update(Question).where(col(Question.id) == question_id).values(place=kind)
        await self.database.at_once(lambda connection: connection.execute(noted))

    async def asked_since(self, team: str, since: datetime, *, limit: int = 200) -> list[Question]:
        """The newest question of each thread in which anything was asked since then; the newest first."""
        newest = (
            select(func.max(Question.ts))
            .where(col(Question.team) == team, col(Question.asked_at) >= since)
            .where(col(Question.thread_ts) != "")
            .group_by(col(Question.channel), col(Question.thread_ts))
        )
        wanted = select(Question).where(col(Question.team) == team, col(Question.ts).in_(newest))
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(Question.ts).desc()).limit(limit))).all())

    async def answers_posted_at(self, team: str, channel: str, thread_ts: str) -> set[str]:
        """The messages (ts) of a thread that hold answers or drafts of ours."""
        where = (
            col(Question.team) == team,
            col(Question.channel) == channel,
            col(Question.thread_ts) == thread_ts,
        )
        parts = (
            select(AnswerPart.ts)
            .join(Answer, col(Answer.id) == col(AnswerPart.answer_id))
            .join(Question, col(Question.id) == col(Answer.question_id))
        )
        drafts = select(Question.draft_ts).where(*where, col(Question.draft_ts) != "")
        async with self.database.reading() as session:
            standing = set((await session.exec(parts.where(*where))).all())
            return standing | set((await session.exec(drafts)).all())

    async def _answered(self, *where: object) -> Answered | None:
        wanted = (
            select(Question, Answer, Candidate)
            .join(Answer, col(Answer.question_id) == col(Question.id))
            .join(Candidate, col(Answer.candidate_id) == col(Candidate.id))
            .where(*where)  # type: ignore[arg-type]
        )
        async with self.database.reading() as session:
            row = (await session.exec(wanted)).first()
        return Answered(*row) if row else None

    async def conversation(
        self, team: str, channel: str, thread_ts: str, *, before: str, limit: int = 10
    ) -> list[Message]:
        """The earlier questions and answers of a thread, oldest first, as a model should see them."""
        wanted = (
            select(Question.text, Candidate.text)
            .join(Answer, col(Answer.question_id) == col(Question.id))
            .join(Candidate, col(Answer.candidate_id) == col(Candidate.id))
            .where(
                col(Question.team) == team,
                col(Question.channel) == channel,
                col(Question.thread_ts) == thread_ts,
                col(Question.ts) < before,
                col(Answer.posted_ts).is_not(None),
            )
            .order_by(col(Question.ts).desc())
            .limit(limit)
        )
        async with self.database.reading() as session:
            turns = list((await session.exec(wanted)).all())
        return [
            message
            for asked, replied in reversed(turns)
            for message in (Message("user", asked), Message("assistant", replied))
        ]

    async def knows_thread(self, team: str, channel: str, thread_ts: str) -> bool:
        """Whether a question of this thread was ever asked to the bot."""
        where = (
            col(Question.team) == team,
            col(Question.channel) == channel,
            col(Question.thread_ts) == thread_ts,
        )
        async with self.database.reading() as session:
            return (await session.exec(select(Question.id).where(*where).limit(1))).first() is not None


def _ask(question: Question, connection: Connection) -> Asked:
    if was_forgotten(connection, question.team, MESSAGE, question.channel, question.ts):
        return Asked(_forgotten(question.team, question.channel, question.ts), new=False)
    insert_rows(connection, question)
    return Asked(question, new=True)


def _keep_answer(candidates: Sequence[Candidate], answer: Answer, connection: Connection) -> None:
    insert_rows(connection, *candidates)
    insert_rows(connection, answer)


def _stands(answer_id: str, values: Mapping[str, Any], parts: Sequence[str], connection: Connection) -> None:
    found = connection.execute(_WHERE_IT_STANDS, {"this": answer_id}).first()
    if found is None:
        return
    # The question first, as whoever deletes it begins there: neither waits for the other.
    done = {"state": QuestionState.ANSWERED, "lease_until": None}
    if not touched(connection.execute(_QUESTION, {"this": found.question_id, **done})):
        return  # it was deleted since
    if found.posted_ts is not None:  # it had parts already
        connection.execute(_WITHOUT_PARTS, {"this": answer_id})
    connection.execute(_ANSWER, {"this": answer_id, **values})
    place = {"answer_id": answer_id, "team": found.team, "channel": found.channel}
    rows = [{"id": new_id("part"), **place, "ts": ts, "number": number} for number, ts in enumerate(parts)]
    insert_values(connection, AnswerPart, *rows)


def _claim(question_id: str, worker: str, lease_s: float) -> Update:
    moment = now()
    free = or_(col(Question.lease_until).is_(None), col(Question.lease_until) < moment)
    return (
        update(table_of(Question))
        .where(col(Question.id) == question_id, col(Question.state).in_(OWED), free)
        .values(
            state=QuestionState.ANSWERING,
            claimed_by=worker,
            lease_until=moment + timedelta(seconds=lease_s),
            attempts=col(Question.attempts) + 1,
        )
    )


def _take(question_id: str, claim: Update, connection: Connection) -> Taken | None:
    if touched(connection.execute(claim)) != 1:
        return None
    question = first_row(connection, Question, col(Question.id) == question_id)
    if question is None:
        return None
    team = question.team
    here = (col(ChannelSettings.team) == team, col(ChannelSettings.channel) == question.channel)
    settings = first_row(connection, ChannelSettings, *here)
    asker = (col(Consent.team) == team, col(Consent.person) == question.asker)
    consent = first_row(connection, Consent, *asker)
    return Taken(
        question,
        settings or ChannelSettings(team=team, channel=question.channel),
        asked_for_consent=consent is not None and bool(consent.decided_at or consent.shown_at),
    )


def _forgotten(team: str, channel: str, ts: str) -> Question:
    """What stands for a message that was forgotten. It is in no table."""
    return Question(
        team=team, channel=channel, ts=ts, thread_ts=ts, asker="", text="", state=QuestionState.DROPPED
    )


def candidate_row(question_id: str, proposal: Proposal) -> Candidate:
    """A proposal as it is stored."""
    mean = sum(proposal.logprobs) / len(proposal.logprobs) if proposal.logprobs else None
    return new_row(
        Candidate,
        question_id=question_id,
        kind=proposal.kind,
        model=proposal.model,
        version_id=proposal.version_id,
        text=proposal.text,
        source=proposal.source,
        finish=proposal.finish,
        seconds=proposal.seconds,
        tokens_in=proposal.tokens_in,
        tokens_out=proposal.tokens_out,
        cost_usd=proposal.cost_usd,
        logprob_mean=mean,
        certainty=proposal.certainty,
        features=dict(proposal.features),
        p_good=proposal.p_good,
    )
