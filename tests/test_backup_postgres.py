"""The commands of deploy/backup.md for PostgreSQL, run as they are written there: everything comes back."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from databases import TEAM, ask, reply
from postgres import migrated_url, server_programs
from sqlalchemy import func, select
from terminal import clean_environment

from storage.entries import NewEntry
from storage.records import Question
from storage.store import Store

pytestmark = pytest.mark.postgres

GUIDE = Path(__file__).parent.parent / "deploy" / "backup.md"
SHA = "c0ffee" * 10 + "abcd"


def blocks() -> list[str]:
    """What the guide says to type, first to back up, then to restore."""
    section = GUIDE.read_text(encoding="utf-8").partition("## PostgreSQL")[2]
    return re.findall(r"^```\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)


def typed(commands: str, folder: Path, **environment: str) -> str:
    """What was printed when all of it went well, on a terminal that knows the programs; every question is answered yes."""
    path = f"{server_programs()}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    keyboard, side = pty.openpty()
    try:
        os.write(keyboard, b"y\n")
        ended = subprocess.run(
            ["bash", "-euc", commands],
            cwd=folder,
            env={**clean_environment(), "PATH": path, "SAMPLE_DOMAIN": "false", **environment},
            stdin=side,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        os.close(side)
        os.close(keyboard)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


async def lived_in(url: str, data: Path) -> None:
    """A database and a data directory with questions, something in memory, a model and a dataset."""
    store = await Store.open(url)
    for number in range(20):
        await reply(store, await ask(store, asker=f"U{number % 3}", ts=f"{number}.0"))
    await store.add_entries(TEAM, [NewEntry("Where is the key?", "Under the mat.", "")])
    model = data / "models" / SHA
    model.mkdir(parents=True)
    (model / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 100)
    (data / "datasets" / "d1").mkdir(parents=True)
    (data / "datasets" / "d1" / "train.jsonl").write_text('{"id": "1"}\n')
    await store.register_model(
        team=TEAM,
        name="local-1",
        base_model="starter",
        path=str(model),
        sha256=SHA,
        run_id=None,
        dataset_id=None,
        card={},
    )
    await store.close()


async def test_what_the_guide_says_brings_everything_back(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Dumped here, restored there: questions, memory, the model with its file; and writing goes on."""
    url = migrated_url(request.config)
    await lived_in(url, tmp_path / "data")
    back_up, put_back = blocks()
    server = {"PGHOST": parse_qs(urlsplit(url).query)["host"][0], "PGUSER": "tests"}
    typed(back_up, tmp_path, DATABASE_URL=url, **server)
    elsewhere, there = tmp_path / "elsewhere", url.replace(urlsplit(url).path, "/apprentice")
    told = typed(put_back, tmp_path, DATABASE_URL=there, DATA_DIR=str(elsewhere), **server)
    assert "PostgreSQL, " in told
    store = await Store.open(there)
    async with store.database.reading() as session:
        count = (await session.execute(select(func.count()).select_from(Question))).scalar_one()
    assert count == 20
    model = await store.model_named(TEAM, "local-1")
    assert model is not None
    assert (elsewhere / "models" / SHA / "adapter_model.safetensors").read_bytes() == bytes(range(256)) * 100
    assert Path(model.path) == elsewhere / "models" / SHA
    assert (elsewhere / "datasets" / "d1" / "train.jsonl").read_text() == '{"id": "1"}\n'
    await store.add_entries(TEAM, [NewEntry("Where is the cellar?", "Below.", "")])
    await ask(store, ts="after")
    await store.close()
