"""The terminal's commands about files: import what somebody else wrote, export what may be learned from."""

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli_options as options
from bot.cli_data import export_person, fresh, tell_receipt, write_all
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode
from bot.cli_show import Progress, say, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from storage.entries import NewEntry
    from storage.records import DatasetVersion
    from training.dataset_spool import KeptExample
    from training.formats.reading import Reader, Seen

SHOWN = 20
AT_ONCE = 2_000
COUNTS = ("added", "updated", "unchanged", "struck", "forgotten")
TARGETS = ("entries", "golden")
GIVEN_SPLITS = ("train", "test")
READS = "csv, markdown, qa, openai, openai-preference, sharegpt, vertex, vertex-preference, trl, ..."
WRITES = "openai, openai-preference, vertex, vertex-preference, trl, trl-preference, trl-unpaired, sharegpt, csv, hf"
PROVIDERS = {
    "openai": "openai", "openai-preference": "openai", "vertex": "vertex", "vertex-preference": "vertex",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How a file is to be imported."""

    split: str
    golden: bool
    dry_run: bool
    as_json: bool


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .jsonl, .json, .csv, .tsv or .md file.")],
    source: Annotated[
        str, typer.Option("--source", metavar="NAME", help="What people read as the source; the file's name.")
    ] = "",
    name: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help=f"Found by itself, else: {READS}")
    ] = "",
    split: Annotated[
        str, typer.Option("--split", metavar="SPLIT", help="train, or test: held out, never served.")
    ] = "",
    into: Annotated[
        str, typer.Option("--as", metavar="WHAT", help="entries, or golden: proposed for the golden set.")
    ] = "entries",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would come in, and change nothing.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Import verified questions and answers from a file.

    Each line is a JSON object with "question" and "answer" ("prompt" and "completion" work too), or a CSV row under
    these columns. A FAQ in Markdown, and what OpenAI, Vertex, TRL and ShareGPT train on are read as well. "split" may be
    train or test (test: held out, never served), "thread" joins phrasings of one question.
    Lines that cannot be used are named with their reason, and the others are kept. A running bot knows them within
    seconds. Importing the same file again changes nothing.

    \b
    Examples:
      apprentice import faq.csv --source "IT handbook"
      apprentice import chats.jsonl --dry-run
    """
    from training.formats.reading import Reader

    if into not in TARGETS:
        raise typer.BadParameter(f"{into!r} is unknown; write entries or golden.", param_hint="--as")
    if split and split not in GIVEN_SPLITS:
        raise typer.BadParameter(f"{split!r} is no split; write train or test.", param_hint="--split")
    reader = Reader(file, source=source, name=name)
    seen = reader.survey()
    _list_bad_lines(seen)
    wanted = _Wanted(split, into == "golden", dry_run, as_json)
    if dry_run:
        _tell_import(reader, seen, {}, wanted)
        return
    options.carry_out(_import(options.settings_from(data_dir, env_file), reader, seen, wanted))


def _list_bad_lines(seen: "Seen") -> None:
    for bad in seen.bad[:SHOWN]:
        say(f"line {bad.number}: {bad.reason}")
    if seen.left_out > SHOWN:
        say(f"... and {seen.left_out - SHOWN:,} more lines")


async def _import(settings: Any, reader: "Reader", seen: "Seen", wanted: _Wanted) -> ExitCode:
    async with options.opened(settings) as place:
        counts = await (_proposed if wanted.golden else _added)(place, reader, seen, wanted)
    _tell_import(reader, seen, counts, wanted)
    return ExitCode.DONE


def _entries(reader: "Reader", wanted: _Wanted) -> "Iterator[NewEntry]":
    for entry in reader.entries():
        yield replace(entry, split=wanted.split) if wanted.split else entry


async def _added(place: options.Opened, reader: "Reader", seen: "Seen", wanted: _Wanted) -> dict[str, int]:
    progress, counts, done = Progress(), dict.fromkeys(COUNTS, 0), 0
    entries = _entries(reader, wanted)
    while page := await asyncio.to_thread(lambda: list(islice(entries, AT_ONCE))):
        since = time.monotonic()
        part = await place.store.add_entries(place.team, page)
        for name in counts:
            counts[name] += getattr(part, name)
        await asyncio.sleep(time.monotonic() - since)  # as long again for the bot, which writes, too
        done += len(page)
        if seen.entries > AT_ONCE:
            progress.show("Importing", f"{done:,} of {seen.entries:,}")
    progress.end()
    return counts


async def _proposed(place: options.Opened, reader: "Reader", seen: "Seen", wanted: _Wanted) -> dict[str, int]:
    counts = {"proposed": 0, "refused": 0}
    reasons: Counter[str] = Counter()
    by = options.operator()
    for entry in _entries(reader, wanted):
        try:
            await place.store.propose_golden(
                place.team, entry.question, entry.answer, entry.topic, entry.source, by
            )
            counts["proposed"] += 1
        except PublicError as why:
            counts["refused"] += 1
            reasons[str(why)] += 1
    for reason, count in reasons.items():
        say(f"{count:,} not proposed: {reason}")
    return counts


def _tell_import(reader: "Reader", seen: "Seen", counts: dict[str, int], wanted: _Wanted) -> None:
    if wanted.as_json:
        bad = [{"line": each.number, "reason": each.reason} for each in seen.bad]
        found = {"formats": dict(seen.formats), "encoding": seen.encoding, "not_held": dict(seen.lost)}
        tell_json({"file": str(reader.file), **counts, "entries": seen.entries, **found, "left_out": bad})
        return
    for reason, count in seen.lost.items():
        say(f"{count:,} {reason}.")
    if seen.encoding != "UTF-8":
        say(f"Read as {seen.encoding}.")
    if counts.get("struck"):
        say(
            f"In {counts['struck']:,} something personal or secret was struck out. "
            "REDACT_KEEP keeps what everybody may read, such as the help desk's own address."
        )
    if counts.get("forgotten"):
        say(f"{counts['forgotten']:,} were not taken in: they went with a person who is forgotten.")
    tell(_imported(reader, seen, counts, wanted))


def _imported(reader: "Reader", seen: "Seen", counts: dict[str, int], wanted: _Wanted) -> str:
    kinds = ", ".join(seen.formats)
    if wanted.dry_run:
        said = f"{seen.entries:,} could be imported ({kinds}); nothing was changed"
    elif wanted.golden:
        said = f"{counts['proposed']:,} proposed for the golden set, {counts['refused']:,} refused"
    else:
        said = (
            f"{counts['added']:,} added, {counts['updated']:,} updated, {counts['unchanged']:,} known already"
        )
        said = said if kinds in ("qa", "csv") else f"{said} (read as {kinds})"
    said = f"{reader.file}: {said}"
    return f"{said}; {seen.left_out:,} lines were left out, see above." if seen.left_out else f"{said}."


def export(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A new file such as out.jsonl, a folder for it, or - for stdout."),
    ],
    person: Annotated[
        str | None,
        typer.Option(
            "--person", metavar="ID", help="Everything held of this person instead, such as U012ABCDEF."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help=f"A frozen dataset as {WRITES}.")
    ] = "",
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="ID", help="Which dataset, by its first digits; the newest.")
    ] = "",
    split: Annotated[
        str, typer.Option("--split", metavar="SPLIT", help="train, validation or test; train.")
    ] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Export the examples that may be learned from, or everything that is held of one person.

    The examples are JSON lines, {"messages": [...], "origin": ...}; only words of people who agreed, with keys and
    addresses struck out, as training reads them. With --format it is a frozen dataset, as OpenAI, Vertex, TRL or Hugging
    Face read it. What is held of a person is one JSON document. A file that is there already is left alone.

    \b
    Examples:
      apprentice export examples.jsonl
      apprentice export dpo.jsonl --format openai-preference
      apprentice export --person U012ABCDEF their-words.json
    """
    from training.dataset_files import SPLITS

    if (dataset or split) and not name:
        raise typer.BadParameter(f"add --format, one of {WRITES}.", param_hint="--dataset, --split")
    if person is not None and name:
        raise typer.BadParameter("what is held of a person has no other format.", param_hint="--format")
    if split and split not in SPLITS:
        raise typer.BadParameter(f"{split!r} is no split; write {', '.join(SPLITS)}.", param_hint="--split")
    settings = options.settings_from(data_dir, env_file)
    if person is not None:
        options.carry_out(export_person(settings, out, person, as_json))
    elif name:
        options.carry_out(_export_dataset(settings, out, _Format(name, dataset, split), as_json))
    else:
        options.carry_out(_export_examples(settings, out, as_json))


async def _export_examples(settings: Any, out: Path, as_json: bool) -> ExitCode:
    file = fresh(out, "examples.jsonl")
    try:
        return await _examples(settings, file, as_json)
    except (sqlite3.OperationalError, OSError) as error:  # the files in which the examples are joined
        why = getattr(error, "strerror", None) or error
        raise PublicError(
            f"The examples could not be gathered in {settings.data_dir} ({why}). "
            "Free some space and try again; nothing was lost."
        ) from None


async def _examples(settings: Any, file: Path | None, as_json: bool) -> ExitCode:
    from training.gathering import gathered

    async with (
        options.opened(settings) as place,
        gathered(place.store, place.team, settings.data_dir) as found,
    ):
        if not found.count:
            say("There is nothing to export yet: rate answers, correct them, or import questions.")
            return ExitCode.NOTHING_DONE
        write_all(file, map(_example_line, found.examples()))
        left_out = [f"{count} left out: {reason}" for reason, count in found.left_out.items()]
        tell_receipt(file, {"examples": found.count, "left_out": found.left_out}, as_json, left_out)
    return ExitCode.DONE


def _example_line(example: "KeptExample") -> str:
    told = {
        "id": example.subject,
        "messages": json.loads(example.messages),
        "origin": example.origin,
        "thread": example.thread,
        "split": example.declared or None,
    }
    return json.dumps(told, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class _Format:
    """What is to be written of which dataset."""

    name: str
    dataset: str
    split: str


async def _export_dataset(settings: Any, out: Path, wanted: _Format, as_json: bool) -> ExitCode:
    from training.formats.writing import FORMATS, HUGGING_FACE

    if wanted.name not in FORMATS:
        raise PublicError(f"{wanted.name!r} is no format that I can write; write one of {WRITES}.")
    async with options.opened(settings) as place:
        frozen = await _frozen(place, wanted.dataset)
    work = _as_hugging_face if wanted.name == HUGGING_FACE else _as_lines
    return await asyncio.to_thread(work, frozen, out, wanted, as_json)


async def _frozen(place: options.Opened, name: str) -> "DatasetVersion":
    known = [each for each in await place.store.datasets() if each.team in {"", place.team}]
    if name and name != "newest":
        found = [each for each in known if each.id.startswith(name)]
        if len(found) != 1:
            what = f"{len(found)} datasets begin with" if found else "There is no dataset"
            raise PublicError(f"{what} {name!r}. `apprentice datasets` lists them.")
        return found[0]
    trained = [each for each in known if each.kind == "training"]
    if not trained:
        raise PublicError("Nothing was frozen yet: `apprentice train` freezes the first dataset.")
    return trained[-1]


def _as_lines(frozen: "DatasetVersion", out: Path, wanted: _Format, as_json: bool) -> ExitCode:
    from training.formats.writing import lines_of, pieces_of

    split = wanted.split or "train"
    file = fresh(out, f"{split}.csv" if wanted.name == "csv" else f"{split}.{wanted.name}.jsonl")
    folder = Path(frozen.path)
    count = sum(1 for _ in pieces_of(folder, split, wanted.name, Counter()))
    if not count:
        say(f"Dataset {frozen.id} has nothing for {wanted.name} in {split}.")
        return ExitCode.NOTHING_DONE
    lost: Counter[str] = Counter()
    write_all(file, lines_of(pieces_of(folder, split, wanted.name, lost), wanted.name))
    problems = _problems(folder, wanted.name, split)
    told = {"rows": count, "format": wanted.name, "dataset": frozen.id, "split": split}
    notes = [f"{number:,} {what}." for what, number in lost.items() if number] + problems
    tell_receipt(file, {**told, "not_held": dict(+lost), "problems": problems}, as_json, notes)
    return ExitCode.DONE


def _problems(folder: Path, name: str, split: str) -> list[str]:
    """What the provider would refuse of these files."""
    from training.fitness import provider_problems
    from training.formats.writing import pieces_of

    provider = PROVIDERS.get(name)
    if not provider or split == "test":
        return []
    counted = {
        each: sum(1 for _ in pieces_of(folder, each, name, Counter())) for each in ("train", "validation")
    }
    return provider_problems(counted, provider)


def _as_hugging_face(frozen: "DatasetVersion", out: Path, wanted: _Format, as_json: bool) -> ExitCode:
    from training.dataset_files import SPLITS
    from training.formats.writing import write_hugging_face

    if str(out) == "-":
        raise PublicError("A Hugging Face dataset is a folder. Name one that is not there yet.")
    if out.exists():
        raise PublicError(
            f"{out} is there already and is left alone. Choose another name, or delete it first."
        )
    counts = write_hugging_face(Path(frozen.path), out, [wanted.split] if wanted.split else SPLITS)
    tell_receipt(out, {"format": wanted.name, "dataset": frozen.id, **counts}, as_json, [])
    return ExitCode.DONE
