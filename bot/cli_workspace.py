"""`apprentice workspace`: the local workspace alone, for any Slack app in any language on this machine."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot import cli_options as options
from bot.cli_options import ExitCode
from bot.cli_show import say, tell

if TYPE_CHECKING:
    from bot.workspace import LocalWorkspace

MAX_EXTRA_PEOPLE = 5000


def workspace(
    port: Annotated[
        int, typer.Option("--port", help="Port on 127.0.0.1; 0 lets the system choose.", min=0, max=65535)
    ] = 8765,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="Your app's manifest (YAML or JSON): its scopes, events, commands and shortcuts hold. "
            "Without one the app may do everything.",
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="FILE", help="Keep everything in this file; forget it at the end."),
    ] = None,
    request_url: Annotated[
        str | None,
        typer.Option(
            "--request-url",
            metavar="URL",
            help="Deliver by signed HTTP requests to this address instead of Socket Mode.",
        ),
    ] = None,
    signing_secret: Annotated[
        str | None,
        typer.Option("--signing-secret", metavar="SECRET", help="What those requests are signed with."),
    ] = None,
    extra_people: Annotated[
        int, typer.Option("--extra-people", help="This many more people.", min=0, max=MAX_EXTRA_PEOPLE)
    ] = 0,
    rate_limits: Annotated[
        bool, typer.Option("--rate-limits", help="Answer 429 where Slack's tiers would.")
    ] = False,
) -> None:
    """Start a local workspace, without the bot: a stand-in for Slack that any Slack app can talk to.

    It prints the address of its page and what your app needs to connect. It is not Slack, listens on this machine only,
    and stops on Ctrl-C or SIGTERM.

    \b
    Example: apprentice workspace --port 3000 --manifest manifest.json
    """
    from bot import logs
    from bot.workspace import LocalWorkspace
    from bot.workspace.manifest import read_manifest

    logs.set_up("WARNING", "auto")
    made = LocalWorkspace(
        port=port,
        state_file=state,
        manifest=read_manifest(manifest) if manifest is not None else None,
        request_url=request_url,
        signing_secret=signing_secret,
        extra_people=extra_people,
        rate_limits=rate_limits,
    )
    options.carry_out(_serve(made, signing_secret))


async def _serve(workspace: "LocalWorkspace", signing_secret: str | None) -> ExitCode:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await workspace.start()
    try:
        tell(_how_to_connect(workspace.url, signing_secret))
        say("Open that address in your browser to see the page. Ctrl-C stops the workspace.")
        await stop.wait()
    finally:
        await workspace.stop()
    return ExitCode.DONE


def _how_to_connect(url: str, signing_secret: str | None) -> str:
    from bot.workspace.seed import APP_TOKEN, BOT_TOKEN, CLIENT_ID, CLIENT_SECRET

    secret = [f"  SLACK_SIGNING_SECRET={signing_secret}"] if signing_secret else []
    lines = [
        f"The local workspace (not Slack) is at {url}",
        "For your app's environment:",
        f"  SLACK_BOT_TOKEN={BOT_TOKEN}",
        f"  SLACK_APP_TOKEN={APP_TOKEN}",
        *secret,
        f"  SLACK_API_URL={url}/api/",
        "Python: AsyncWebClient(token, base_url=SLACK_API_URL). Node: clientOptions: { slackApiUrl: SLACK_API_URL }.",
        "Java: slackConfig.setMethodsEndpointUrlPrefix(SLACK_API_URL).",
        f"OAuth: {url}/oauth/v2/authorize with client_id {CLIENT_ID} and client_secret {CLIENT_SECRET}.",
    ]
    return "\n".join(lines)
