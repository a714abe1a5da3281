"""The terminal's commands about questions, answers and people: ask, import, export, forget."""

import asyncio
import json
import os
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli_options as options
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode
from bot.cli_show import Progress, murmur, pretty_json, say, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.faq import Faq
    from bot.workshop import Workshop
    from storage.asking import Answered
    from training.examples import Example, Gathered

SHOWN = 20
AT_ONCE = 2_000
POLICIES = "local-first, api-first, both or local-only"


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in quotes.")],
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="POLICY", help=f"{POLICIES}, instead of ANSWER_POLICY.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Ask a question here, without Slack.

    The same memory and models answer as in Slack. The answer goes to stdout, who gave it to stderr.

    \b
    Example: apprentice ask "What can you do?"
    """
    settings = options.settings_from(data_dir, env_file, **_policy(policy))
    options.carry_out(_ask(settings, question, as_json))


def _policy(policy: str | None) -> dict[str, object]:
    from bot.settings import Policy

    if policy is None:
        return {}
    if policy not in set(Policy):
        raise typer.BadParameter(f"{policy!r} is no policy; write {POLICIES}.", param_hint="--policy")
    return {"answer_policy": Policy(policy)}


async def _ask(settings: Any, question: str, as_json: bool) -> ExitCode:
    async with options.opened(settings) as place, options.workshop(place) as shop:
        refusal = shop.desk.refusal(question)
        if refusal is not None:
            raise PublicError(refusal)
        answered = await _shown(_answered(shop, question))
    candidate = answered.candidate
    if as_json:
        tell_json(_answer_json(answered))
        return ExitCode.DONE
    tell(candidate.text.strip())
    source = f", verified answer, from {candidate.source}" if candidate.source else ""
    murmur(f"{candidate.model}, {candidate.seconds:.1f} s{source}")
    return ExitCode.DONE


async def _shown(answering: Coroutine[Any, Any, "Answered"]) -> "Answered":
    """Wait for an answer; on a terminal one sees for how long."""
    progress = Progress(only_live=True)
    task = asyncio.create_task(answering)
    try:
        while not task.done():
            progress.show("Asking memory and the models")
            await asyncio.wait({task}, timeout=1)
        return task.result()
    finally:
        task.cancel()
        progress.end()


async def _answered(shop: "Workshop", text: str) -> "Answered":
    """Ask and answer; a running bot sees the claim and leaves the question to us."""
    ts = f"{time.time():.6f}"
    asked = await shop.store.ask(
        team=shop.team,
        channel=options.TERMINAL,
        ts=ts,
        thread_ts=ts,
        asker=options.operator(),
        text=text,
        surface=options.TERMINAL,
        place=options.TERMINAL,
    )
    question = asked.question
    lease_s = shop.settings.answer_deadline_s + 30
    await shop.store.claim_question(question.id, worker=shop.worker, lease_s=lease_s)
    try:
        answered = await shop.desk.answer(question)
    except PublicError as error:
        await shop.store.drop_question(question.id, str(error))
        raise
    await shop.store.posted(answered.answer.id, ts)
    return answered


def _answer_json(answered: "Answered") -> dict[str, Any]:
    candidate = answered.candidate
    names = (
        "kind",
        "model",
        "source",
        "finish",
        "seconds",
        "tokens_in",
        "tokens_out",
        "cost_usd",
        "certainty",
    )
    return {
        "question": answered.question.text,
        "answer": candidate.text.strip(),
        "answer_id": answered.answer.id,
        **{name: getattr(candidate, name) for name in names},
    }


def import_faq(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .jsonl, .json, .csv or .tsv file.")],
    source: Annotated[
        str, typer.Option("--source", metavar="NAME", help="What people read as the source; the file's name.")
    ] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Import verified questions and answers from a file.

    Each line is a JSON object with "question" and "answer" ("prompt" and "completion" work too), or a CSV row under
    these columns. "split" may be train or test (test: held out, never served), "thread" joins phrasings of one question.
    Lines that cannot be used are named with their reason, and the others are kept. A running bot knows them within
    seconds. Importing the same file again changes nothing.

    \b
    Example: apprentice import faq.csv --source "IT handbook"
    """
    from bot.faq import read_faq

    faq = read_faq(file, source=source)
    _list_bad_lines(faq)
    settings = options.settings_from(data_dir, env_file)
    options.carry_out(_import(settings, file, faq, as_json))


