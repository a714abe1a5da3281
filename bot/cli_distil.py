"""The terminal's command for teachers: distil."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli_options as options
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode
from bot.cli_show import Progress, say, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.cli_learning import Bench
    from bot.settings import Settings
    from storage.records import Distillation

TICK_S = 0.3


def distil(
    model: Annotated[
        str,
        typer.Argument(metavar="[MODEL]", help="An API model (openai:gpt-6-luna) or one of its fine-tunes."),
    ] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="At most so many questions; 500.")
    ] = None,
    within: Annotated[
        float | None,
        typer.Option("--within", metavar="USD", help="Stop once so much is spent; twice the estimate."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree to the price, and that the provider's terms allow it; begin.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="How far it is.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop asking; what was answered stays.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Delete what MODEL said.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print what can be learned as JSON lines, to be read or imported.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Let an API model answer what nobody of the team answered, so that the local model can learn it.

    Useful before a provider switches a model off. Without --yes it only says which questions would leave this machine and
    what that would cost. Questions of private places, of people who did not agree to training, and those that models are
    measured by are never asked. Asking again goes on behind what was answered.

    \b
    Example: apprentice distil openai --limit 1000 --within 5
    Example: apprentice distil openai-3 --yes
    """
    chosen = [name for name, given in _actions(yes, status, cancel, drop, show).items() if given]
    if len(chosen) > 1:
        raise PublicError("Choose one of --yes, --status, --cancel, --drop and --show.")
    if drop and not model:
        raise PublicError("Name the model whose answers are to be deleted: apprentice distil MODEL --drop.")
    settings = options.settings_from(data_dir, env_file)
    words = [model, *([f"limit={limit}"] if limit is not None else [])]
    words += [f"within={within:g}"] if within is not None else []
    if show:
        options.carry_out(_show(settings))
    options.carry_out(_distil(settings, " ".join(filter(None, words)), (chosen or ["quote"])[0], as_json))


def _actions(yes: bool, status: bool, cancel: bool, drop: bool, show: bool) -> dict[str, bool]:
    return {"yes": yes, "status": status, "cancel": cancel, "drop": drop, "show": show}


async def _show(settings: "Settings") -> ExitCode:
    from training.examples import Sieve
    from training.gathering import allowed_today

    async with options.opened(settings) as place:
        sieve = Sieve(await allowed_today(place.store, place.team))
        async for page in place.store.learnable_distilled(place.team):
            for each in sieve.distilled(page):
                turns = [{"role": turn.role, "content": turn.content} for turn in each.turns]
                tell(
                    json.dumps(
                        {"messages": [*turns, {"role": "assistant", "content": each.answer}]},
                        ensure_ascii=False,
                    )
                )
    return ExitCode.DONE


async def _distil(settings: "Settings", words: str, action: str, as_json: bool) -> ExitCode:
    from bot.cli_learning import serving_bench
    from bot.distilling import read_wish
    from bot.distilling_words import plural, quote_lines, status_line

    by = options.operator()
    async with serving_bench(settings) as bench:
        distilling, store, team = bench.shop.distilling, bench.place.store, bench.place.team
        if action == "status":
            row = await store.newest_distillation(team)
            line = status_line(row, await store.distilled_count(team))
            return _told(row, [line], as_json)
        if action == "cancel":
            row = await distilling.cancel(by=by)
            return _told(
                row, [f"Cancelled. {plural(row.answered, 'answer')} of {row.teacher} stay."], as_json
            )
        if action == "drop":
            teacher, gone = await distilling.drop(words, by=by)
            return _told(None, [f"{plural(gone, 'answer')} of {teacher} deleted."], as_json)
        row = await distilling.quote(read_wish(words), by=by)
        lines = quote_lines(row, confirm="The same command with --yes", cancel="--cancel")
        if action == "quote":
            return _told(row, lines, as_json, ExitCode.NOTHING_DONE)
        say("\n".join(lines[:-1]))
        return await _followed(bench, await distilling.confirm(by=by), as_json)


async def _followed(bench: "Bench", row: "Distillation", as_json: bool) -> ExitCode:
    from bot.distilling_words import end_line
    from storage.records import DistillationState

    store, progress = bench.place.store, Progress()
    todo = row.quote["questions"] + row.quote["own"]
    try:
        while row.state is DistillationState.RUNNING:
            if bench.ours:
                await bench.shop.distilling.tick()
            progress.show(
                f"asking {row.teacher}",
                f"{row.answered + row.failed:,} of {todo:,} questions, ${row.cost_usd:.2f}",
            )
            await asyncio.sleep(TICK_S)
            row = await store.distillation(row.id) or row
    finally:
        progress.end()
    done = row.state is DistillationState.DONE
    return _told(row, [end_line(row)], as_json, ExitCode.DONE if done else ExitCode.FAILED)


def _told(
    row: "Distillation | None", lines: list[str], as_json: bool, code: ExitCode = ExitCode.DONE
) -> ExitCode:
    if as_json:
        tell_json(_json(row) if row is not None else {"said": lines})
    else:
        tell("\n".join(lines))
    return code


def _json(row: "Distillation") -> dict[str, Any]:
    names = ("id", "teacher", "most", "within_usd", "quote", "answered", "failed", "cost_usd", "reason")
    return {**{name: getattr(row, name) for name in names}, "state": row.state.value}
