"""What is held of one person, and how it is forgotten: rows deleted in short transactions, quotes cut, ids renamed.

Forgetting is work that a row stands for (`Forgetting`): asked for once, claimed with a lease, gone on with after a crash.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, or_, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.entries import PAGE, question_hash, stamp_entries
from storage.feedback import consent_row
from storage.forgetting_rows import (
    KINDS,
    Quotes,
    delete_some,
    held,
    known_as,
    person_digest,
    pseudonym,
    rename,
    step_back,
    without_rows,
    without_words,
)
from storage.records import (
    Answer,
    Candidate,
    Correction,
    DatasetVersion,
    Decision,
    Entry,
    Evaluation,
    Forgetting,
    ForgettingState,
    Nomination,
    Question,
    Record,
    now,
)
from storage.tombstones import TombstoneStore

__all__ = ["ForgettingStore", "HeldWords", "Holdings", "Quotes", "pseudonym", "without_words"]


@dataclass(frozen=True, slots=True)
class Holdings:
    """How many rows hold a person's words or votes."""

    questions: int
    ratings: int
    corrections: int
    entries: int
    consent: bool | None


@dataclass(frozen=True, slots=True)
class HeldWords:
    """What may have gone elsewhere: hashes of questions, ids of answers and entries, and texts that may be quoted."""

    keys: frozenset[str]
    subjects: frozenset[str]
    quotes: Quotes


