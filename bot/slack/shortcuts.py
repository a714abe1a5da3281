"""The message shortcut *Add to training set*: a message becomes an example when everybody whose words it holds allows it.

Sending the window allows one's own words. A question that somebody asked the bot is covered by their consent; any other
words of somebody else need that person's Allow, in a direct message that quotes what would be kept. A no, general or to
this message, is final and asked for once.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack import shortcut_blocks, text
from bot.slack.corrections import Corrections
from bot.slack.feedback_blocks import answer_id_in, notice_view, said_in
from bot.slack.shortcut_blocks import ANSWER, QUESTION, TOPIC, Chosen, nomination_view
from bot.slack.whisper import Place, whisper
from bot.slack.windows import Ack, fill_window, open_window, tell, values_of, written
from storage.entries import NewEntry
from storage.records import Nomination
from storage.store import Store
from storage.words import clean

SOURCE = "a colleague"


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a message: the question that it answers and who asked the bot that ("" for nobody), the answer."""

    question: str
    asker: str
    answer: str


class Nominations:
    """Proposes messages, asks their authors, keeps what everybody allowed."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        corrections: Corrections,
        *,
        team: str,
        bot_user: str,
        remember: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._client = client
        self._corrections = corrections
        self._team = team
        self._bot_user = bot_user
        self._remember = remember

    def listen(self, app: AsyncApp) -> None:
        """Register what belongs to proposals."""
        app.shortcut({"callback_id": shortcut_blocks.TRAIN_ADD, "type": "message_action"})(self.propose)
        app.view(shortcut_blocks.NOMINATION_VIEW)(self.send)
        app.action(shortcut_blocks.ALLOW)(self.allow)
        app.action(shortcut_blocks.DENY)(self.deny)

    async def propose(self, ack: Ack, body: dict[str, Any]) -> None:
        """The shortcut in a message's menu: the window opens with the message in it, then the question is looked up."""
        await ack()
        message, channel = body["message"], str(body["channel"]["id"])
        ours = message.get("user") == self._bot_user
        if not ours and (message.get("bot_id") or not message.get("user")):
            await open_window(self._client, body, _not_from_a_person())
            return
        chosen = Chosen(
            channel=channel,
            ts=str(message["ts"]),
            thread_ts=str(message.get("thread_ts") or message["ts"]),
            author="" if ours else str(message["user"]),
            answer_id=answer_id_in(message) if ours else "",
        )
        said = clean(
            said_in(message) if ours else text.question_text(message.get("text") or "", self._bot_user)
        )
        view = nomination_view(chosen, question="", answer=said, filled=False)
        window = await open_window(self._client, body, view)
        found = await self._find(chosen, said)
        if found is None:
            await fill_window(self._client, window, _not_from_a_person())
        elif found != Found("", "", said):
            view = nomination_view(chosen, question=found.question, answer=found.answer, filled=True)
            await fill_window(self._client, window, view)

    async def _find(self, chosen: Chosen, said: str) -> Found | None:
        """What the store knows of a message; None for one of ours that is no answer."""
        answered = await self._corrections.find(chosen.answer_id, chosen.channel, chosen.ts)
        if answered is not None:
            return Found(answered.question.text, answered.question.asker, answered.candidate.text)
        if not chosen.author:
            return None
        asked = await self._store.question_at(self._team, chosen.channel, chosen.ts)
        if asked is not None:
            reply = await self._store.answer_to(asked.id)
            posted = reply is not None and reply.answer.posted_ts is not None
            return Found(
                asked.text, asked.asker, reply.candidate.text if reply is not None and posted else ""
            )
        earlier = await self._store.question_before(self._team, chosen.channel, chosen.thread_ts, chosen.ts)
        return Found(earlier.text, earlier.asker, said) if earlier is not None else Found("", "", said)

    async def send(self, ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        """The window was sent."""
        given = {name: str(held or "").strip() for name, held in values_of(view).items()}
        if errors := _errors(view, given):
            await ack(response_action="errors", errors=errors)
            return
        chosen, nominator = Chosen.from_view(view), body["user"]["id"]
        nomination = await written(ack, self._keep(chosen, given, nominator, begun=_begun(view)))
        place = Place(chosen.channel, chosen.thread_ts)
        if isinstance(nomination, str):
            await whisper(self._client, place, nominator, nomination)
        elif nomination.waiting_for:
            await self._ask_authors(nomination)
            said = shortcut_blocks.waiting_for(nomination.waiting_for)
            await whisper(self._client, place, nominator, said)
        elif await self._take(nomination):
            await whisper(self._client, place, nominator, shortcut_blocks.TAKEN)

    async def _keep(
        self, chosen: Chosen, given: Mapping[str, str], nominator: str, *, begun: Mapping[str, str]
    ) -> Nomination | str:
        """The nomination as it is kept, or why it is not."""
        found = await self._find(chosen, begun.get(ANSWER, ""))
        if found is None:
            return shortcut_blocks.NOT_FROM_A_PERSON
        edited = any(given[name] != begun.get(name, "").strip() for name in (QUESTION, ANSWER))
        own = {nominator} if edited else set()
        authors = sorted(({found.asker, chosen.author} | own) - {""})
        refusing = await self._store.refusing(self._team)
        if nominator in authors and nominator in refusing:
            return shortcut_blocks.OWN_REFUSAL
        if refusing.intersection(authors) or await self._store.refused_at(
            self._team, chosen.channel, chosen.ts
        ):
            return shortcut_blocks.NOT_ALLOWED
        consenting = await self._store.consenting(self._team)
        covered = {nominator} | ({found.asker} & consenting - {chosen.author})
        asked_the_bot = await self._store.question_at(self._team, chosen.channel, chosen.ts) is not None
        if asked_the_bot and chosen.author in consenting:
            covered.add(chosen.author)
        return await self._store.nominate(
            Nomination(
                team=self._team,
                channel=chosen.channel,
                ts=chosen.ts,
                nominator=nominator,
                question=given[QUESTION],
                answer=given[ANSWER],
                topic=given.get(TOPIC, ""),
                authors=authors,
                waiting_for=[person for person in authors if person not in covered],
            ),
            thread_ts=chosen.thread_ts,
        )

    async def _ask_authors(self, nomination: Nomination) -> None:
        words, blocks = shortcut_blocks.request(nomination)
        for author in nomination.waiting_for:
            await tell(self._client, author, words, blocks=blocks)

    async def allow(self, ack: Ack, body: dict[str, Any], action: dict[str, Any], respond: Ack) -> None:
        """An author says yes. When everybody did, it becomes an entry."""
        nomination = await self._decided(ack, body, action, respond, self._store.allow_nomination)
        if nomination is None:
            return
        await _answer(respond, shortcut_blocks.ALLOWED_NOW)
        if not nomination.waiting_for and await self._take(nomination):
            await tell(self._client, nomination.nominator, shortcut_blocks.taken_later(nomination))

    async def deny(self, ack: Ack, body: dict[str, Any], action: dict[str, Any], respond: Ack) -> None:
        """An author says no."""
        proposed = await self._store.nomination(str(action.get("value", "")))
        refused = await self._decided(ack, body, action, respond, self._store.refuse_nomination)
        if refused is None or proposed is None:
            return
        await _answer(respond, shortcut_blocks.DENIED_NOW)
        await tell(self._client, refused.nominator, shortcut_blocks.denied_later(proposed))

    async def _decided(
        self,
        ack: Ack,
        body: Mapping[str, Any],
        action: Mapping[str, Any],
        respond: Ack,
        decide: Callable[[str, str], Awaitable[Nomination | None]],
    ) -> Nomination | None:
        """The nomination after this decision; None where there is nothing to do, and the person was told why."""
        person, nomination_id = body["user"]["id"], str(action.get("value", ""))
        before = await self._store.nomination(nomination_id)

        async def deciding() -> Nomination | None:
            mine = before is not None and before.state == "waiting" and person in before.authors
            return await decide(nomination_id, person) if mine else None

        after = await written(ack, deciding())
        if after is not None:
            return after
        if before is not None and person not in before.authors:
            await respond(text=shortcut_blocks.NOT_YOURS, response_type="ephemeral", replace_original=False)
        else:
            await _answer(respond, shortcut_blocks.NO_LONGER)
        return None

    async def _take(self, nomination: Nomination) -> bool:
        """Make it an entry that memory knows; True exactly once. Gone through again after a crash it is the same entry."""
        if nomination.state != "waiting":
            return False
        entry = NewEntry(
            question=nomination.question,
            answer=nomination.answer,
            source=SOURCE,
            topic=nomination.topic,
            nomination_id=nomination.id,
        )
        await self._store.add_entries(self._team, [entry])
        await self._remember()
        return await self._store.nomination_taken(nomination.id)


def _not_from_a_person() -> dict[str, Any]:
    return notice_view(shortcut_blocks.TITLE, shortcut_blocks.NOT_FROM_A_PERSON)


def _begun(view: Mapping[str, Any]) -> dict[str, str]:
    """What the window's inputs held before anybody typed, by action id."""
    elements = [block["element"] for block in view["blocks"] if block["type"] == "input"]
    return {element["action_id"]: str(element.get("initial_value") or "") for element in elements}


def _errors(view: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    complaints = {QUESTION: shortcut_blocks.EMPTY_QUESTION, ANSWER: shortcut_blocks.EMPTY_ANSWER}
    return {
        block["block_id"]: complaints[block["element"]["action_id"]]
        for block in view["blocks"]
        if block["type"] == "input"
        and block["element"]["action_id"] in complaints
        and not given.get(block["element"]["action_id"])
    }


async def _answer(respond: Ack, words: str) -> None:
    await respond(text=words, replace_original=True)
