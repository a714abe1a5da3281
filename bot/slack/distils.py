"""`/apprentice distil`: an API model's answers for the local one to learn; its end is told in the admin channel."""

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.distilling import Distilling, read_wish
from bot.distilling_words import end_line, plural, quote_lines, status_line
from bot.slack.blocks import section
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.records import Distillation
from storage.store import Store

HELP = (
    "`/apprentice distil [MODEL] [limit=500] [within=5]` says what it would cost to let an API model, or one of its "
    "fine-tunes, answer the questions that nobody of you answered, so that the local model can learn it · then "
    "`distil confirm`, `distil status`, `distil cancel` · `distil drop MODEL` deletes what it said"
)

log = structlog.get_logger(__name__)


class Distils:
    """What admins type, and what they are told. Whether somebody is an admin is checked before."""

    def __init__(
        self, store: Store, client: AsyncWebClient, distilling: Distilling, *, team: str, channel: str
    ) -> None:
        self._store = store
        self._client = client
        self._distilling = distilling
        self._team = team
        self._channel = channel

    async def carry_out(self, person: str, words: str) -> str:
        """Do what was typed; what to answer. Raises PublicError."""
        verb, _, rest = words.strip().partition(" ")
        match verb.lower():
            case "help":
                return HELP
            case "confirm":
                row = await self._distilling.confirm(by=person)
                return f"{row.teacher} is being asked. The admin channel is told when it is done."
            case "cancel":
                row = await self._distilling.cancel(by=person)
                return (
                    f"Cancelled. {plural(row.answered, 'answer')} of {row.teacher} stay."
                    if row.answered
                    else "Cancelled."
                )
            case "status":
                return status_line(
                    await self._store.newest_distillation(self._team),
                    await self._store.distilled_count(self._team),
                )
            case "drop":
                teacher, gone = await self._distilling.drop(rest.strip(), by=person)
                said = f"{plural(gone, 'answer')} of {teacher} deleted."
                return f"{said} Datasets and models made before keep what they learned."
        row = await self._distilling.quote(read_wish(words), by=person)
        return "\n".join(
            quote_lines(row, confirm="`/apprentice distil confirm`", cancel="`/apprentice distil cancel`")
        )

    async def tick(self) -> None:
        """Tell of those that ended."""
        if not self._channel:
            return
        for row in await self._store.untold_distillations(self._team):
            await self._tell(row)

    async def _tell(self, row: Distillation) -> None:
        key = (self._team, f"distilled:{row.id}", "end", 0)
        if not await self._store.notice(*key):
            return
        said = f":mortar_board: {end_line(row)}"
        try:
            posted = await self._client.chat_postMessage(
                channel=self._channel, text=said, blocks=[section(said)]
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("the end of a distillation was not told", error=reason_of(error))
            await self._store.unnoticed(*key)
            return
        await self._store.noticed(*key, str(posted["ts"]))
        await self._store.told_distillation(row.id, str(posted["ts"]))