class ForgettingStore(TombstoneStore):
    """Everything of one person."""

    async def holdings(self, team: str, person: str) -> Holdings:
        """What is held of a person."""
        async with self.database.reading() as session:
            return await _holdings(session, team, person)

    async def held_words(self, team: str, person: str) -> dict[str, list[dict[str, Any]]]:
        """Everything a person wrote or voted, and what was answered to them, the oldest first (ids, texts, times)."""
        asked = select(Question.id).where(col(Question.team) == team, col(Question.asker) == person)
        answers = select(Answer, Candidate).join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
        found: dict[str, list[dict[str, Any]]] = {}
        async with self.database.reading() as session:
            for name, (record, where) in held(team, person).items():
                rows = (await session.exec(select(record).where(where).order_by(*_in_time(record)))).all()
                found[name] = [row.model_dump(mode="json") for row in rows]
            theirs = answers.where(col(Answer.question_id).in_(asked)).order_by(*_in_time(Answer))
            answered = (await session.exec(theirs)).all()
            found["answers"] = [
                {**answer.model_dump(mode="json"), "text": said.text, "model": said.model}
                for answer, said in answered
            ]
        return found

    async def forget(self, team: str, person: str) -> Holdings:
        """Delete every row that holds a person's words or votes, at once; returns what was deleted.

        What others said about this person's questions goes with the questions. Others' answers in the same threads stay,
        without the history that quoted them.
        """
        before = await self.holdings(team, person)
        await self.cut_quotes(team, await self.quotable_words(team, person))
        await self.forget_rows(team, person)
        await self.forget_identity(team, person)
        return before

    # --- Its rows -------------------------------------------------------------------------------------------

    async def words_elsewhere(self, team: str, person: str) -> HeldWords:
        """Tells copies of a person's words in files and sheets from those of others. Only before their rows are gone."""
        keys, subjects = set[str](), set[str]()
        answered: Any = select(Question.text, Answer.id).join(
            Answer, col(Answer.question_id) == col(Question.id)
        )
        corrected = select(Correction.answer_id).where(
            col(Correction.team) == team, col(Correction.author) == person
        )
        theirs = or_(col(Question.asker) == person, col(Answer.id).in_(corrected))
        record, where = held(team, person)["entries"]
        async with self.database.reading() as session:
            for text, answer_id in (
                await session.exec(answered.where(col(Question.team) == team, theirs))
            ).all():
                keys.add(question_hash(text))
                subjects.add(answer_id)
            entries: Any = select(record.question_hash, record.id).where(where)
            for key, entry_id in (await session.exec(entries)).all():
                keys.add(key)
                subjects.add(entry_id)
        return HeldWords(frozenset(keys), frozenset(subjects), await self.quotable_words(team, person))

    async def quotable_words(self, team: str, person: str) -> Quotes:
        """The texts of a person that others may have been shown: verified answers, corrections, what was proposed."""
        words: set[str] = set()
        places = held(team, person)
        wanted: Any = (
            (Entry, "entries", ("question", "answer")),
            (Correction, "corrections", ("text",)),
            (Nomination, "nominations", ("question", "answer")),
        )
        async with self.database.reading() as session:
            for record, name, columns in wanted:
                rows: Any = select(*(getattr(record, column) for column in columns)).where(places[name][1])
                for row in (await session.exec(rows)).all():
                    words.update([row] if isinstance(row, str) else row)
        return Quotes(words - {""})

    async def cut_quotes(self, team: str, quotes: Quotes) -> int:
        """Cut these texts out of what models were shown, and delete answers to others that quote them; how many rows."""
        if not quotes:
            return 0
        changed, last = 0, ""
        columns: Any = (Answer.id, Answer.messages, Candidate.text)
        joined = select(*columns).join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
        while True:
            page = joined.where(col(Answer.team) == team, col(Answer.id) > last).order_by(col(Answer.id))
            async with self.database.reading() as session:
                rows = (await session.exec(page.limit(PAGE))).all()
            if not rows:
                return changed
            last = rows[-1][0]
            gone = [answer_id for answer_id, _, said in rows if quotes.are_in(said)]
            kept = {
                answer_id: without_words(messages, quotes)
                for answer_id, messages, _ in rows
                if any(quotes.are_in(turn["content"]) for turn in messages[:-1])
            }
            changed += await self._cut(gone, {each: kept[each] for each in kept if each not in gone})

    async def _cut(self, gone: Collection[str], kept: Mapping[str, Any]) -> int:
        if not gone and not kept:
            return 0
        async with self.database.writing() as session:
            said = select(Answer.candidate_id).where(col(Answer.id).in_(gone))
            await session.exec(
                delete(Candidate).where(col(Candidate.id).in_(said))
            )  # its answer goes with it
            for answer_id, messages in kept.items():
                await session.exec(
                    update(Answer).where(col(Answer.id) == answer_id).values(messages=messages)
                )
        return len(gone) + len(kept)

    async def forget_rows(self, team: str, person: str, *, work: str = "") -> None:
        """Delete all that is theirs, kind by kind, in transactions short enough that others write in between.

        With `work`, the id of a `Forgetting`, what was deleted is counted there, in the same transaction.
        """
        key = await self.identity_key(team)
        for kind in KINDS:
            while await self._forget_some(team, person, kind, key, work):
                pass

    async def _forget_some(self, team: str, person: str, kind: str, key: bytes, work: str) -> int:
        async with self.database.writing(alone=f"entries {team}") as session:
            gone = await delete_some(session, team, person, kind, key)
            if gone and kind == "entries":
                await stamp_entries(session, team, erased=True)
            await _count(session, work, {kind: gone})
        return gone

    async def forget_identity(self, team: str, person: str, *, work: str = "") -> None:
        """What we know them by goes; where their id stands in rows that stay, a pseudonym takes its place."""
        marked = person_digest(await self.identity_key(team), person)
        async with self.database.writing(alone=f"entries {team}") as session:
            gone: Counter[str] = Counter()
            for name, (record, where) in known_as(team, person).items():
                gone[name] = _touched(await session.exec(delete(record).where(where)))
            await step_back(session, team, person)
            await session.flush()
            gone["renamed"] = await rename(session, team, person, pseudonym(marked))
            await _count(session, work, gone)

    async def erase_from_evaluations(self, words: HeldWords) -> int:
        """Take their examples, and answers that quote them, out of every evaluation; how many answers that were."""
        async with self.database.reading() as session:
            ids = list((await session.exec(select(Evaluation.id))).all())
        erased = 0
        for evaluation_id in ids:
            async with self.database.writing(alone=f"evaluation {evaluation_id}") as session:
                row = await session.get(Evaluation, evaluation_id)
                kept = without_rows(row.sheet, is_theirs(words)) if row is not None else None
                if row is None or kept is None:
                    continue
                erased += len(row.sheet["rows"]) - len(kept["rows"])
                row.sheet = kept
                session.add(row)
        return erased

    async def dataset_erased(self, dataset_id: str, count: int) -> None:
        """So many rows were taken out of a frozen dataset."""
        async with self.database.writing() as session:
            more = {"erased": col(DatasetVersion.erased) + count}
            await session.exec(
                update(DatasetVersion).where(col(DatasetVersion.id) == dataset_id).values(**more)
            )

    # --- The work -------------------------------------------------------------------------------------------

    async def ask_to_forget(self, team: str, person: str, *, by: str) -> Forgetting:
        """Write down that somebody is to be forgotten; asked again before it is done it is the same row."""
        marked = person_digest(await self.identity_key(team), person)
        async with self.database.writing(alone=f"forget {team}") as session:
            open_ = (col(Forgetting.team) == team, col(Forgetting.digest) == marked, *_UNFINISHED)
            known = (await session.exec(select(Forgetting).where(*open_))).first()
            if known is not None:
                return known
            row = Forgetting(team=team, person=person, digest=marked, asked_by=by, done={}, undone={})
            session.add(row)
            session.add(Decision(team=team, actor=by, action="forget", subject=row.id))
        return row

    async def forgetting(self, work: str) -> Forgetting | None:
        """One forgetting by its id."""
        async with self.database.reading() as session:
            return await session.get(Forgetting, work)

    async def forgettings(self, team: str, *, limit: int = 20) -> list[Forgetting]:
        """The newest first."""
        wanted = select(Forgetting).where(col(Forgetting.team) == team)
        async with self.database.reading() as session:
            rows = await session.exec(wanted.order_by(col(Forgetting.asked_at).desc()).limit(limit))
            return list(rows.all())

    async def owed_forgettings(self, team: str) -> list[Forgetting]:
        """Those that nobody works at, oldest first."""
        free = or_(col(Forgetting.lease_until).is_(None), col(Forgetting.lease_until) < now())
        wanted = select(Forgetting).where(col(Forgetting.team) == team, free, *_UNFINISHED)
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(Forgetting.asked_at)))).all())

    async def claim_forgetting(self, work: str, *, worker: str, lease_s: float) -> bool:
        """Become, or stay, the one who works at it for `lease_s` seconds."""
        moment = now()
        free = or_(
            col(Forgetting.lease_until).is_(None),
            col(Forgetting.lease_until) < moment,
            col(Forgetting.claimed_by) == worker,
        )
        claim = (
            update(Forgetting)
            .where(col(Forgetting.id) == work, free, *_UNFINISHED)
            .values(claimed_by=worker, lease_until=moment + timedelta(seconds=lease_s))
        )
        async with self.database.writing() as session:
            return _touched(await session.exec(claim)) == 1

    async def let_go_of_forgetting(self, work: str, *, after_s: float = 0.0) -> None:
        """Somebody may take it up again, from `after_s` seconds on."""
        async with self.database.writing() as session:
            until = now() + timedelta(seconds=after_s) if after_s else None
            await session.exec(
                update(Forgetting).where(col(Forgetting.id) == work, *_UNFINISHED).values(lease_until=until)
            )

    async def forgetting_went_on(
        self,
        work: str,
        step: str,
        *,
        done: Mapping[str, Any] | None = None,
        undone: Mapping[str, Any] | None = None,
    ) -> None:
        """What comes next is `step`; numbers in `done` are added to those that stand there, everything else is set."""
        async with self.database.writing(alone=f"forgetting {work}") as session:
            row = await session.get(Forgetting, work)
            if row is None:
                return
            row.step = step
            row.done = _with(row.done, done or {})
            row.undone = {**row.undone, **(undone or {})}
            session.add(row)

    async def untold_forgettings(self, team: str) -> list[Forgetting]:
        """Those that are done and of which admins have not heard."""
        done = (col(Forgetting.state) == ForgettingState.DONE, col(Forgetting.told_at).is_(None))
        wanted = select(Forgetting).where(col(Forgetting.team) == team, *done)
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(Forgetting.asked_at)))).all())

    async def claim_receipt(self, work: str) -> bool:
        """True for the one who tells admins about it."""
        untold = (col(Forgetting.id) == work, col(Forgetting.told_at).is_(None))
        async with self.database.writing() as session:
            return _touched(await session.exec(update(Forgetting).where(*untold).values(told_at=now()))) == 1

    async def receipt_not_given(self, work: str) -> None:
        """It could not be told; somebody tries again."""
        async with self.database.writing() as session:
            await session.exec(update(Forgetting).where(col(Forgetting.id) == work).values(told_at=None))

    async def finish_forgetting(self, work: str) -> bool:
        """It is done and holds the id no more; True for exactly one caller."""
        async with self.database.writing(alone=f"forgetting {work}") as session:
            row = await session.get(Forgetting, work)
            if row is None or row.state is ForgettingState.DONE:
                return False
            if row.asked_by == row.person:
                row.asked_by = pseudonym(row.digest)
            row.person, row.state, row.finished_at, row.lease_until = "", ForgettingState.DONE, now(), None
            session.add(row)
            earlier = (col(Forgetting.team) == row.team, col(Forgetting.digest) == row.digest)
            left = update(Forgetting).where(*earlier, col(Forgetting.state) == ForgettingState.DONE)
            await session.exec(left.values(person=""))
        return True


