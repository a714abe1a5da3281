"""What people say about answers and may see of themselves: built once, registered in one call."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.privacy import Privacy
from bot.slack.consent import Consents
from bot.slack.corrections import Corrections
from bot.slack.feedback import Feedback
from bot.slack.goldens import Goldens
from bot.slack.home import Home, HomeRules
from bot.slack.home_channels import HomeChannels
from bot.slack.reviews import Reviewers, Reviews
from bot.slack.shortcuts import Nominations
from storage.store import Store


@dataclass(frozen=True, slots=True)
class People:
    """Ratings, corrections, consent, proposals, review, Home."""

    feedback: Feedback
    corrections: Corrections
    consents: Consents
    nominations: Nominations
    reviews: Reviews
    goldens: Goldens
    home: Home
    channels: HomeChannels

    @classmethod
    def build(
        cls,
        store: Store,
        client: AsyncWebClient,
        privacy: Privacy,
        rules: HomeRules,
        *,
        bot_user: str,
        remember: Callable[[], Awaitable[None]],
    ) -> Self:
        """`remember` lets memory take over what changed in the store."""
        team = rules.team
        corrections = Corrections(store, client, team=team, bot_user=bot_user, remember=remember)
        home = Home(store, client, corrections, rules)
        reviewers = Reviewers(store, team, rules.admins)
        return cls(
            feedback=Feedback(store, client, corrections, team=team, bot_user=bot_user),
            corrections=corrections,
            consents=Consents(
                store, client, privacy, team=team, remember=remember, refresh_home=home.refresh
            ),
            nominations=Nominations(
                store, client, corrections, team=team, bot_user=bot_user, remember=remember
            ),
            reviews=Reviews(store, client, reviewers, team=team, refresh_home=home.refresh),
            goldens=Goldens(store, reviewers, team=team),
            home=home,
            channels=HomeChannels(store, client, rules, refresh=home.refresh),
        )

    def listen(self, app: AsyncApp) -> None:
        """Register everything. To be called before the listeners of commands: `/apprentice privacy` is ours."""
        for each in (
            self.feedback,
            self.corrections,
            self.consents,
            self.nominations,
            self.reviews,
            self.goldens,
            self.home,
            self.channels,
        ):
            each.listen(app)