def _list_bad_lines(faq: "Faq") -> None:
    for bad in faq.bad[:SHOWN]:
        say(f"line {bad.number}: {bad.reason}")
    if len(faq.bad) > SHOWN:
        say(f"... and {len(faq.bad) - SHOWN:,} more lines")


async def _import(settings: Any, file: Path, faq: "Faq", as_json: bool) -> ExitCode:
    progress = Progress()
    counts = {"added": 0, "updated": 0, "unchanged": 0}
    async with options.opened(settings) as place:
        for start in range(0, len(faq.entries), AT_ONCE):
            since = time.monotonic()
            part = await place.store.add_entries(place.team, faq.entries[start : start + AT_ONCE])
            for name in counts:
                counts[name] += getattr(part, name)
            await asyncio.sleep(time.monotonic() - since)  # as long again for the bot, which writes, too
            if len(faq.entries) > AT_ONCE:
                done = min(start + AT_ONCE, len(faq.entries))
                progress.show("Importing", f"{done:,} of {len(faq.entries):,}")
    progress.end()
    if as_json:
        bad = [{"line": each.number, "reason": each.reason} for each in faq.bad]
        tell_json({"file": str(file), **counts, "left_out": bad})
    else:
        tell(_imported(file, counts, len(faq.bad)))
    return ExitCode.DONE


