"""The terminal's commands about learning: train, eval, runs.

A run is a row; whoever serves on the data directory advances it. Where nobody does, the command does so while it is
watched, and a trainer that was started goes on by itself when the command is stopped.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli_options as options
from bot import cli_show as show
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode, Opened
from bot.cli_show import Progress, say, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.settings import Settings
    from bot.workshop import Workshop
    from storage.records import Evaluation, TrainingRun

TICK_S = 0.5
UNATTENDED = timedelta(seconds=90)
"""Whoever advances a run claims it again every second, for a minute. A claim that is older is nobody's."""


@dataclass(frozen=True, slots=True)
class Bench:
    """An opened workshop. `ours`: nobody serves on the data directory, so that we advance what is live."""

    place: Opened
    shop: "Workshop"
    ours: bool


@asynccontextmanager
async def serving_bench(settings: "Settings") -> AsyncIterator[Bench]:
    from bot.workshop import DataLock

    lock = DataLock(settings.data_dir)
    ours = lock.take()
    try:
        async with options.opened(settings) as place:
            if ours:
                await place.store.release_claims()
            async with options.workshop(place) as shop:
                yield Bench(place, shop, ours)
    finally:
        lock.release()


def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OPTION=VALUE]...",
            help="effort=, method=, epochs=, lr=, rank=, batch=, seed=, quantization=, adapter=, with=, sweep; see below.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Agree to what a provider charges, also above TRAIN_CONFIRM_USD.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Watch the run until it ends, or only ask for it.")
    ] = True,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Train on what people said about the answers, and evaluate the result.

    Shows the stage, the step, the loss and the time left. At the end: every model's scores on held-out questions, the
    difference with its interval, and the verdict. A bot that runs on the same data directory does the work; where none
    does, this command does. Ctrl-C leaves a started trainer at work.

    What you do not name is derived from the model and the data. effort= is quick, normal or thorough: a third or twice
    the usual epochs, half or twice the rank, and how soon it stops. method= is sft, dpo (with pairs enough) or kto.
    epochs=, lr= and batch= count for the first stage, rank= for all. quantization= is nf4 or none, seed= a
    whole number (0), adapter= lora, rslora or dora; ia3 and prompt are small and learn a manner rather than facts.
    with= is local, ray, openai or gemini; providers take method=, epochs= and seed=.

    sweep tries trials= ways (12) around the derived plan, stops what does badly on the validation examples, and keeps
    the best; what you name stays as named, and effort= settles epochs and rank.

    \b
    Examples:
      apprentice train
      apprentice train sweep trials=8
      apprentice train effort=quick
      apprentice train quantization=none epochs=5 lr=2e-4
      apprentice train with=openai method=dpo --yes
    """
    from bot.train_options import read_options

    given = read_options(" ".join(words or []))
    options.carry_out(_train(options.settings_from(data_dir, env_file), given, wait, as_json, yes=yes))


async def _train(
    settings: "Settings", given: dict[str, Any], wait: bool, as_json: bool, *, yes: bool = False
) -> ExitCode:
    from training.runs import Declined

    async with serving_bench(settings) as bench:
        occasion = f"terminal:{uuid.uuid4().hex}"
        asked = await bench.shop.runs.request(by=options.operator(), occasion=occasion, options=given)
        if isinstance(asked, Declined):
            return await _declined(bench.place, asked.reason, as_json)
        if yes:
            await bench.shop.runs.confirm(asked.run, by=options.operator())
        if not wait:
            return await _only_requested(bench, asked.run, as_json)
        say(f"Run #{asked.run.number} is requested{_advanced_by(bench)}.")
        return await _watch(bench, asked.run, as_json)


async def _declined(place: Opened, reason: str, as_json: bool) -> ExitCode:
    live = await place.store.live_runs()
    say(reason + (f" `apprentice runs --follow {live[0].number}` shows how far it is." if live else ""))
    if as_json:
        tell_json({"state": "declined", "reason": reason})
    return ExitCode.NOTHING_DONE


def _advanced_by(bench: Bench) -> str:
    return "" if bench.ours else "; the bot that runs here advances it"


async def _only_requested(bench: Bench, run: "TrainingRun", as_json: bool) -> ExitCode:
    if as_json:
        tell_json(show.run_json(run, model=""))
        return ExitCode.DONE
    follow = f"`apprentice runs --follow {run.number}`"
    starts = (
        f"It begins when `apprentice serve` runs, or with {follow}."
        if bench.ours
        else f"{follow} shows how far it is."
    )
    tell(f"Run #{run.number} is requested. {starts}")
    return ExitCode.DONE


async def _watch(bench: Bench, run: "TrainingRun", as_json: bool) -> ExitCode:
    """Follow a run to its end, then say what came of it."""
    progress = Progress()
    try:
        ended = await _followed(bench, run, progress)
    except asyncio.CancelledError:
        progress.end()
        say(
            f"Run #{run.number} is not lost: its trainer, once started, goes on without me. "
            f"`apprentice runs --follow {run.number}` goes on with it, `apprentice runs --cancel {run.number}` stops it."
        )
        raise
    progress.end()
    return await _tell_run(bench.place, ended, as_json)


async def _followed(bench: Bench, run: "TrainingRun", progress: Progress) -> "TrainingRun":
    from storage.records import now

    since = now()
    while not run.state.final:
        if bench.ours:
            await bench.shop.runs.tick()
        elif now() - (run.lease_until or since) > UNATTENDED:
            raise PublicError(
                f"Nobody advances run #{run.number} any more: the bot seems to have stopped. Start it again, "
                f"or go on here: `apprentice runs --follow {run.number}`."
            )
        progress.show(*show.run_stage(run))
        await asyncio.sleep(TICK_S)
        run = await bench.place.store.run(run.id) or run
    return run


async def _tell_run(place: Opened, run: "TrainingRun", as_json: bool) -> ExitCode:
    from training.sweep_words import plainly, sweep_of

    store = place.store
    evaluation = await store.evaluation(run.evaluation_id) if run.evaluation_id else None
    version = await store.model(run.version_id) if run.version_id else None
    model = version.name if version else ""
    if as_json:
        tell_json(show.run_json(run, model=model, evaluation=evaluation))
    elif evaluation is not None and evaluation.sheet:
        tell(show.scores(evaluation))
        if version is not None and (tried := sweep_of(version.card)):
            tell(f"\nWays of training that were tried\n{plainly(tried)}")
        if run.outcome == "promote":
            tell(f"`apprentice promote {model}` lets {model} answer from the next question on.")
    else:
        tell(f"Run #{run.number} {_ending(run)}")
    return _run_code(run)


def _ending(run: "TrainingRun") -> str:
    words = {"failed": "failed", "cancelled": "was cancelled", "declined": "was declined"}
    return f"{words.get(run.outcome, 'ended')}: {run.reason}".removesuffix(": ")


def _run_code(run: "TrainingRun") -> ExitCode:
    codes = {"failed": ExitCode.FAILED, "cancelled": ExitCode.NOTHING_DONE, "declined": ExitCode.NOTHING_DONE}
    return codes.get(run.state.value, ExitCode.DONE)


def evaluate(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [on=DATASET] [with=API]",
            help="A model that `apprentice models` lists, or openai:MODEL; on=golden or a dataset's id; with=openai.",
        ),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop the evaluation that is going on.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Let every model answer the held-out questions, and compare.

    The base, memory, the model that serves now and the one you name answer the same questions. It needs held-out
    questions, which the first training run sets aside; on=golden asks the golden set instead, on= and the beginning of a
    dataset's id an older one's. API models answer too where you name them; that costs money.

    \b
    Examples:
      apprentice eval local-3
      apprentice eval local-3 on=golden with=openai
    """
    settings = options.settings_from(data_dir, env_file)
    if cancel:
        options.carry_out(_cancel_evaluation(settings))
    options.carry_out(_evaluate(settings, " ".join(words or []), as_json))


