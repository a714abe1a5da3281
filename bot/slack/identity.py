"""Who we are in the workspace, as Slack says."""

from dataclasses import dataclass

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import PublicError
from bot.slack.access import AUTH_ERRORS
from bot.slack.trouble import reason_of


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are in the workspace."""

    team: str
    bot_user: str


async def identity_of(client: AsyncWebClient) -> Identity:
    """Ask Slack who we are. Raises PublicError where it refuses or cannot be reached."""
    try:
        me = await client.auth_test()
    except SlackApiError as error:
        reason = reason_of(error)
        if reason in AUTH_ERRORS:
            raise PublicError(
                f"Slack refused SLACK_BOT_TOKEN ({reason}). Copy it again from OAuth & Permissions; it starts with xoxb-."
            ) from None
        raise PublicError(f"Slack refused the first call, auth.test ({reason}).") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise PublicError(
            f"Slack cannot be reached at {client.base_url} ({error}). Check the network and SLACK_API_URL."
        ) from None
    return Identity(team=str(me["team_id"]), bot_user=str(me["user_id"]))