def _imported(file: Path, counts: dict[str, int], bad: int) -> str:
    said = f"{file}: {counts['added']:,} added, {counts['updated']:,} updated, {counts['unchanged']:,} known already"
    return f"{said}; {bad:,} lines were left out, see above." if bad else f"{said}."


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
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Export the examples that may be learned from, or everything that is held of one person.

    The examples are JSON lines, {"messages": [...], "origin": ...}; only words of people who agreed, with keys and
    addresses struck out, as training reads them. What is held of a person is one JSON document. A file that is there
    already is left alone.

    \b
    Examples:
      apprentice export examples.jsonl
      apprentice export --person U012ABCDEF their-words.json
    """
    settings = options.settings_from(data_dir, env_file)
    work = (
        _export_examples(settings, out, as_json)
        if person is None
        else _export_person(settings, out, person, as_json)
    )
    options.carry_out(work)


async def _export_examples(settings: Any, out: Path, as_json: bool) -> ExitCode:
    file = _fresh(out, "examples.jsonl")
    async with options.opened(settings) as place:
        gathered = await _gathered(place)
    if not gathered.examples:
        say("There is nothing to export yet: rate answers, correct them, or import questions.")
        return ExitCode.NOTHING_DONE
    lines = [json.dumps(_example_json(example), ensure_ascii=False) for example in gathered.examples]
    _write(file, [f"{line}\n" for line in lines])
    left_out = [f"{count} left out: {reason}" for reason, count in gathered.left_out.items()]
    _receipt(file, {"examples": len(lines), "left_out": gathered.left_out}, as_json, left_out)
    return ExitCode.DONE


async def _gathered(place: options.Opened) -> "Gathered":
    from training.examples import gather

    entries = [entry async for page in place.store.entries(place.team) for entry in page]
    feedback = await place.store.feedback(place.team)
    return gather(
        feedback,
        entries,
        consenting=await place.store.consenting(place.team),
        refusing=await place.store.refusing(place.team),
        nominated=await place.store.nominated(place.team),
    )


def _example_json(example: "Example") -> dict[str, Any]:
    from storage.redaction import redact

    turns = [{"role": turn.role, "content": redact(turn.content).text} for turn in example.turns]
    return {
        "id": example.id,
        "messages": [*turns, {"role": "assistant", "content": redact(example.answer).text}],
        "origin": example.origin,
        "thread": example.thread,
        "split": example.split or None,
    }


async def _export_person(settings: Any, out: Path, person: str, as_json: bool) -> ExitCode:
    who = _user_id(person)
    file = _fresh(out, f"{who}.json".replace(":", "-"))
    async with options.opened(settings) as place:
        held = await place.store.held_words(place.team, who)
    counts = {name: len(rows) for name, rows in held.items()}
    if not any(counts.values()):
        say(f"Nothing is held of {who}.")
        return ExitCode.NOTHING_DONE
    _write(file, [pretty_json({"person": who, **held})])
    _receipt(file, {"person": who, **counts}, as_json, [])
    return ExitCode.DONE


def _user_id(person: str) -> str:
    """U012ABCDEF, also where it was pasted as a mention."""
    return person.strip().removeprefix("<@").split("|")[0].removesuffix(">").removeprefix("@")


def _fresh(out: Path, name: str) -> Path | None:
    """The file to write; None for stdout. Raises PublicError where something is there already."""
    if str(out) == "-":
        return None
    file = out / name if out.is_dir() or not out.suffix else out
    if file.exists():
        raise PublicError(
            f"{file} is there already and is left alone. Choose another name, or delete it first."
        )
    return file


def _write(file: Path | None, parts: Sequence[str]) -> None:
    """All of it, or nothing: the file gets its name when it is complete."""
    if file is None:
        for part in parts:
            print(part, end="")
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("x", encoding="utf-8") as opened:
            opened.writelines(parts)
        draft.rename(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise PublicError(
            f"{file} could not be written ({error.strerror}). Free some space or choose another folder; nothing was lost."
        ) from None


def _receipt(file: Path | None, counts: dict[str, Any], as_json: bool, notes: Sequence[str]) -> None:
    for note in notes:
        say(note)
    if file is None:
        return
    if as_json:
        tell_json({"file": str(file), **counts})
        return
    listed = ", ".join(f"{count} {name}" for name, count in _numbers(counts))
    tell(f"{file}: {listed}.")


def _numbers(counts: dict[str, Any]) -> Iterator[tuple[str, int]]:
    return ((name, count) for name, count in counts.items() if isinstance(count, int) and count)


def forget(
    person: Annotated[
        str, typer.Argument(metavar="USER_ID", help="A person's Slack id, such as U012ABCDEF.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether I am sure.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Delete everything of a person, and mark the models that learned from their words.

    It cannot be undone. `apprentice export --person` shows what it would delete.

    \b
    Example: apprentice forget U012ABCDEF
    """
    options.carry_out(_forget(options.settings_from(data_dir, env_file), _user_id(person), yes, as_json))


async def _forget(settings: Any, who: str, yes: bool, as_json: bool) -> ExitCode:
    from bot.privacy import Privacy
    from bot.slack.text import forgotten

    async with options.opened(settings) as place:
        held = await place.store.held_words(place.team, who)
        counts = {name: len(rows) for name, rows in held.items() if rows}
        if not counts:
            say(f"Nothing is held of {who}.")
            return ExitCode.NOTHING_DONE
        if not yes and not _sure(who, counts):
            say("Nothing was deleted.")
            return ExitCode.NOTHING_DONE
        receipt = await Privacy(place.store, team=place.team).forget(who, by=options.operator())
    if as_json:
        tell_json({"person": who, "deleted": counts, "tainted": list(receipt.tainted)})
    else:
        tell(forgotten(receipt.held, receipt.tainted).replace("`/train`", "training run"))
    return ExitCode.DONE


def _sure(who: str, counts: dict[str, int]) -> bool:
    import sys

    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    if not sys.stdin.isatty():
        raise PublicError(f"{listed} of {who} would be deleted for good. Add --yes if you are sure.")
    return typer.confirm(f"Delete {listed} of {who} for good?", err=True)
