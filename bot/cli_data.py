"""The terminal's commands about questions and people: ask, forget, acknowledge, and what is held of a person."""

import asyncio
import os
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli_options as options
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode
from bot.cli_show import Progress, murmur, pretty_json, say, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.privacy import Receipt
    from bot.workshop import Workshop
    from storage.asking import Answered

BOT_BEGINS_S = 10.0  # a running bot looks every second
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


async def export_person(settings: Any, out: Path, person: str, as_json: bool) -> ExitCode:
    """Write everything that is held of a person as one JSON document."""
    who = user_id(person)
    file = fresh(out, f"{who}.json".replace(":", "-"))
    async with options.opened(settings) as place:
        held = await place.store.held_words(place.team, who)
    counts = {name: len(rows) for name, rows in held.items()}
    if not any(counts.values()):
        say(f"Nothing is held of {who}.")
        return ExitCode.NOTHING_DONE
    write_all(file, [pretty_json({"person": who, **held})])
    tell_receipt(file, {"person": who, **counts}, as_json, [])
    return ExitCode.DONE


def user_id(person: str) -> str:
    """U012ABCDEF, also where it was pasted as a mention."""
    return person.strip().removeprefix("<@").split("|")[0].removesuffix(">").removeprefix("@")


def fresh(out: Path, name: str) -> Path | None:
    """The file to write; None for stdout. Raises PublicError where something is there already."""
    if str(out) == "-":
        return None
    file = out / name if out.is_dir() or not out.suffix else out
    if file.exists():
        raise PublicError(
            f"{file} is there already and is left alone. Choose another name, or delete it first."
        )
    return file


def write_all(file: Path | None, parts: Iterable[str]) -> None:
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


def tell_receipt(file: Path | None, counts: dict[str, Any], as_json: bool, notes: Sequence[str]) -> None:
    """Say what was written where; on stdout only what a program reads."""
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
    options.carry_out(_forget(options.settings_from(data_dir, env_file), user_id(person), yes, as_json))


async def _forget(settings: Any, who: str, yes: bool, as_json: bool) -> ExitCode:
    from bot.slack.forgetting_text import receipt as in_words

    async with options.opened(settings) as place:
        held = await place.store.held_words(place.team, who)
        counts = {name: len(rows) for name, rows in held.items() if rows}
        if not counts:
            say(f"Nothing is held of {who}.")
            return ExitCode.NOTHING_DONE
        if not yes and not _sure(who, counts):
            say("Nothing was deleted.")
            return ExitCode.NOTHING_DONE
        receipt = await _forgotten(place, who)
    if as_json:
        told = {"person": who, "deleted": counts, "tainted": list(receipt.tainted)}
        tell_json({**told, "done": receipt.done, "undone": receipt.undone, "finished": receipt.finished})
    else:
        tell(
            in_words(receipt.done, receipt.undone, finished=receipt.finished).replace(
                "`/train`", "training run"
            )
        )
    return ExitCode.DONE


async def _forgotten(place: options.Opened, who: str) -> "Receipt":
    """Leave it to the bot that runs on this data directory; where none does, or does not begin, do it here."""
    from bot.workshop import DataLock

    work = (await place.store.ask_to_forget(place.team, who, by=options.operator())).id
    lock = DataLock(place.settings.data_dir)
    alone = lock.take()
    try:
        receipt = None if alone else await _by_the_bot(place, work)
        if receipt is not None:
            return receipt
        async with options.workshop(place) as shop:
            while not (receipt := await _receipt_of(place, work)).finished:
                await shop.privacy.carry_out(work)
                await asyncio.sleep(0.1)
            return receipt
    finally:
        lock.release()


async def _by_the_bot(place: options.Opened, work: str) -> "Receipt | None":
    """Wait for the running bot; None where it does not begin."""
    from storage.records import now

    progress, since = Progress(), time.monotonic()
    try:
        while not (receipt := await _receipt_of(place, work)).finished:
            row = await place.store.forgetting(work)
            idle = row is None or row.lease_until is None or row.lease_until < now()
            if idle and time.monotonic() - since > BOT_BEGINS_S:
                return None
            progress.show("The running bot forgets them")
            await asyncio.sleep(0.25)
        return receipt
    finally:
        progress.end()


async def _receipt_of(place: options.Opened, work: str) -> "Receipt":
    from bot.privacy import Receipt

    row = await place.store.forgetting(work)
    if row is None:
        raise PublicError("The forgetting is gone; ask for it again.")
    return Receipt.of(row)


def _sure(who: str, counts: dict[str, int]) -> bool:
    import sys

    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    if not sys.stdin.isatty():
        raise PublicError(f"{listed} of {who} would be deleted for good. Add --yes if you are sure.")
    return typer.confirm(f"Delete {listed} of {who} for good?", err=True)


def acknowledge(
    yes: Annotated[bool, typer.Option("--yes", help="I have read it.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Show what holds for training on what is said in Slack, and with --yes say that you have read it.

    On real Slack no dataset is frozen before. Who said so, and when, is written down.

    \b
    Example: apprentice acknowledge --yes
    """
    options.carry_out(_acknowledge(options.settings_from(data_dir, env_file), yes, as_json))


async def _acknowledge(settings: Any, yes: bool, as_json: bool) -> ExitCode:
    from bot import legal

    async with options.opened(settings) as place:
        if not as_json:
            tell(legal.in_plain_words())
        read = await legal.acknowledged(place.store, place.team)
        if yes:
            read = await legal.acknowledge(place.store, place.team, by=options.operator())
    if as_json:
        told = {"note": list(legal.NOTE), "read_by": read.actor if read else None}
        tell_json({**told, "read_at": read.decided_at if read else None})
    elif read is None:
        say("Nobody has said yet that they read it. Add --yes if you have.")
    else:
        tell(f"Read by {read.actor} on {read.decided_at:%Y-%m-%d %H:%M} UTC.")
    return ExitCode.DONE if read else ExitCode.NOTHING_DONE
