"""Installing an app by OAuth: allowed on a page, exchanged by the SDK, refused where Slack refuses."""

import re
from collections.abc import AsyncIterator
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.oauth import AuthorizeUrlGenerator
from slack_sdk.web.async_client import AsyncWebClient
from workspace_rig import Rig, running

from bot.workspace import Workspace
from bot.workspace.seed import BOT_TOKEN, CLIENT_ID, CLIENT_SECRET

BACK = "http://127.0.0.1:9/slack/oauth_redirect"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(connect=False) as rig:
        yield rig


async def page(
    rig: Rig, *, scopes: str = "chat:write,commands", client_id: str = CLIENT_ID, back: str = BACK
) -> str:
    """What a person sees who follows the app's install link."""
    generator = AuthorizeUrlGenerator(
        client_id=client_id,
        scopes=scopes.split(","),
        redirect_uri=back,
        authorization_url=f"{rig.workspace.url}/oauth/v2/authorize",
    )
    async with rig.session.get(generator.generate("state-1")) as response:
        return await response.text()


async def allowed(rig: Rig) -> str:
    """The code that the app gets when the person follows Allow."""
    found = re.search(r'data-testid="allow" href="([^"]+)"', await page(rig))
    assert found is not None
    query = parse_qs(urlsplit(unescape(found[1])).query)
    assert query["state"] == ["state-1"]
    return query["code"][0]


def client_of(rig: Rig) -> AsyncWebClient:
    return AsyncWebClient(base_url=f"{rig.workspace.url}/api/", session=rig.session)


async def test_a_code_is_exchanged_once_for_the_bots_token(rig: Rig) -> None:
    """The SDK gets the token, the scopes and the team; the same code a second time is refused."""
    code = await allowed(rig)
    exchange = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "code": code, "redirect_uri": BACK}
    answer = await client_of(rig).oauth_v2_access(**exchange)
    assert (answer["access_token"], answer["scope"]) == (BOT_TOKEN, "chat:write,commands")
    assert answer["team"]["id"] == "T0LOCAL"
    with pytest.raises(SlackApiError, match="code_already_used"):
        await client_of(rig).oauth_v2_access(**exchange)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"client_id": "1.2"}, "invalid_client_id"),
        ({"client_secret": "guess"}, "bad_client_secret"),
        ({"code": "guess"}, "invalid_code"),
        ({"redirect_uri": "http://elsewhere.example/"}, "bad_redirect_uri"),
    ],
)
async def test_a_wrong_exchange_is_refused(rig: Rig, change: dict[str, str], error: str) -> None:
    """Each with Slack's word for it."""
    exchange = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "code": await allowed(rig),
        "redirect_uri": BACK,
    }
    with pytest.raises(SlackApiError, match=error):
        await client_of(rig).oauth_v2_access(**{**exchange, **change})


async def test_a_code_lives_ten_minutes(rig: Rig) -> None:
    """By the workspace's clock."""
    code = await allowed(rig)
    await Workspace(rig.workspace.url, rig.session).advance(601)
    with pytest.raises(SlackApiError, match="invalid_code"):
        await client_of(rig).oauth_v2_access(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, code=code)


async def test_the_page_says_why_it_cannot_be_installed(rig: Rig) -> None:
    """Another client, scopes the manifest does not ask for, an address that is none; what it shows is escaped."""
    assert "client_id is not this app" in await page(rig, client_id="1.2")
    assert "invalid_scope: admin" in await page(rig, scopes="chat:write,admin")
    assert "bad_redirect_uri" in await page(rig, back="javascript:alert(1)")
    assert "<b>" not in await page(rig, scopes="<b>")


async def test_installing_again_ends_an_uninstallation(rig: Rig) -> None:
    """auth.revoke and uninstall shut the app out; a new installation lets it in."""
    assert (await rig.api("auth.revoke", test=True))["revoked"] is False
    assert (await rig.api("auth.revoke"))["revoked"] is True
    assert (await rig.api("auth.test"))["error"] == "account_inactive"
    await client_of(rig).oauth_v2_access(
        client_id=CLIENT_ID, client_secret=CLIENT_SECRET, code=await allowed(rig)
    )
    assert (await rig.api("auth.test"))["ok"]
