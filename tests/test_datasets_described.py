"""What a dataset says of itself, to people (a card, the terminal, the report) and to programs (Croissant)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from terminal import Terminal, logging_as_it_was
from test_datasets import PEOPLE, bytes_of, fill, frozen

from bot.slack.report_details import _dataset
from storage.store import Store
from training.dataset_files import lines_of, rows_of
from training.datasets import erase, read_manifest

Json = dict[str, Any]


@pytest.fixture
def terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    """A folder with nothing in it, in which the command is run."""
    monkeypatch.chdir(tmp_path)
    with logging_as_it_was():
        yield Terminal(tmp_path, capsys)


async def with_datasets(terminal: Terminal) -> tuple[Path, Path]:
    """A data directory with two datasets, the second without one person."""
    terminal.data.mkdir()
    store = await terminal.store()
    try:
        await store.keepsake("team", lambda: "T1")
        await fill(store)
        first = await frozen(store, terminal.data)
        await store.set_consent("T1", "U3", False)
        return first.path, (await frozen(store, terminal.data)).path
    finally:
        await store.close()


async def test_the_card_is_one_that_the_hub_reads(store: Store, tmp_path: Path) -> None:
    """YAML first, then what somebody must know before they use it, with the numbers of this very dataset."""
    await fill(store)
    made = await frozen(store, tmp_path)
    text = (made.path / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["license"] == "other"
    paths = [file["path"] for config in matter["configs"] for file in config["data_files"]]
    assert all((made.path / path).is_file() for path in paths)
    assert matter["size_categories"] == ["n<1K"]
    for split, count in made.counts.items():
        assert f"| {split} | {count:,} |" in body
    for title in (
        "How it was collected",
        "Consent",
        "What was struck out",
        "Splits",
        "Known limits",
        "Use and licence",
    ):
        assert f"## {title}\n" in body
    assert made.id in body
    assert not re.search(r"\bU\d+\b", body)


async def test_croissant_is_valid_and_reads_the_rows(store: Store, tmp_path: Path) -> None:
    """Its own library finds nothing wrong, checks the hashes and gives the conversations, also after rows went."""
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant (extra dev) is not installed")
    await fill(store)
    made = await frozen(store, tmp_path)
    erase(made.path, authors={"U3"})
    told = json.loads((made.path / "croissant.json").read_text(encoding="utf-8"))
    assert "http://mlcommons.org/croissant/1.1" in told["conformsTo"]
    assert {"rai:dataCollection", "rai:personalSensitiveInformation", "rai:dataLimitations"} <= set(told)
    described = croissant.Dataset(str(made.path / "croissant.json"))
    assert not described.metadata.issues.errors
    (first, *_) = lines_of(made.path / "train.jsonl")
    read = next(iter(described.records("train")))
    assert read["train/id"].decode() == first["id"]
    assert [each.decode() for each in read["train/messages.content"]] == [
        each["content"] for each in first["messages"]
    ]
    assert sum(1 for _ in described.records("preferences")) == len(
        list(lines_of(made.path / "preferences.jsonl"))
    )


async def test_the_report_says_what_changed(store: Store, tmp_path: Path) -> None:
    """In the thread of a run's report, in words."""
    await fill(store)
    first = await store.dataset((await frozen(store, tmp_path)).id)
    await store.set_consent("T1", "U3", False)
    second = await store.dataset((await frozen(store, tmp_path)).id)
    assert first is not None
    assert second is not None
    assert "The first dataset of its kind" in _dataset(first)
    assert re.search(rf"Since dataset {first.id[:12]}: \d+ removed; \d+ as before\.", _dataset(second))