async def _cancel_evaluation(settings: "Settings") -> ExitCode:
    async with serving_bench(settings) as bench:
        live = await bench.place.store.live_evaluations()
        if not live:
            say(
                "No evaluation is going on by itself. One of a training run stops with `apprentice runs --cancel`."
            )
            return ExitCode.NOTHING_DONE
        await bench.shop.evaluations.cancel(live[0], by=options.operator())
        say(f"Evaluation #{live[0].number} is cancelled.")
    return ExitCode.DONE


async def _evaluate(settings: "Settings", words: str, as_json: bool) -> ExitCode:
    from bot.eval_wishes import Wishes

    async with serving_bench(settings) as bench:
        shop = bench.shop
        wishes = Wishes(bench.place.store, shop.evaluations, shop.contenders, team=bench.place.team)
        evaluation = await wishes.request(words, by=options.operator())
        say(f"Evaluation #{evaluation.number} is requested{_advanced_by(bench)}.")
        progress = Progress()
        try:
            evaluation = await _evaluated(bench, evaluation, progress)
        finally:
            progress.end()
    if as_json:
        tell_json(show.evaluation_json(evaluation))
    elif evaluation.reason:
        say(f"Evaluation #{evaluation.number} failed: {evaluation.reason}")
    else:
        tell(show.scores(evaluation))
    return ExitCode.FAILED if evaluation.reason else ExitCode.DONE


