"""`apprentice workspace`: what it prints is all that an app needs; what is wrong is said in one sentence."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient
from test_workspace_app import MANIFEST
from workspace_rig import Json

from bot.workspace import Workspace

ROOT = Path(__file__).parent.parent
COMMAND = (sys.executable, "-m", "bot.cli", "workspace")


async def _started(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=ROOT,
        env=dict(os.environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def told(*arguments: str) -> AsyncIterator[dict[str, str]]:
    """A running workspace, and the settings that it prints for an app's environment."""
    process = await _started("--port", "0", *arguments)
    try:
        settings: dict[str, str] = {}
        assert process.stdout is not None
        async with asyncio.timeout(60):
            async for raw in process.stdout:
                name, _, value = raw.decode().strip().partition("=")
                if name.startswith("SLACK_"):
                    settings[name] = value
                if name == "SLACK_API_URL":
                    break
        yield settings
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_what_it_prints_is_enough_for_an_app(tmp_path: Path) -> None:
    """A Bolt app that gets the three printed settings and nothing else answers a mention; the manifest holds."""
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(MANIFEST))
    async with told("--manifest", str(manifest)) as settings:
        app = AsyncApp(
            client=AsyncWebClient(token=settings["SLACK_BOT_TOKEN"], base_url=settings["SLACK_API_URL"])
        )

        @app.event("app_mention")
        async def answer(event: Json, client: AsyncWebClient) -> None:
            await client.chat_postMessage(channel=event["channel"], thread_ts=event["ts"], text="Hello!")

        handler = AsyncSocketModeHandler(app, settings["SLACK_APP_TOKEN"])
        await handler.connect_async()  # type: ignore[no-untyped-call]
        try:
            async with aiohttp.ClientSession() as session:
                control = Workspace(settings["SLACK_API_URL"].removesuffix("/api/"), session)
                asked = await control.person("U0CLEO").post("C0HELP", "@helper hello?")
                await control.wait_for_message(
                    "C0HELP", lambda one: one["text"] == "Hello!", thread_ts=asked, timeout_s=60
                )
                assert [one["command"] for one in (await control.person("U0ANN").state())["commands"]] == [
                    "/help-me"
                ]
        finally:
            await handler.close_async()  # type: ignore[no-untyped-call]


async def test_the_signing_secret_is_printed_where_there_is_one() -> None:
    """With a request URL the app needs the secret too."""
    arguments = ("--request-url", "http://127.0.0.1:9/slack/events", "--signing-secret", "shh")
    async with told(*arguments) as settings:
        assert settings["SLACK_SIGNING_SECRET"] == "shh"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--manifest", "missing.json"), "The manifest missing.json cannot be read"),
        (("--manifest", "pyproject.toml"), "pyproject.toml"),
        (("--request-url", "http://127.0.0.1:9/x"), "needs a signing secret"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence(arguments: tuple[str, ...], words: str) -> None:
    """Exit code 1, no traceback."""
    process = await _started("--port", "0", *arguments)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert words in err.decode()
    assert "Traceback" not in err.decode()
