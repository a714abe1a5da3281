"""Promote, Keep and Roll back: by the buttons of reports and by name. Who may do what is checked here, for every press.

With two approvals (PROMOTION_APPROVALS) the first admin's press is written down and shown, and the second admin's press
promotes; the same person counts once, and any promotion in between makes an approval void. Going back needs one admin only:
when what serves is bad, nobody should have to wait for a colleague. Every decision can be pressed twice without harm.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bot.canaries import Canaries
from bot.errors import PublicError
from bot.serving import Serving
from bot.slack import report_text as words
from bot.slack.report_standing import (
    APPROVE,
    BASE_NAME,
    KEEP,
    approvals_of,
    decision_of,
    promotion_of,
    subject_of,
)
from bot.slack.reports import DECISIONS, Reports
from storage.records import ModelVersion, Promotion, TrainingRun
from storage.store import Store

Ack = Callable[..., Awaitable[Any]]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DecisionRules:
    """Who decides, and how many of them a promotion needs."""

    team: str
    admins: tuple[str, ...]
    approvals: int = 1


@dataclass(frozen=True, slots=True)
class Promoted:
    """It serves; `new` where this very press did it."""

    promotion: Promotion
    new: bool


@dataclass(frozen=True, slots=True)
class OneMore:
    """Written down; another admin has to agree. `again`: this person had approved before."""

    again: bool


class Decisions:
    """What admins decide about models."""

    def __init__(
        self,
        store: Store,
        *,
        serving: Serving,
        reports: Reports,
        rules: DecisionRules,
        canaries: Canaries | None = None,
    ) -> None:
        self._canaries = canaries or Canaries(store, serving, team=rules.team, worker="decisions")
        self._store = store
        self._serving = serving
        self._reports = reports
        self._rules = rules
        # Two presses at the same moment are one after the other: the second one sees what the first one did.
        self._deciding = asyncio.Lock()

    # --- Buttons --------------------------------------------------------------------------------------------

    async def promote(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """The report's Promote button."""
        await self._pressed(ack, body, action, respond, self._promote)

    async def keep(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """The report's Keep button."""
        await self._pressed(ack, body, action, respond, self._keep)

    async def canary(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """The report's Canary button."""
        await self._pressed(ack, body, action, respond, self._canary)

    async def roll_back(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """The Roll back button of a report whose model serves."""
        await self._pressed(ack, body, action, respond, self._roll_back)

    async def _pressed(
        self,
        ack: Ack,
        body: Json,
        action: Json,
        respond: Ack,
        decide: Callable[[str, TrainingRun, ModelVersion], Awaitable[str]],
    ) -> None:
        await ack()
        person = str((body.get("user") or {}).get("id") or "")
        if person not in self._rules.admins:
            await _whisper(respond, words.buttons_for_admins(self._rules.admins))
            return
        run = await self._store.run(str(action.get("value", "")))
        version = await self._store.model(run.version_id or "") if run else None
        if run is None or version is None:
            await _whisper(respond, words.MODEL_GONE if run else words.RUN_GONE)
            return
        try:
            async with self._deciding:
                said = await decide(person, run, version)
        except PublicError as error:
            said = str(error)
        await self._reports.redraw(run)
        if said:
            await _whisper(respond, said)

    async def _promote(self, person: str, run: TrainingRun, version: ModelVersion) -> str:
        if said := await self._decided_already(run):
            return said
        done = await self._try(version, by=person, decision=decision_of(run), reason=run.reason)
        if isinstance(done, OneMore):
            return words.one_more_needed(version.name, again=done.again, admins=len(self._rules.admins))
        return "" if done.new else words.promoted_already(done.promotion)

    async def _keep(self, person: str, run: TrainingRun, _version: ModelVersion) -> str:
        promotion = promotion_of(await self._store.promotions(self._rules.team), run.version_id)
        if promotion is not None:
            return words.too_late_to_keep(promotion)
        if said := await self._decided_already(run):
            return said
        await self._store.decide(team=self._rules.team, actor=person, action=KEEP, subject=run.id)
        return ""

    async def _canary(self, person: str, run: TrainingRun, version: ModelVersion) -> str:
        if said := await self._decided_already(run):
            return said
        _, new = await self._canaries.begin(
            version, by=person, decision=f"run:{run.id}:{uuid.uuid4().hex[:8]}", reason=run.reason
        )
        await self._canaries.tick()
        return words.begun(version.name, self._canaries.rules.share) if new else ""

    async def _decided_already(self, run: TrainingRun) -> str:
        promotion = promotion_of(await self._store.promotions(self._rules.team), run.version_id)
        if promotion is not None:
            return words.promoted_already(promotion)
        kept = await self._store.decision_on(self._rules.team, run.id, (KEEP,))
        return words.kept_already(kept) if kept is not None else ""

    async def _roll_back(self, person: str, _run: TrainingRun, version: ModelVersion) -> str:
        current = await self._store.current(self._rules.team)
        if current is None or current.id != version.id:
            return words.not_serving(version.name, current.name if current else BASE_NAME.lower())
        await self._serving.roll_back(by=person)
        return ""

    # --- By name --------------------------------------------------------------------------------------------

    async def promote_named(
        self, person: str, name: str, version: ModelVersion | None, *, reason: str = "asked for by name"
    ) -> str:
        """`/apprentice promote NAME` (None: the base) by an admin; the receipt. The rule of two holds here too."""
        async with self._deciding:
            newest = await self._store.newest_promotion(self._rules.team)
            if (newest.version_id if newest else None) == (version.id if version else None):
                return words.serves_already(name)
            done = await self._try(version, by=person, decision=f"promote:{uuid.uuid4().hex}", reason=reason)
        await self._show(version)
        if isinstance(done, OneMore):
            return words.one_more_needed(name, again=done.again, admins=len(self._rules.admins))
        return words.from_next_question(name)

    async def canary_named(self, person: str, version: ModelVersion, share: float | None) -> str:
        """`/apprentice promote NAME canary=0.2` by an admin; the receipt. One admin is enough for a share."""
        async with self._deciding:
            canary, _ = await self._canaries.begin(
                version, by=person, share=share, reason="asked for by name"
            )
        await self._canaries.tick()
        await self._show(version)
        return words.begun(version.name, canary.share)

    async def roll_back_named(self, person: str) -> str:
        """`/apprentice rollback` by an admin; the receipt. One admin is enough. A canary that goes on goes first."""
        if (watched := await self._canaries.watched()) is not None:
            version = await self._store.model(watched.version_id or "")
            await self._canaries.take_back(watched, by=person)
            await self._canaries.tick()
            await self._show(version)
            return words.canary_over(version.name if version else "a model that is gone")
        async with self._deciding:
            name = await self._serving.roll_back(by=person)
        await self._show(None)
        return words.again_from_next_question(name)

    async def _show(self, version: ModelVersion | None) -> None:
        run = await self._store.run(version.run_id) if version and version.run_id else None
        await (self._reports.redraw(run) if run else self._reports.catch_up())

    async def _try(
        self, version: ModelVersion | None, *, by: str, decision: str, reason: str
    ) -> Promoted | OneMore:
        """Promote, or write the approval down where more of them are needed."""
        if self._rules.approvals > 1 and (waiting := await self._approve(version, by)):
            return waiting
        promotion, new = await self._serving.promote(version, by=by, decision=decision, reason=reason)
        return Promoted(promotion, new)

    async def _approve(self, version: ModelVersion | None, person: str) -> OneMore | None:
        """None once enough different admins have approved what is asked for."""
        before = {each.actor for each in await self._approvals(version)}
        if person not in before:
            await self._store.decide(
                team=self._rules.team, actor=person, action=APPROVE, subject=subject_of(version)
            )
        if len(await self._approvals(version)) >= self._rules.approvals:
            return None
        return OneMore(again=person in before)

    async def _approvals(self, version: ModelVersion | None) -> list[Any]:
        team = self._rules.team
        decisions = await self._store.decisions(team, limit=DECISIONS)
        found = approvals_of(decisions, await self._store.promotions(team), subject_of(version))
        return [each for each in found if each.actor in self._rules.admins]


async def _whisper(respond: Ack, said: str) -> None:
    await respond(text=said, response_type="ephemeral", replace_original=False)
