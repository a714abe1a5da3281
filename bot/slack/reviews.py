"""Review in Slack: one candidate at a time in a window that goes on to the next at once. For admins and experts.

A candidate stands before one person at a time: who has it is remembered for a while, and the store keeps a first decision
against a second one from elsewhere. A window knows ids only, so it goes on after a restart.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import PublicError
from bot.slack import review_blocks as words
from bot.slack import text
from bot.slack.feedback_blocks import NO_WINDOW, notice_view
from bot.slack.review_blocks import ANSWER, QUESTION, Reviewing
from bot.slack.trouble import UNREACHABLE, reason_of
from bot.slack.windows import Ack, fill_window, open_window, values_of, written
from storage.records import now
from storage.reviewable import Reviewable
from storage.reviewing import APPROVED, EDITED, REJECTED, Kept
from storage.store import Store
from training.guards import kept_out

COMMAND, VERB = "/apprentice", "review"
HELD_S = 900.0
AHEAD = 20

log = structlog.get_logger(__name__)


class Reviewers:
    """Who may review and curate: admins, and the experts whom they named."""

    def __init__(self, store: Store, team: str, admins: Collection[str]) -> None:
        self._store = store
        self._team = team
        self._admins = tuple(admins)

    async def may(self, person: str) -> bool:
        """Whether this person may, now."""
        return person in self._admins or person in await self._store.experts(self._team)

    def refusal(self, command: str) -> str:
        """To who may not: whom to ask."""
        return text.admins_only(command, self._admins)


class Claims:
    """Which candidate stands before whom, for HELD_S at most; a person has one at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    def take(self, subject: str, person: str) -> bool:
        """True if it stands before this person now; what they had before is free then."""
        holder, until = self._held.get(subject, ("", 0.0))
        if holder not in {"", person} and until > self._clock():
            return False
        self.release(person)
        self._held[subject] = (person, self._clock() + HELD_S)
        return True

    def release(self, person: str) -> None:
        """This person looks at nothing any more."""
        self._held = {subject: held for subject, held in self._held.items() if held[0] != person}


@dataclass(frozen=True, slots=True)
class _Decided:
    """What became of a press: what to say of it, whether the review goes on, which candidate it decided about ("": none)."""

    note: str
    moved: bool = True
    subject: str = ""


