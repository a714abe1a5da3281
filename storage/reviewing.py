"""What the store does around review: which candidates wait for it, what somebody decided, and the way back."""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any

from sqlmodel import col, select

from storage import reviewable
from storage.database import Database
from storage.records import Correction, Decision, Review, now
from storage.reviewable import Reviewable, owner_of

APPROVED, EDITED, REJECTED = "approved", "edited", "rejected"
STATES = (APPROVED, EDITED, REJECTED)
PAGE = 2000
COUNTED = 500
"""How many waiting candidates are counted; beyond that there are simply more."""


class Kept(StrEnum):
    """What became of a decision: it is kept; somebody else had decided before; the candidate is not there any more."""

    KEPT = "kept"
    DECIDED = "decided"
    GONE = "gone"


class ReviewStore:
    """Reviews of candidates."""

    database: Database

    async def to_review(self, team: str, *, limit: int = 20, after: str = "") -> list[Reviewable]:
        """Candidates that nobody reviewed, the most valuable first, behind the `place` of another one ("": all)."""
        async with self.database.reading() as session:
            return await reviewable.waiting(session, team, limit=limit, after=after)

    async def reviews_waiting(self, team: str) -> int:
        """How many candidates nobody reviewed, counted up to `COUNTED`."""
        return len(await self.to_review(team, limit=COUNTED))

    async def reviewable(self, team: str, subject: str) -> Reviewable | None:
        """A candidate, reviewed or not; None where it is gone or may not be learned from any more."""
        async with self.database.reading() as session:
            return await reviewable.one(session, team, subject)

    async def review(
        self,
        team: str,
        subject: str,
        key: str,
        state: str,
        by: str,
        question: str = "",
        answer: str = "",
        reason: str = "",
        *,
        only_first: bool = False,
    ) -> Kept:
        """Decide about a candidate: "approved", "edited" (with both texts as they are to be) or "rejected".

        The last decision counts; with `only_first` nothing changes where somebody else has decided already.
        """
        if state not in STATES:
            raise ValueError(f"{state!r} is no decision about a candidate")
        async with self.database.writing(alone=f"review {team} {subject}") as session:
            answer_id, entry_id = await owner_of(session, team, subject)
            if answer_id is None and entry_id is None:
                return Kept.GONE
            known = (await session.exec(_review(team, subject))).first()
            if only_first and known is not None and known.by != by:
                return Kept.DECIDED
            row = known or Review(team=team, subject=subject, state=state, by=by)
            row.answer_id, row.entry_id = answer_id, entry_id
            row.correction_id = (await session.exec(_newest_correction(subject))).first()
            row.key, row.state, row.by, row.reviewed_at = key, state, by, now()
            row.question, row.answer = (question, answer) if state == EDITED else ("", "")
            row.reason = reason
            session.add(row)
            session.add(Decision(team=team, actor=by, action="review", subject=subject, detail=state))
        return Kept.KEPT

    async def take_back_review(self, team: str, subject: str, by: str) -> bool:
        """Take back what this person decided; False where the last decision is somebody else's, or there is none."""
        async with self.database.writing(alone=f"review {team} {subject}") as session:
            known = (await session.exec(_review(team, subject))).first()
            if known is None or known.by != by:
                return False
            await session.delete(known)
            session.add(Decision(team=team, actor=by, action="review", subject=subject, detail="taken back"))
        return True

    async def review_of(self, team: str, subject: str) -> Review | None:
        """What was decided about a candidate."""
        async with self.database.reading() as session:
            found: Review | None = (await session.exec(_review(team, subject))).first()
            return found

    async def reviews(self, team: str) -> AsyncIterator[list[Review]]:
        """Every decision of a workspace, in pages of at most 2,000, ordered by id."""
        last = ""
        while True:
            page = select(Review).where(col(Review.team) == team, col(Review.id) > last)
            async with self.database.reading() as session:
                rows = list((await session.exec(page.order_by(col(Review.id)).limit(PAGE))).all())
            if not rows:
                return
            yield rows
            last = rows[-1].id


def _review(team: str, subject: str) -> Any:
    return select(Review).where(col(Review.team) == team, col(Review.subject) == subject)


def _newest_correction(answer_id: str) -> Any:
    newest = (col(Correction.corrected_at).desc(), col(Correction.id).desc())
    return select(Correction.id).where(col(Correction.answer_id) == answer_id).order_by(*newest).limit(1)
