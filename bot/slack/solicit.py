"""Asks for a rating now and then: a random share of answers, with the chance of each written down, to learn from who is
quiet too. Nobody is asked twice on one day.
"""

from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bot import draws
from bot.slack.blocks import RATE, Block, plain, section
from bot.slack.whisper import Place, whisper
from storage.asking import Answered
from storage.operating import wall_time
from storage.records import ChannelSettings, now
from storage.store import Store

ASK = "Was this answer good? Your vote helps me learn; nobody else sees it. I ask you once a day at most."
SOLICITED = "s"
"""The third part of a thumb's value that tells where it was pressed."""


class Solicitor:
    """Asks some askers what they think of their answer."""

    def __init__(
        self, store: Store, client: AsyncWebClient, *, team: str, rate: float, timezone: str
    ) -> None:
        self._store = store
        self._client = client
        self._team = team
        self._rate = rate
        self._timezone = timezone

    async def chance(self, settings: ChannelSettings) -> float | None:
        """How likely a rating is asked for in such a channel; None where nobody is asked: where nothing is learned, too."""
        if self._rate <= 0 or not settings.feedback or not settings.learning:
            return None
        return self._rate if await self._store.may_learn(self._team, settings.channel) else None

    async def after(self, answered: Answered, chance: float) -> None:
        """An answer was posted, and the chance stored: draw whether its asker is asked. A draw comes out the same again."""
        answer, asker = answered.answer, answered.question.asker
        if draws.share(await self._store.draw_salt(), "solicit", answer.id) >= chance:
            return
        if await self._store.rating_of(answer.id, rater=asker) is not None:
            return
        day = wall_time(now(), self._timezone).partition("T")[0]
        if await self._store.solicit(answer.id, team=self._team, person=asker, probability=chance, day=day):
            place = Place(answered.question.channel, answered.question.thread_ts)
            await whisper(self._client, place, asker, ASK, blocks=request_blocks(answer.id))


def request_blocks(answer_id: str) -> list[Block]:
    """The request, with the two thumbs."""
    thumbs: dict[str, Any] = {
        "type": "feedback_buttons",
        "action_id": RATE,
        "positive_button": {"text": plain("Good answer"), "value": f"{answer_id}:1:{SOLICITED}"},
        "negative_button": {"text": plain("Bad answer"), "value": f"{answer_id}:-1:{SOLICITED}"},
    }
    return [section(ASK), {"type": "context_actions", "elements": [thumbs]}]
