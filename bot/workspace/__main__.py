"""`python -m bot.workspace`: the local workspace alone, for an app that runs elsewhere on this machine."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from bot.errors import PublicError
from bot.workspace.seed import APP_TOKEN, BOT_TOKEN
from bot.workspace.server import LocalWorkspace


def main() -> int:
    """The exit status: 0 after Ctrl-C or SIGTERM, 1 when it could not start."""
    args = _parser().parse_args()
    workspace = LocalWorkspace(port=args.port, state_file=args.state, extra_people=args.extra_people)
    try:
        asyncio.run(_serve(workspace))
    except PublicError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bot.workspace", description="A local stand-in for Slack."
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="port on 127.0.0.1; 0 lets the system choose (8765)"
    )
    parser.add_argument(
        "--state", type=Path, default=None, help="file that keeps everything; none forgets at the end"
    )
    parser.add_argument(
        "--extra-people", type=int, default=0, help="this many more people in the public channels"
    )
    return parser


async def _serve(workspace: LocalWorkspace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await workspace.start()
    try:
        print(f"The local workspace (not Slack) is at {workspace.url}")
        print(
            f"Connect an app: base_url={workspace.url}/api/ bot token {BOT_TOKEN} app token {APP_TOKEN}",
            flush=True,
        )
        await stop.wait()
    finally:
        await workspace.stop()


if __name__ == "__main__":
    sys.exit(main())