_UNFINISHED: Any = (col(Forgetting.state) == ForgettingState.ASKED,)


def is_theirs(words: HeldWords) -> Any:
    """Tells whether an answer to an example in an evaluation is about, or quotes, a person's words."""
    known = {key[:length] for key in words.keys for length in (16, 32)}
    return lambda example, text: example in known or words.quotes.are_in(text)


def _with(before: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **before,
        **{
            name: value + before.get(name, 0) if isinstance(value, int) else value
            for name, value in more.items()
        },
    }


async def _count(session: AsyncSession, work: str, gone: Mapping[str, int]) -> None:
    row = await session.get(Forgetting, work) if work else None
    if row is not None:
        row.done = _with(row.done, {name: count for name, count in gone.items() if count})
        session.add(row)


def _in_time(record: type[Record]) -> tuple[Any, ...]:
    """By when a row came about, which is the first time that it tells of besides leases."""
    columns = record.__table__.columns  # type: ignore[attr-defined]
    when = next(each for each in columns if each.name.endswith("_at") or each.name == "since")
    return (when, columns["id"])


def _touched(result: object) -> int:
    return int(getattr(result, "rowcount", 0) or 0)


async def _holdings(session: AsyncSession, team: str, person: str) -> Holdings:
    places = held(team, person)

    async def count(name: str) -> int:
        record, where = places[name]
        return int((await session.exec(select(func.count()).select_from(record).where(where))).one())

    consent = (await session.exec(consent_row(team, person))).first()
    return Holdings(
        questions=await count("questions"),
        ratings=await count("ratings"),
        corrections=await count("corrections"),
        entries=await count("entries"),
        consent=consent.granted if consent and consent.decided_at else None,
    )
