"""What the bot weighs, and how fast it acknowledges a button while the local model answers and a training runs.

Acknowledgements are timed in this process, from the press to Slack's side having the acknowledgement, over the protocol.
"""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from bot.slack import blocks
from bot.workspace.people import Person
from tests.benchmarks.figure import Figure

PRESSES = 300
PAUSE_S = 0.05
HELP, ADMIN = "C0HELP", "C0ADMIN"
KNOWN = "What can you do?"


def core() -> Iterator[Figure]:
    """Resident memory of a bot without the local extra, after an answer from memory."""
    yield Figure("rss_mb_core", asyncio.run(_core_rss()), "MB", 150, "lower")


def starter() -> Iterator[Figure]:
    """Resident memory with the starter model (bot and worker), and acknowledgements idle and busy."""
    yield from asyncio.run(_starter())


async def _core_rss() -> float:
    async with _bot("--without-local") as (url, process), aiohttp.ClientSession() as http:
        await _asked(Person(url, "U0CLEO", http), KNOWN)
        return round(float(process.memory_info().rss) / 1e6, 1)


async def _starter() -> list[Figure]:
    async with _bot() as (url, process), aiohttp.ClientSession() as http:
        cleo, ann = Person(url, "U0CLEO", http), Person(url, "U0ANN", http)
        await _asked(cleo, "zebra quartz lantern, please tell me everything about it")
        answer = await _asked(cleo, KNOWN)
        family = [process, *process.children(recursive=True)]  # type: ignore[no-untyped-call]
        weight = round(sum(member.memory_info().rss for member in family) / 1e6, 1)
        idle = await _p99_of_presses(cleo, answer)
        await ann.command(ADMIN, "/train")
        await ann.wait_for_message(ADMIN, lambda message: "step" in str(message.get("blocks")), timeout_s=120)
        askers = [asyncio.create_task(_keep_asking(Person(url, who, http))) for who in ("U0BEN", "U0DAN")]
        busy = await _p99_of_presses(cleo, answer)
        for asker in askers:
            asker.cancel()
        await asyncio.gather(*askers, return_exceptions=True)
        await ann.command(ADMIN, "/train", "cancel")
    return [
        Figure("rss_mb_starter", weight, "MB", 1200, "lower"),
        Figure("ack_p99_ms_idle", idle, "ms", 300, "lower"),
        Figure("ack_p99_ms_busy", busy, "ms", 300, "lower"),
    ]


async def _p99_of_presses(person: Person, answer: dict[str, Any]) -> float:
    (row,) = (each for each in answer["blocks"] if each["type"] == "context_actions")
    value = row["elements"][0]["positive_button"]["value"]
    taken = []
    for _ in range(PRESSES):
        since = time.perf_counter()
        await person.click(HELP, answer["ts"], blocks.RATE, value=value)
        taken.append((time.perf_counter() - since) * 1000)
        await asyncio.sleep(PAUSE_S)
    return round(sorted(taken)[int(PRESSES * 0.99) - 1], 1)


async def _keep_asking(person: Person) -> None:
    number = 0
    while True:
        number += 1
        await _asked(person, f"please explain the blue paper lantern number {number} to me at length")


async def _asked(person: Person, question: str) -> dict[str, Any]:
    ts = await person.post(HELP, f"@apprentice {question}")
    return await person.wait_for_message(HELP, _is_answer, thread_ts=ts, timeout_s=120)


def _is_answer(message: dict[str, Any]) -> bool:
    return any(block["type"] == "context_actions" for block in message.get("blocks", []))


@dataclass(frozen=True)
class BotProcess:
    """A bot with its workspace in a process of its own."""

    url: str
    process: psutil.Process
    folder: Path


@contextlib.asynccontextmanager
async def _bot(*options: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    async with bot_in_a_process(*options) as bot:
        yield bot.url, bot.process


@contextlib.asynccontextmanager
async def bot_in_a_process(*options: str) -> AsyncIterator[BotProcess]:
    """`bot_under_test` with these options; it has ended, as told, when this ends."""
    with tempfile.TemporaryDirectory(prefix="apprentice-bench-") as folder:
        command = [sys.executable, "-m", "tests.benchmarks.bot_under_test", folder, *options]
        with subprocess.Popen(  # noqa: ASYNC220 - once, before anything is measured
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            try:
                assert child.stdout is not None
                line = await asyncio.to_thread(child.stdout.readline)
                process = psutil.Process(child.pid)  # type: ignore[no-untyped-call]
                yield BotProcess(json.loads(line)["url"], process, Path(folder))
            finally:
                child.send_signal(signal.SIGTERM)
                await asyncio.to_thread(child.wait, 60)
                await asyncio.to_thread(_no_trainer_left, Path(folder))


def _no_trainer_left(folder: Path) -> None:
    for process in psutil.process_iter(["cmdline"]):  # type: ignore[no-untyped-call]
        if any(str(folder) in part for part in process.info["cmdline"] or []):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(10)
