"""Canaries: a new version answers a share of the threads, both sides are watched, and what turns out worse goes back by
itself.

Going back is a change of one row: the promotion that holds was never touched, and every replica reads the row for each
question. Whoever of several replicas looks first decides; the database lets only one of them. Everything is in the store:
a bot that was killed goes on where it stopped.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Protocol

import structlog

from bot.errors import PublicError
from bot.serving import Fallen, Serving, in_canary, thread_of
from storage.canaries import CanaryAnswer
from storage.records import Canary, CanaryState, ModelVersion, RunState, TrainingRun, now
from storage.store import Store
from training.canary import (
    CanaryTerms,
    Course,
    Side,
    Tally,
    ThreadRating,
    compare,
    judge_canary,
    rated_side,
)
from training.refusals import refuses

LEASE_S = 60.0
BY_ITSELF = "the canary's ratings"
BY_SETTING = "the setting PROMOTE"
OWED = timedelta(days=2)
"""The end of a canary that nobody could be told of (nobody served) is told if it is not older than this."""
VERDICT_HOLDS = timedelta(days=2)
"""A verdict that is older begins no canary by itself: who was away should look first."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """What the operator decided: the share of threads, what happens by itself ("ask", "canary", "auto"), and the terms."""

    share: float = 0.2
    promote: str = "ask"
    terms: CanaryTerms = field(default_factory=CanaryTerms)


class Teller(Protocol):
    """Tells the admin channel. Each may be called again with the same: it says everything once. Raises PublicError."""

    async def goes_on(self, canary: Canary, tally: Tally) -> None:
        """How a canary stands."""

    async def ended(self, canary: Canary, tally: Tally) -> str:
        """How it ended, and why; gives where that was said."""

    async def fell(self, fallen: Fallen) -> None:
        """The promoted version cannot answer, and what does."""


class Quiet:
    """Tells nobody: for the terminal, whose bot does."""

    async def goes_on(self, canary: Canary, tally: Tally) -> None:
        """Not here."""

    async def ended(self, canary: Canary, tally: Tally) -> str:
        """Left to a bot that serves."""
        return ""

    async def fell(self, fallen: Fallen) -> None:
        """Not here."""


class Canaries:
    """Begins, counts and ends canaries."""

    def __init__(
        self,
        store: Store,
        serving: Serving,
        *,
        team: str,
        worker: str,
        rules: CanaryRules | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._store = store
        self._serving = serving
        self._team = team
        self._worker = worker
        self._clock = clock
        self.rules = rules or CanaryRules()
        self.teller: Teller = Quiet()
        self._told_of_fall = ""

    # --- What people decide ---------------------------------------------------------------------------------

    async def begin(
        self,
        version: ModelVersion,
        *,
        by: str,
        share: float | None = None,
        decision: str = "",
        reason: str = "",
    ) -> tuple[Canary, bool]:
        """Let a version answer a share of the threads. It is loaded first. (row, whether this call began it)

        Raises PublicError where it serves already, learned from what is forgotten, cannot be loaded, or another one goes on.
        """
        share = self.rules.share if share is None else share
        if not 0 < share <= 0.5:
            raise PublicError(
                f"A canary answers more than 0 and at most 0.5 of the threads, not {share:g}. To let a model answer "
                "everywhere, promote it."
            )
        if version.tainted:
            raise PublicError(
                f"{version.name} {version.tainted}; it cannot become a canary. Train a new one."
            )
        current = await self._store.current(self._team)
        if current is not None and current.id == version.id:
            raise PublicError(f"{version.name} serves already.")
        await self._serving.ready(version)
        against = await self._serving.serves(version.kind)
        canary, new = await self._store.begin_canary(
            team=self._team,
            version_id=version.id,
            against_id=against.id if against else None,
            share=share,
            specification=self.rules.terms.to_json(),
            by=by,
            decision=decision or f"canary:{uuid.uuid4().hex}",
        )
        if new:
            await self._decided(by, "canary", version.name, f"{share:.0%} of the threads. {reason}".strip())
        return canary, new

    async def promote(self, canary: Canary, *, by: str, reason: str = "") -> bool:
        """Let a canary answer everywhere; whether this call ended it. Raises PublicError where it cannot be loaded."""
        version = await self._store.model(canary.version_id or "")
        if version is None:
            raise PublicError("That model is no longer there. `apprentice models` lists what there is.")
        why = reason or canary.reason or "promoted out of its canary"
        await self._serving.promote(version, by=by, decision=f"canary:{canary.id}", reason=why)
        return await self._store.end_canary(canary.id, CanaryState.PROMOTED, by=by, reason=why)

    async def take_back(self, canary: Canary, *, by: str, reason: str = "taken back by hand") -> bool:
        """End a canary: what serves beside it answers every thread again. Whether this call did it."""
        return await self._end(canary, CanaryState.ROLLED_BACK, by=by, reason=reason)

    async def watched(self) -> Canary | None:
        """The canary that goes on."""
        return await self._store.canary(self._team)

    # --- What goes on while nobody asks ---------------------------------------------------------------------

    async def tick(self) -> None:
        """Look once: begin what a verdict asks for, count, decide, tell. What cannot be told is tried again."""
        try:
            if self.rules.promote != "ask":
                await self._begin_by_itself()
            canary = await self._store.canary(self._team)
            if canary is not None and await self._claim(canary):
                await self.look(canary)
            for ended in await self._store.untold_canaries(self._team, now() - OWED):
                if await self._claim(ended):
                    said = await self.teller.ended(ended, Tally.from_json(ended.tally))
                    if said:
                        await self._store.note_on_canary(ended.id, told=said)
            await self._tell_of_fall()
        except PublicError as error:
            log.warning("the canary is behind", why=str(error))

    async def _claim(self, canary: Canary) -> bool:
        return await self._store.claim_canary(canary.id, worker=self._worker, lease_s=LEASE_S)

    async def look(self, canary: Canary) -> None:
        """Count both sides of a canary and do what was agreed."""
        if over := await self._overtaken(canary):
            await self._end(canary, over.state, by=over.by, reason=over.reason)
            return
        tally = await self.count(canary)
        if tally.to_json() != canary.tally:
            await self._store.note_on_canary(canary.id, tally=tally.to_json())
        terms = CanaryTerms.from_json(canary.specification)
        age = (self._clock() - canary.started_at) / timedelta(days=1)
        judged = judge_canary(tally, terms, age_days=age)
        if judged.course is Course.ROLL_BACK:
            await self._end(canary, CanaryState.ROLLED_BACK, by=BY_ITSELF, reason=judged.reason)
        elif judged.course is Course.PASSED:
            await self._passed(canary, judged.reason)
        elif judged.course is Course.TOO_FEW and canary.passed_at is None:
            await self._end(canary, CanaryState.STOPPED, by=BY_ITSELF, reason=judged.reason)
        still = await self._store.canary(self._team)
        if still is not None:
            await self.teller.goes_on(still, tally)

    async def _passed(self, canary: Canary, reason: str) -> None:
        if self.rules.promote == "auto":
            await self.promote(canary, by=BY_SETTING, reason=reason)
        elif canary.passed_at is None:
            await self._store.pass_canary(canary.id, reason)

    async def _overtaken(self, canary: Canary) -> "_Over | None":
        """Why there is nothing to compare any more, where something else was decided meanwhile."""
        version = await self._store.model(canary.version_id or "")
        if version is None:
            return _Over(CanaryState.STOPPED, "its files and its row are gone")
        if version.tainted:
            return _Over(CanaryState.STOPPED, f"it {version.tainted}", "the forgetting")
        promotion = await self._store.newest_promotion(self._team)
        if promotion is not None and promotion.version_id == version.id:
            return _Over(CanaryState.PROMOTED, promotion.reason or "promoted", promotion.by)
        beside = await self._serving.serves(version.kind)
        if (beside.id if beside else None) != canary.against_id:
            return _Over(
                CanaryState.STOPPED,
                "something else was promoted meanwhile, so there is nothing to compare with",
            )
        return None

    async def _end(self, canary: Canary, state: CanaryState, *, by: str, reason: str) -> bool:
        ended = await self._store.end_canary(canary.id, state, by=by, reason=reason)
        if ended:
            version = await self._store.model(canary.version_id or "")
            name = version.name if version else "a model that is gone"
            await self._decided(by, f"canary {state.value}", name, reason)
            log.info("canary ended", version=name, state=state.value, why=reason)
        return ended

    async def _decided(self, by: str, action: str, subject: str, detail: str) -> None:
        await self._store.decide(team=self._team, actor=by, action=action, subject=subject, detail=detail)

    # --- Counting -------------------------------------------------------------------------------------------

    async def count(self, canary: Canary) -> Tally:
        """Both sides as they stand. An answer counts for its side only in a thread that was drawn for that side."""
        salt = await self._store.draw_salt()
        version = await self._store.model(canary.version_id or "")
        kind = version.kind if version is not None else "local"
        answers = [
            (each, drawn)
            for each in await self._store.canary_answers(canary, kind)
            if (drawn := in_canary(salt, canary, thread_of(each.channel, each.thread_ts)))
            == (each.version_id == canary.version_id)
        ]
        ratings = thread_ratings(answers)
        found = compare(ratings)
        ours = replace(_side([each for each, drawn in answers if drawn]), failures=canary.failures)
        theirs = _side([each for each, drawn in answers if not drawn])
        return Tally(
            rated_side(ours, ratings, canary=True),
            rated_side(theirs, ratings, canary=False),
            odds=round(found.odds, 3),
            blocks=found.blocks,
        )

    # --- By itself ------------------------------------------------------------------------------------------

    async def _begin_by_itself(self) -> None:
        """A verdict "promote" that nobody has acted on begins a canary (PROMOTE=canary or auto)."""
        run = await self._promising()
        version = await self._store.model(run.version_id or "") if run else None
        if run is None or version is None or version.tainted:
            return
        if self.rules.share > 0:
            await self.begin(version, by=BY_SETTING, decision=f"run:{run.id}", reason=run.reason)
        elif self.rules.promote == "auto":
            await self._serving.promote(
                version, by=BY_SETTING, decision=f"report:{run.id}", reason=run.reason
            )

    async def _promising(self) -> TrainingRun | None:
        """The newest finished run, if its verdict is to promote and nobody decided about it or anything else since."""
        if await self._store.canary(self._team) is not None:
            return None
        runs = await self._store.runs(self._team, limit=5)
        run = next((each for each in runs if each.state is RunState.DONE), None)
        if run is None or run.outcome != "promote" or run.finished_at is None:
            return None
        if now() - run.finished_at > VERDICT_HOLDS:
            return None
        acted = [each.version_id for each in await self._store.promotions(self._team)]
        acted += [each.version_id for each in await self._store.canaries(self._team)]
        kept = await self._store.decision_on(self._team, run.id, ("keep",))
        evaluation = await self._store.evaluation(run.evaluation_id or "")
        current = await self._store.current(self._team)
        same = evaluation is not None and evaluation.current_id == (current.id if current else None)
        return run if run.version_id not in acted and kept is None and same else None

    async def _tell_of_fall(self) -> None:
        fallen = self._serving.fallen
        if fallen is None:
            self._told_of_fall = ""
        elif self._told_of_fall != fallen.version.id:
            key = f"told-fallen:{fallen.version.id}"
            if await self._store.keepsake(key, lambda: self._worker) == self._worker:
                await self.teller.fell(fallen)
            self._told_of_fall = fallen.version.id


def read_promotion(words: str) -> tuple[str, float | None]:
    """`NAME`, `NAME canary` or `NAME canary=0.2`: the name, and a canary's share (0.0: the usual one; None: no canary)."""
    name, _, rest = words.strip().partition(" ")
    if not rest.strip():
        return name, None
    word, _, value = rest.strip().partition("=")
    try:
        share = float(value or 0)
    except ValueError:
        share = -1.0
    if word != "canary" or share < 0:
        raise PublicError(
            f"I do not understand {rest.strip()!r}. Write `canary` or `canary=0.2` after the name, or nothing."
        )
    return name, share


