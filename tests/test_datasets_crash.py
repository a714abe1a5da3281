"""A freeze that is killed anywhere leaves nothing that looks like a dataset, the next one works; it takes little memory."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bot_process import ELSEWHERE
from terminal import clean_environment

from storage.store import Store
from tests.benchmarks.conversations import fill
from training.dataset_files import MANIFEST
from training.datasets import verify

ROOT = Path(__file__).parent.parent
KILLS, SEED = 6, 20261123
ROWS, GROWN, MEMORY_MB = 800, 4_800, 40


def freezing(url: str, folder: Path) -> "subprocess.Popen[str]":
    """A process that freezes."""
    command = [sys.executable, "-m", "tests.benchmarks.freeze_child", url, str(folder)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def told(child: "subprocess.Popen[str]") -> dict[str, float | str]:
    """What it said at its end."""
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    found: dict[str, float | str] = json.loads(out.splitlines()[-1])
    return found


async def filled(folder: Path, count: int) -> str:
    """A database with so many conversations, as after the start of a bot."""
    file = f"sqlite:///{folder / f'{count}.sqlite'}"
    url = ELSEWHERE.url(file) or file
    store = await Store.open(url)
    while not (await store.strike_again()).done:
        pass
    await store.close()
    fill(url, count)
    return url


async def test_a_freeze_killed_anywhere_leaves_no_half_dataset(tmp_path: Path) -> None:
    """Six times at a random moment; then the same bytes come out as of a freeze that nobody disturbed."""
    url = await filled(tmp_path, ROWS)
    (tmp_path / "another").mkdir()
    undisturbed = await filled(tmp_path / "another", ROWS)
    since = time.monotonic()
    calm = told(freezing(undisturbed, tmp_path / "calm"))
    takes, draw, folder = time.monotonic() - since, random.Random(SEED), tmp_path / "datasets"
    killed = 0
    for _ in range(KILLS):
        child = freezing(url, folder)
        try:
            child.wait(timeout=draw.uniform(0.4, 1.0) * takes)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            killed += child.wait() == -signal.SIGKILL
        child.communicate()
        for visible in folder.glob("[!.]*"):
            assert (visible / MANIFEST).exists()
            assert verify(visible) == []
    assert killed > 0
    assert told(freezing(url, folder))["id"] == calm["id"]
    assert [each.name for each in folder.iterdir() if each.is_dir()] == [calm["id"]]
    store = await Store.open(url)
    assert [row.id for row in await store.datasets()] == [calm["id"]]
    await store.close()
    calmly, after = tmp_path / "calm" / str(calm["id"]), folder / str(calm["id"])
    for file in calmly.iterdir():
        assert (after / file.name).read_bytes() == file.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_six_times_the_rows_take_hardly_more_memory(tmp_path: Path) -> None:
    """It streams: what grows with the rows is a few dozen bytes each."""
    small = told(freezing(await filled(tmp_path, ROWS), tmp_path / "small"))
    large = told(freezing(await filled(tmp_path, GROWN), tmp_path / "large"))
    assert float(large["peak_mb"]) - float(small["peak_mb"]) < MEMORY_MB
