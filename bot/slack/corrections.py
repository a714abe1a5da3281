"""Corrections: the window for the better answer, and what becomes of what is written there.

After a thumbs-down sending it keeps the vote and adds the reason. From "Improve this answer" it is a correction only: it
gives no vote, and a reason is kept with a thumbs-down that was there before.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack import blocks, feedback_blocks, text
from bot.slack.answer_blocks import IMPROVE_ANSWER
from bot.slack.feedback_blocks import About, answer_id_in, correction_view, notice_view, said_in
from bot.slack.whisper import Place, place_of, whisper
from bot.slack.windows import Ack, fill_window, open_window, values_of, written
from storage.asking import Answered
from storage.entries import NewEntry
from storage.store import Store

IMPROVE_TITLE = "Improve this answer"


@dataclass(frozen=True, slots=True)
class Given:
    """What was typed and ticked in the correction window."""

    better: str
    reason: str
    may_train: bool

    @classmethod
    def of(cls, view: Mapping[str, Any]) -> "Given":
        """Read it from a submitted view."""
        values = values_of(view)
        return cls(
            better=str(values.get(blocks.BETTER) or "").strip(),
            reason=str(values.get(blocks.REASON) or ""),
            may_train=bool(values.get(blocks.MAY_TRAIN)),
        )


class Corrections:
    """Opens the window, keeps what it brings."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        *,
        team: str,
        bot_user: str,
        remember: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._client = client
        self._team = team
        self._bot_user = bot_user
        self._remember = remember

    def listen(self, app: AsyncApp) -> None:
        """Register what belongs to corrections."""
        app.action(IMPROVE_ANSWER)(self.improve)
        app.action(feedback_blocks.SAY_WRONG)(self.say_what_was_wrong)
        app.shortcut({"callback_id": blocks.IMPROVE, "type": "message_action"})(self.improve_message)
        app.view(blocks.CORRECTION_VIEW)(self.correct)
        app.view_closed(blocks.CORRECTION_VIEW)(self.closed)

    async def answer_at(self, channel: str, ts: str) -> Answered | None:
        """The answer that a message belongs to. A duel is none: two answers stand there, and nobody may know whose."""
        answered = await self._store.answer_at(self._team, channel, ts)
        if answered is None:
            return None
        duel = await self._store.duel_of(answered.question.id)
        return None if duel is not None and duel.duel.posted_ts == ts else answered

    async def open(self, body: Mapping[str, Any], about: About) -> str:
        """Open the window with what the payload tells; its id, "" where Slack refused. Nothing is read before."""
        message = body.get("message") or {}
        view = correction_view(about, question="", said=said_in(message), agreed=False)
        return await open_window(self._client, body, view)

    async def fill(self, window: str, about: About, person: str) -> bool:
        """Show the question and the whole answer; False where there is no such answer, and the window says so."""
        answered = await self._answered(about)
        if answered is None:
            words = text.GONE if about.answer_id else feedback_blocks.NOT_AN_ANSWER
            await fill_window(self._client, window, notice_view(IMPROVE_TITLE, words))
            return False
        agreed = bool(await self._store.consent(self._team, person))
        question, said = answered.question.text, answered.candidate.text
        await fill_window(
            self._client, window, correction_view(about, question=question, said=said, agreed=agreed)
        )
        return True

    async def _answered(self, about: About) -> Answered | None:
        return await self.find(about.answer_id, about.channel, about.ts)

    async def find(self, answer_id: str, channel: str, ts: str) -> Answered | None:
        """The answer with this id; where "" is known of it, the one that message `ts` belongs to."""
        return await (self._store.answered(answer_id) if answer_id else self.answer_at(channel, ts))

    async def improve(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        """The button below an answer. It is no vote."""
        await ack()
        place = place_of(body)
        await self._open_and_fill(
            body, About(str(action.get("value", "")), place.channel, place.thread_ts), place
        )

    async def say_what_was_wrong(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        """The button that a thumbs-down by reaction gets: a reaction can open no window."""
        await ack()
        place = place_of(body)
        about = About(str(action.get("value", "")), place.channel, place.thread_ts, voted=True)
        await self._open_and_fill(body, about, place)

    async def improve_message(self, ack: Ack, body: dict[str, Any]) -> None:
        """The shortcut in a message's menu, whatever message that is."""
        await ack()
        message, channel = body["message"], str(body["channel"]["id"])
        if message.get("user") != self._bot_user:
            await open_window(self._client, body, notice_view(IMPROVE_TITLE, feedback_blocks.NOT_AN_ANSWER))
            return
        thread_ts = str(message.get("thread_ts") or message["ts"])
        about = About(answer_id_in(message), channel, thread_ts, ts=str(message["ts"]))
        await self._open_and_fill(body, about, Place(channel, thread_ts))

    async def improve_from_home(self, body: Mapping[str, Any], answer_id: str, *, voted: bool) -> None:
        """Open the window about one of the answers that Home lists."""
        await self._open_and_fill(body, About(answer_id, "", voted=voted), Place(""))

    async def _open_and_fill(self, body: Mapping[str, Any], about: About, place: Place) -> None:
        person = body["user"]["id"]
        window = await self.open(body, about)
        if window:
            await self.fill(window, about, person)
        elif place.channel:
            await whisper(self._client, place, person, feedback_blocks.NO_WINDOW)

    async def closed(self, ack: Ack) -> None:
        """The window was closed: the vote stays as it is, and nothing is added."""
        await ack()

    async def correct(self, ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        """The window was sent: keep the reason and the better answer."""
        about, given = About.from_view(view), Given.of(view)
        if not given.better and not (about.voted and given.reason):
            empty = text.CORRECTION_EMPTY if about.voted else feedback_blocks.IMPROVEMENT_EMPTY
            await ack(response_action="errors", errors={blocks.BETTER: empty})
            return
        author = body["user"]["id"]
        if about.channel:
            said = await written(ack, self._keep(about, given, author))
            await whisper(self._client, Place(about.channel, about.thread_ts), author, said)
        else:  # it was opened from Home, where there is no thread to say anything in
            said = await self._keep(about, given, author)
            await ack(response_action="update", view=notice_view(IMPROVE_TITLE, said))

    async def _keep(self, about: About, given: Given, author: str) -> str:
        """Write it down; what its author is told."""
        answered = await self._answered(about)
        if answered is None:
            return text.GONE
        await self._keep_reason(answered, about, given, author)
        if not given.better:
            return text.THANKS
        may_train = given.may_train and await self._agreed(author)
        kept = await self._store.correct(
            answered.answer.id,
            team=self._team,
            author=author,
            text=given.better,
            reason=given.reason,
            may_train=may_train,
        )
        if may_train and await self._store.consent(self._team, answered.question.asker):
            await self._verify(answered.question.text, kept.text, author, answered.answer.id)
        if may_train:
            return text.CORRECTED
        return text.CORRECTED_REFUSED_BEFORE if given.may_train else text.CORRECTED_NOT_TRAINED

    async def _keep_reason(self, answered: Answered, about: About, given: Given, author: str) -> None:
        known = await self._store.rating_of(answered.answer.id, rater=author)
        if about.voted or (given.reason and known is not None and known.value < 0):
            await self._store.rate(
                answered.answer.id,
                team=self._team,
                rater=author,
                value=-1,
                reason=given.reason,
                via="modal",
            )

    async def _agreed(self, author: str) -> bool:
        """The ticked box is a yes of somebody who was never asked; who said no before has to take that back first."""
        decided = await self._store.consent(self._team, author)
        if decided is None:
            await self._store.set_consent(self._team, author, True)
        return decided is not False

    async def _verify(self, question: str, better: str, author: str, answer_id: str) -> None:
        """The better answer is what memory gives from now on."""
        entry = NewEntry(
            question=question, answer=better, source="a correction", author=author, answer_id=answer_id
        )
        await self._store.add_entries(self._team, [entry])
        await self._remember()
