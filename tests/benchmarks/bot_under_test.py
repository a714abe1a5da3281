"""A bot in a process of its own, for measuring: prints its address as JSON and runs until it is told to end.

`--without-local` hides the packages of the local extra, as on a small deployment that never installed them.
"""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path


def main() -> None:
    """Start the bot on the embedded defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--without-local", action="store_true")
    asked = parser.parse_args()
    if asked.without_local:
        for name in ("torch", "transformers", "peft", "bitsandbytes", "datasets", "trl"):
            sys.modules[name] = None  # type: ignore[assignment]
    asyncio.run(_serve(asked.data_dir))


async def _serve(data_dir: Path) -> None:
    from bot.app import start
    from bot.settings import Settings

    settings = Settings.read(None, data_dir=data_dir, workspace_port=0)
    bot = await start(settings)
    print(json.dumps({"url": bot.url}), flush=True)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    await bot.stop()


if __name__ == "__main__":
    main()
