"""A bot in a process of its own, for measuring: prints its address as JSON and runs until it is told to end.

`--without-local` hides the packages of the local extra, as on a small deployment that never installed them. `--people N`
adds N people to the workspace. `--acks FILE` writes, at the end, when Slack's side sent each envelope and how long it
waited for the acknowledgement. `--profile FILE` writes what cProfile saw of the event loop's thread, in its CPU time.
"""

import argparse
import asyncio
import cProfile
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Start the bot on the embedded defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--without-local", action="store_true")
    parser.add_argument("--people", type=int, default=0)
    parser.add_argument("--acks", type=Path)
    parser.add_argument("--profile", type=Path)
    asked = parser.parse_args()
    if asked.without_local:
        for name in ("torch", "transformers", "peft", "bitsandbytes", "datasets", "trl"):
            sys.modules[name] = None  # type: ignore[assignment]
    acks = AckTimes()
    if asked.acks:
        acks.watch()
    profile = cProfile.Profile(time.thread_time)
    if asked.profile:
        profile.enable()
    try:
        asyncio.run(_serve(asked.data_dir, asked.people))
    finally:
        profile.disable()
        if asked.profile:
            profile.dump_stats(asked.profile)
        if asked.acks:
            acks.write(asked.acks)


class AckTimes:
    """How long Slack's side waited for each acknowledgement, from handing the envelope over; None for never."""

    def __init__(self) -> None:
        self.envelopes: dict[str, dict[str, Any]] = {}

    def watch(self) -> None:
        """See every envelope and acknowledgement of the workspaces of this process."""
        from bot.workspace.socket_mode import Connection, SocketHub

        send, acknowledge = Connection.send, SocketHub._acknowledge

        async def sent(connection: Connection, frame: dict[str, Any]) -> bool:
            if envelope_id := frame.get("envelope_id"):
                self._sent(envelope_id, frame)
            return await send(connection, frame)

        def acknowledged(hub: SocketHub, connection: Connection, text: str) -> None:
            self._acknowledged(text)
            acknowledge(hub, connection, text)

        Connection.send = sent  # type: ignore[method-assign]
        SocketHub._acknowledge = acknowledged  # type: ignore[method-assign]

    def _sent(self, envelope_id: str, frame: dict[str, Any]) -> None:
        kind = (frame["payload"].get("event") or frame["payload"]).get("type", frame["type"])
        first = {"kind": kind, "at": time.time(), "since": time.perf_counter(), "ms": None, "sent": 0}
        self.envelopes.setdefault(envelope_id, first)["sent"] += 1

    def _acknowledged(self, text: str) -> None:
        known = self.envelopes.get(json.loads(text).get("envelope_id"))
        if known is not None and known["ms"] is None:
            known["ms"] = (time.perf_counter() - known["since"]) * 1000

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(list(self.envelopes.values())), encoding="utf-8")


async def _serve(data_dir: Path, people: int) -> None:
    from bot import logs
    from bot.app import start
    from bot.settings import Settings

    settings = Settings.read(None, data_dir=data_dir, workspace_port=0)
    logs.set_up(settings.log_level, "text")
    bot = await start(settings, people=people)
    print(json.dumps({"url": bot.url}), flush=True)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    await bot.stop()


if __name__ == "__main__":
    main()