class Reviews:
    """Opens the window, keeps what is decided in it, shows the next one."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        reviewers: Reviewers,
        *,
        team: str,
        refresh_home: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._client = client
        self._reviewers = reviewers
        self._team = team
        self._refresh_home = refresh_home
        self._claims = Claims()

    def listen(self, app: AsyncApp) -> None:
        """Register what belongs to review. To be called before anybody else listens to the command."""
        app.command(COMMAND, matchers=[_about_review])(self.command)
        app.action(words.HOME_REVIEW)(self.from_home)
        app.view(words.REVIEW_VIEW)(self.approve)
        app.view_closed(words.REVIEW_VIEW)(self.closed)
        app.action(words.REJECT)(self.reject)
        app.action(words.SKIP)(self.skip)
        app.action(words.UNDO)(self.undo)
        app.action(words.MAKE_GOLDEN)(self.make_golden)

    async def command(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """`/apprentice review`"""
        await ack()
        person = str(body["user_id"])
        if not await self._reviewers.may(person):
            await respond(text=self._reviewers.refusal(f"{COMMAND} {VERB}"))
        elif not await self._open(body, person):
            await respond(text=NO_WINDOW)

    async def from_home(self, ack: Ack, body: dict[str, Any]) -> None:
        """The button in an admin's Home."""
        await ack()
        person = str(body["user"]["id"])
        if await self._reviewers.may(person):
            await self._open(body, person)
        else:
            refusal = notice_view(words.TITLE, self._reviewers.refusal(f"{COMMAND} {VERB}"))
            await open_window(self._client, body, refusal)

    async def _open(self, body: Mapping[str, Any], person: str) -> bool:
        window = await open_window(self._client, body, words.loading_view())
        if window:
            start = Reviewing(total=await self._store.reviews_waiting(self._team))
            await fill_window(self._client, window, await self._next(person, start))
        return bool(window)

    async def approve(self, ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        """The window was sent: the candidate is approved with what was changed in it, and the next one stands there."""
        person, reviewing = str(body["user"]["id"]), Reviewing.from_view(view)
        if not await self._reviewers.may(person):
            await ack(response_action="update", view=self._refused())
            return
        if errors := words.errors(view, values_of(view)):
            await ack(response_action="errors", errors=errors)
            return
        decided = await self._approved(person, reviewing, values_of(view))
        await ack(response_action="update", view=await self._following(person, reviewing, decided))

    async def _approved(self, person: str, reviewing: Reviewing, given: Mapping[str, Any]) -> _Decided:
        candidate = await self._store.reviewable(self._team, reviewing.subject)
        if candidate is None:
            return _Decided(words.GONE)
        question, answer = _texts(candidate, given)
        same = (question, answer) == _texts(candidate, {})
        return await self._kept(person, candidate, APPROVED if same else EDITED, question, answer)

    async def reject(self, ack: Ack, body: dict[str, Any]) -> None:
        """The candidate is not to be learned from."""

        async def rejecting(person: str, reviewing: Reviewing) -> _Decided:
            candidate = await self._store.reviewable(self._team, reviewing.subject)
            if candidate is None:
                return _Decided(words.GONE)
            return await self._kept(person, candidate, REJECTED)

        await self._pressed(ack, body, rejecting)

    async def _kept(
        self, person: str, candidate: Reviewable, state: str, question: str = "", answer: str = ""
    ) -> _Decided:
        kept = await self._store.review(
            self._team, candidate.subject, candidate.key, state, person, question, answer, only_first=True
        )
        if kept is Kept.KEPT:
            return _Decided(words.KEPT[state], subject=candidate.subject)
        return _Decided(words.GONE if kept is Kept.GONE else words.DECIDED_BY_OTHER)

    async def skip(self, ack: Ack, body: dict[str, Any]) -> None:
        """Later."""

        async def skipping(_person: str, _reviewing: Reviewing) -> _Decided:
            return _Decided(words.SKIPPED)

        await self._pressed(ack, body, skipping)

    async def make_golden(self, ack: Ack, body: dict[str, Any]) -> None:
        """Every model is to be measured by it, if a second person agrees."""

        async def proposing(person: str, reviewing: Reviewing) -> _Decided:
            candidate = await self._store.reviewable(self._team, reviewing.subject)
            if candidate is None:
                return _Decided(words.GONE)
            question, answer = _texts(candidate, values_of(body["view"]))
            changed = (question, answer) != _texts(candidate, {})
            try:
                await self._store.propose_golden(
                    self._team,
                    question,
                    answer,
                    candidate.topic,
                    candidate.source,
                    person,
                    subject=candidate.subject,
                    authors=(*candidate.authors, person) if changed else candidate.authors,
                )
            except PublicError as error:
                return _Decided(str(error), moved=False)
            return _Decided(words.PROPOSED_GOLDEN)

        await self._pressed(ack, body, proposing)

    async def undo(self, ack: Ack, body: dict[str, Any]) -> None:
        """The last decision is taken back, and its candidate stands there again."""
        person, reviewing = str(body["user"]["id"]), Reviewing.from_view(body["view"])
        if not await self._reviewers.may(person):
            await ack()
            await self._show(body, self._refused())
            return
        last = reviewing.last
        taken_back = await written(ack, self._store.take_back_review(self._team, last, person))
        candidate = await self._store.reviewable(self._team, last) if taken_back else None
        before = replace(reviewing, last="", decided=max(0, reviewing.decided - taken_back))
        if candidate is None:
            await self._show(body, await self._again(person, before, words.NOT_TAKEN_BACK))
            return
        self._claims.take(candidate.subject, person)
        step = -1 if reviewing.subject else 0
        view = await self._window(candidate, before.at(candidate, step=step), words.TAKEN_BACK)
        await self._show(body, view)

    async def closed(self, ack: Ack, body: dict[str, Any]) -> None:
        """The window was closed: what stood in it is free for others."""
        await ack()
        person = str(body["user"]["id"])
        self._claims.release(person)
        await self._refresh_home(person)

    # --- What stands there next -----------------------------------------------------------------------------

    async def _pressed(
        self,
        ack: Ack,
        body: Mapping[str, Any],
        decide: Callable[[str, Reviewing], Awaitable[_Decided]],
    ) -> None:
        """A button was pressed: decide, then show what follows."""
        person, reviewing = str(body["user"]["id"]), Reviewing.from_view(body["view"])
        if not await self._reviewers.may(person):
            await ack()
            await self._show(body, self._refused())
            return

        async def deciding() -> _Decided:
            return await decide(person, reviewing)

        decided = await written(ack, deciding())
        await self._show(body, await self._following(person, reviewing, decided))

    async def _following(self, person: str, reviewing: Reviewing, decided: _Decided) -> dict[str, Any]:
        """The window after a press."""
        if not decided.moved:
            return await self._again(person, reviewing, decided.note)
        if decided.subject:
            reviewing = replace(reviewing, last=decided.subject, decided=reviewing.decided + 1)
        return await self._next(person, reviewing, note=decided.note)

    async def _again(self, person: str, reviewing: Reviewing, note: str) -> dict[str, Any]:
        """The same candidate once more, or the next one where it is gone."""
        candidate = await self._store.reviewable(self._team, reviewing.subject)
        if candidate is None:
            return await self._next(person, reviewing, note=note)
        return await self._window(candidate, reviewing, note)

    async def _window(self, candidate: Reviewable, reviewing: Reviewing, note: str) -> dict[str, Any]:
        """A candidate, with a word of warning where it is kept out of learning for now."""
        quarantine = await self._store.quarantined(self._team)
        warning = kept_out(candidate.topic, "", candidate.authors, quarantine, key=candidate.key)
        return words.review_view(candidate, reviewing, now=now(), note=note, warning=warning)

    async def _next(self, person: str, reviewing: Reviewing, *, note: str = "") -> dict[str, Any]:
        """The window with the next candidate that stands before nobody else, or with what to say at the end."""
        place, others = reviewing.place, False
        while page := await self._store.to_review(self._team, limit=AHEAD, after=place):
            for candidate in page:
                if self._claims.take(candidate.subject, person):
                    return await self._window(candidate, reviewing.at(candidate, step=1), note)
            place, others = page[-1].place, True
        self._claims.release(person)
        ended = replace(reviewing, subject="", number=reviewing.number)
        return words.end_view(ended, words.OTHERS_LEFT if others else words.ALL_DONE, note=note)

    async def _show(self, body: Mapping[str, Any], view: dict[str, Any]) -> None:
        """Replace what the person pressed in. A window that was closed, or shows something newer, stays as it is."""
        pressed = body["view"]
        try:
            await self._client.views_update(view_id=pressed["id"], hash=pressed["hash"], view=view)
        except (SlackApiError, *UNREACHABLE) as error:
            log.info("a review was not shown", error=reason_of(error))

    def _refused(self) -> dict[str, Any]:
        return notice_view(words.TITLE, self._reviewers.refusal(f"{COMMAND} {VERB}"))


def _texts(candidate: Reviewable, given: Mapping[str, Any]) -> tuple[str, str]:
    """Question and answer as they stand in the window; what was too long for an input is as it was."""
    question = given.get(QUESTION, candidate.question) or ""
    answer = given.get(ANSWER, candidate.answer) or ""
    return str(question).strip(), str(answer).strip()


async def _about_review(body: dict[str, Any]) -> bool:
    parts = (body.get("text") or "").split()
    return bool(parts) and parts[0].lower() == VERB
