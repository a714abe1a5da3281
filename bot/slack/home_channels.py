"""Settings of channels, changed by admins in Home. Who presses and what comes back is checked here, on the server."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.money_limits import Calendar
from bot.slack import home_blocks, text
from bot.slack.feedback_blocks import notice_view
from bot.slack.home import HomeRules
from bot.slack.windows import Ack, fill_window, open_window, values_of, written
from storage.records import now
from storage.store import Store

SETTINGS = "Channel settings"


class HomeChannels:
    """Opens the window of a channel's settings and keeps what it brings."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        rules: HomeRules,
        *,
        refresh: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._client = client
        self._rules = rules
        self._refresh = refresh

    def listen(self, app: AsyncApp) -> None:
        """Register what belongs to the channels in Home."""
        app.action(home_blocks.HOME_CHANNEL)(self.choose)
        app.action(home_blocks.HOME_EDIT)(self.edit)
        app.view(home_blocks.CHANNEL_VIEW)(self.save)

    async def choose(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        """A channel was chosen from the menu."""
        await ack()
        channel = action.get("selected_conversation")
        if channel:
            await self._open(body, str(channel))

    async def edit(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        """The button beside a channel that has settings."""
        await ack()
        await self._open(body, str(action.get("value", "")))

    async def _open(self, body: Mapping[str, Any], channel: str) -> None:
        if body["user"]["id"] not in self._rules.admins:
            refusal = text.admins_only(SETTINGS, self._rules.admins)
            await open_window(self._client, body, notice_view(SETTINGS, refusal))
            return
        window = await open_window(self._client, body, home_blocks.loading_view())
        row = await self._store.channel_settings(self._rules.team, channel)
        since = Calendar(self._rules.timezone).month(now())
        view = home_blocks.channel_view(
            row,
            policy=self._rules.policy,
            policies=self._rules.policies,
            most_usd=self._rules.budgets.channel_month_usd,
            spent_usd=(await self._store.spent(self._rules.team, since, channel)).usd,
        )
        await fill_window(self._client, window, view)

    async def save(self, ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        """The window was sent: all of it holds, or each wrong input says why."""
        person, given = body["user"]["id"], values_of(view)
        errors = self._errors(person, given)
        if errors:
            await ack(response_action="errors", errors=errors)
            return
        channel = str(json.loads(view["private_metadata"])["channel"])
        switches = given.get(home_blocks.SWITCHES) or []
        policy = str(given[home_blocks.POLICY])
        saving = self._store.set_channel(
            self._rules.team,
            channel,
            by=person,
            instructions=str(given.get(home_blocks.INSTRUCTIONS) or "").strip(),
            policy="" if policy == home_blocks.AS_THE_WORKSPACE else policy,
            duel_rate=float(given[home_blocks.DUEL_RATE]),
            budget_month_usd=home_blocks.read_budget(str(given.get(home_blocks.BUDGET) or "")),
            feedback=home_blocks.FEEDBACK in switches,
            follow_ups=home_blocks.FOLLOW_UPS in switches,
            learning=home_blocks.LEARNING in switches,
        )
        await written(ack, saving)
        await self._refresh(person)

    def _errors(self, person: str, given: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong, by the input it is wrong with."""
        if person not in self._rules.admins:
            return {home_blocks.INSTRUCTIONS: text.admins_only(SETTINGS, self._rules.admins)}
        errors = {}
        if len(str(given.get(home_blocks.INSTRUCTIONS) or "")) > home_blocks.INSTRUCTIONS_LIMIT:
            errors[home_blocks.INSTRUCTIONS] = home_blocks.TOO_LONG
        if given.get(home_blocks.POLICY) not in {home_blocks.AS_THE_WORKSPACE, *self._rules.policies}:
            errors[home_blocks.POLICY] = home_blocks.NO_SUCH_POLICY
        if given.get(home_blocks.DUEL_RATE) not in home_blocks.DUEL_RATES:
            errors[home_blocks.DUEL_RATE] = home_blocks.NO_SUCH_RATE
        try:
            home_blocks.read_budget(str(given.get(home_blocks.BUDGET) or ""))
        except ValueError:
            errors[home_blocks.BUDGET] = home_blocks.NO_SUCH_BUDGET
        return errors