async def _evaluated(bench: Bench, evaluation: "Evaluation", progress: Progress) -> "Evaluation":
    from storage.records import EvaluationState, now

    since = now()
    answers = bench.place.settings.data_dir / "evaluations" / f"{evaluation.id}.jsonl"
    while evaluation.state not in {EvaluationState.DONE, EvaluationState.FAILED}:
        if bench.ours:
            await bench.shop.evaluations.tick()
        elif now() - (evaluation.lease_until or since) > UNATTENDED:
            raise PublicError(
                f"Nobody carries evaluation #{evaluation.number} out: the bot seems to have stopped. "
                "Start it again and the evaluation goes on."
            )
        progress.show(f"Evaluation #{evaluation.number}", f"{_lines(answers)} answers so far")
        await asyncio.sleep(TICK_S)
        evaluation = await bench.place.store.evaluation(evaluation.id) or evaluation
    return evaluation


def _lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except OSError:
        return 0


def runs(
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=1000, help="How many, newest first.")
    ] = 10,
    follow: Annotated[
        int | None, typer.Option("--follow", metavar="N", help="Watch run N until it ends, as train does.")
    ] = None,
    cancel: Annotated[int | None, typer.Option("--cancel", metavar="N", help="Stop run N.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """List the training runs, watch one, or stop one.

    \b
    Examples:
      apprentice runs --limit 3
      apprentice runs --cancel 7
    """
    settings = options.settings_from(data_dir, env_file)
    if follow is not None and cancel is not None:
        raise typer.BadParameter("choose one of --follow and --cancel.")
    if cancel is not None:
        options.carry_out(_cancel(settings, cancel, as_json))
    if follow is not None:
        options.carry_out(_follow(settings, follow, as_json))
    options.carry_out(_runs(settings, limit, as_json))


async def _runs(settings: "Settings", limit: int, as_json: bool) -> ExitCode:
    async with options.opened(settings) as place:
        found = await place.store.runs(place.team, limit=limit)
        names = {version.id: version.name for version in await place.store.models(place.team)}
    if as_json:
        tell_json([show.run_json(run, model=names.get(run.version_id or "", "")) for run in found])
    elif found:
        rows = [["run", "state", "outcome", "model", "asked for", "by", "reason"]]
        rows += [_run_row(run, names.get(run.version_id or "", "")) for run in found]
        tell(show.table(rows))
    else:
        say("There is no training run yet. `apprentice train` starts one.")
    return ExitCode.DONE


def _run_row(run: "TrainingRun", model: str) -> list[str]:
    reason = run.reason if len(run.reason) <= 80 else f"{run.reason[:79]}…"
    how_far = (
        run.state.value if run.state.final else ": ".join(filter(None, show.run_stage(run))).split(" ", 2)[-1]
    )
    asked = f"{run.requested_at:%Y-%m-%d %H:%M}"
    return [f"#{run.number}", how_far, run.outcome, model, asked, run.requested_by, reason]


async def _numbered(place: Opened, number: int) -> "TrainingRun":
    run = await place.store.run_numbered(number)
    if run is None:
        raise PublicError(f"There is no run #{number}. `apprentice runs` lists them.")
    return run


async def _follow(settings: "Settings", number: int, as_json: bool) -> ExitCode:
    async with serving_bench(settings) as bench:
        return await _watch(bench, await _numbered(bench.place, number), as_json)


async def _cancel(settings: "Settings", number: int, as_json: bool) -> ExitCode:
    async with serving_bench(settings) as bench:
        run = await _numbered(bench.place, number)
        if run.state.final:
            say(f"Run #{number} is over already: {run.state.value}.")
            return ExitCode.NOTHING_DONE
        await bench.shop.runs.cancel(run, by=options.operator())
        run = await bench.place.store.run(run.id) or run
        progress = Progress()
        try:
            run = await _followed(bench, run, progress)
        finally:
            progress.end()
        code = await _tell_run(bench.place, run, as_json)
    return ExitCode.DONE if run.outcome == "cancelled" else code