@dataclass(frozen=True, slots=True)
class _Over:
    state: CanaryState
    reason: str
    by: str = BY_ITSELF


def thread_ratings(answers: Sequence[tuple[CanaryAnswer, bool]]) -> list[ThreadRating]:
    """What each rated thread comes to, in the order in which threads were first rated. Votes within one stand or fall
    together, so that a thread counts once, however many of its answers are rated by however many people."""
    threads: dict[str, list[tuple[CanaryAnswer, bool]]] = {}
    for each, drawn in answers:
        if each.votes:
            threads.setdefault(thread_of(each.channel, each.thread_ts), []).append((each, drawn))
    found = []
    for those in threads.values():
        votes = sorted((vote for each, _ in those for vote in each.votes), key=lambda vote: vote.rated_at)
        liked = sum(vote.value > 0 for vote in votes) / len(votes)
        found.append((votes[0].rated_at, ThreadRating(those[0][1], liked, votes[0].solicited)))
    return [rating for _, rating in sorted(found, key=lambda pair: pair[0])]


def _side(answers: Sequence[CanaryAnswer]) -> Side:
    return Side(
        answers=len(answers),
        empty=sum(not each.text.strip() for each in answers),
        refused=sum(refuses(each.text) for each in answers),
        seconds=round(median(each.seconds for each in answers), 3) if answers else 0.0,
        usd=round(sum(each.cost_usd for each in answers), 6),
    )
