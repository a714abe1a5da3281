"""What admins are told by itself and answer with a button: the note on the legal basis, receipts of forgettings."""

from dataclasses import dataclass
from typing import Self

from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.privacy import Privacy
from bot.slack.decisions import Decisions
from bot.slack.forgettings import Forgettings
from bot.slack.legal_notice import LegalNotice
from storage.store import Store


@dataclass(frozen=True, slots=True)
class AdminNotes:
    """Both, built once."""

    forgettings: Forgettings
    legal: LegalNotice

    @classmethod
    def build(
        cls,
        store: Store,
        client: AsyncWebClient,
        privacy: Privacy,
        decisions: Decisions,
        *,
        team: str,
        channel: str,
        admins: tuple[str, ...],
        on_slack: bool,
    ) -> Self:
        """In the local workspace the legal note is not posted: nothing is waiting for it there."""
        there = channel if on_slack else ""
        return cls(
            Forgettings(store, client, privacy, decisions, team=team, channel=channel, admins=admins),
            LegalNotice(store, client, team=team, channel=there, admins=admins),
        )

    def listen(self, app: AsyncApp) -> None:
        """Register their buttons."""
        self.forgettings.listen(app)
        self.legal.listen(app)

    async def tick(self) -> None:
        """Post what is due."""
        await self.forgettings.tick()
        await self.legal.tick()