async def test_the_terminal_lists_shows_and_compares(terminal: Terminal) -> None:
    """By the first digits of an id; a dataset that was tampered with is said to be."""
    first, second = await with_datasets(terminal)
    shas = [first.name, second.name]
    listed = await run(terminal, "datasets", "--json")
    assert [row["id"] for row in listed.json] == shas
    table = (await run(terminal, "datasets")).out
    assert all(sha[:12] in table for sha in shas)
    compared = (await run(terminal, "datasets", "diff", shas[0][:8], "newest", "--json")).json
    gone = {row["id"] for row in rows_of(first)} - {row["id"] for row in rows_of(second)}
    assert set(compared["ids"]["removed"]) == gone
    assert "removed" in (await run(terminal, "datasets", "diff", shas[0][:8], shas[1][:8])).out
    shown = await run(terminal, "datasets", "show", "newest")
    assert (shown.code, "Every byte of it is as it was frozen." in shown.out) == (0, True)
    there = second / "train.jsonl"
    there.chmod(0o644)
    there.write_text(there.read_text().replace("Ask", "Bsk", 1))
    assert "train.jsonl is not what was frozen" in (await run(terminal, "datasets", "show", "newest")).err
    terminal.configure(**terminal.settings_elsewhere)
    assert "train.jsonl is not what was frozen" in (await run(terminal, "doctor")).out
    assert (await run(terminal, "datasets", "show", "absent")).code == 1
    assert (await run(terminal, "datasets", "show")).code == 2


async def test_lineage_leads_back_and_forth(terminal: Terminal) -> None:
    """From an answer, its message, its row or a model to everything that holds it; people only where they are asked for."""
    first, second = await with_datasets(terminal)
    store = await terminal.store()
    await store.register_model(
        team="T1",
        name="local-1",
        base_model="starter",
        path="p",
        sha256="s",
        run_id=None,
        dataset_id=first.name,
        card={},
    )
    await store.keep_provider_file(
        team="T1", provider="openai", purpose="sft", dataset_id=second.name, file_id="file-1"
    )
    await store.close()
    subject = next(
        row["subject"]
        for row in rows_of(second)
        if row["subject"] in {row["subject"] for row in rows_of(first)}
    )
    number = int(subject.removeprefix("a_"))
    told: Json = (await run(terminal, "lineage", subject, "--json")).json
    assert [each["dataset"] for each in told["rows"]] == [first.name, second.name]
    assert [each["name"] for each in told["models"]] == ["local-1"]
    assert [each["file"] for each in told["provider_files"]] == ["file-1"]
    assert (told["said"][0]["channel"], told["said"][0]["ts"]) == (f"C{number % 3}", f"{number}.0")
    shown = (await run(terminal, "lineage", subject)).out
    assert not any(re.search(rf"\b{person}\b", shown) for person in PEOPLE)
    assert f"asked by {PEOPLE[number % 10]}" in (await run(terminal, "lineage", subject, "--people")).out
    row = told["rows"][0]["row"]
    for ref in (row, f"C{number % 3}/{number}.0", f"C{number % 3}/9{number}.0"):
        found = (await run(terminal, "lineage", ref, "--json")).json
        assert [each["id"] for each in found["said"]] == [subject], ref
        assert len(found["rows"]) == 2
    model = (await run(terminal, "lineage", "local-1", "--json")).json
    assert (model["models"][0]["name"], model["datasets"]) == ("local-1", [first.name])
    assert (await run(terminal, "lineage", "a_nobody")).code == 3


async def test_after_an_erasure_lineage_finds_nothing_there(terminal: Terminal) -> None:
    """The row's hash is no way back."""
    first, _ = await with_datasets(terminal)
    row = next(row for row in rows_of(first) if "U3" in row["authors"])
    erase(first, authors={"U3"})
    told = (await run(terminal, "lineage", row["subject"], "--json")).json
    assert told["rows"] == []
    assert row["id"].encode() not in b"".join(bytes_of(first).values())
    assert read_manifest(first)["erased"] > 0


async def run(terminal: Terminal, *arguments: str) -> Any:
    """A command, off the loop: it has one of its own."""
    import asyncio

    return await asyncio.to_thread(terminal.run, *arguments)
