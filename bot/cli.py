"""The command `apprentice`: what it can do, in the order in which somebody meets it.

This page declares the commands and carries out those that keep running (serve, rehearse) and doctor; the others are in
the other `cli_` files. Importing it loads no model, no Slack and no SDK.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot import (
    cli_backup,
    cli_data,
    cli_datasets,
    cli_distil,
    cli_formats,
    cli_golden,
    cli_guards,
    cli_learning,
    cli_models,
    cli_report,
    cli_review,
    cli_spending,
    cli_workspace,
)
from bot import cli_options as options
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode
from bot.cli_show import murmur, say, tell, tell_json
from bot.errors import ModelUnavailable, PublicError

if TYPE_CHECKING:
    from bot.app import Bot
    from bot.settings import Settings

app = typer.Typer(
    name="apprentice",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code. What is wrong is said in plain sentences, without a traceback."""
    try:
        app(args=arguments, prog_name="apprentice")
    except (PublicError, ModelUnavailable) as error:
        say(str(error))
    except Exception as error:
        from storage.database import in_words

        words = in_words(error)
        if words is None:
            raise
        say(words)
    sys.exit(ExitCode.ERROR)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            tell(f"apprentice {version('apprentice-bot')}")
        except PackageNotFoundError:
            tell("apprentice (not installed as a package)")
        raise typer.Exit


@app.callback()
def _apprentice(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A Slack bot that answers a team's questions, learns from the ratings, and says honestly whether it got better.

    With no settings at all `apprentice serve` opens a local workspace in your browser; nothing leaves this machine.
    `.env.example` explains the settings, and `apprentice doctor` says what is configured and what is missing.

    \b
    Exit codes:
      0    done
      1    an error, said in one plain sentence
      2    wrong usage
      3    nothing was done: declined, nothing there, or you said no
      4    a training run, an evaluation or a rehearsal failed
      130  interrupted
    """


def serve(data_dir: DataDir = None, env_file: EnvFile = None) -> None:
    """Start the bot: on the local workspace, or on Slack where tokens are set.

    It prints one address when it is ready, and stops in order on Ctrl-C or SIGTERM.

    \b
    Example: apprentice serve --data-dir data
    """
    from bot import logs
    from bot.doctor import missing

    settings = options.settings_from(data_dir, env_file)
    logs.set_up(settings.log_level, settings.log_format)
    for finding in missing(settings):
        murmur(f"{finding.topic}: {finding.words}")
    options.carry_out(_serve(settings))


async def _serve(settings: "Settings") -> ExitCode:
    stop = _stop_signal()
    from bot import app as bot_app

    since = time.monotonic()
    say(f"Starting on {settings.data_dir}: the database, memory and {_where(settings)} ...")
    starting = asyncio.ensure_future(bot_app.start(settings, say=say))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return ExitCode.DONE
    stopping.cancel()
    bot = starting.result()
    say(
        f"Started in {time.monotonic() - since:.1f} s, with {len(bot.workshop.memory):,} verified answers in memory."
    )
    await _show_legal_note(bot, settings)
    tell(_ready(bot, settings))
    await stop.wait()
    say("Stopping: answers in progress are finished first. Ctrl-C again stops at once.")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(number)
    await bot.stop()
    say("Stopped. Trainers that were at work go on, and are found again at the next start.")
    return ExitCode.DONE


async def _show_legal_note(bot: "Bot", settings: "Settings") -> None:
    """What has to be read before anything is learned from Slack, until somebody said that they did."""
    from bot import legal

    if settings.on_slack and await legal.acknowledged(bot.workshop.store, bot.workshop.team) is None:
        say(legal.in_plain_words())
        say(legal.NOT_READ.replace("`", "").replace("*", ""))


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _where(settings: "Settings") -> str:
    return "Slack" if settings.on_slack else "the local workspace"


def _ready(bot: "Bot", settings: "Settings") -> str:
    if bot.url:
        return f"Open {bot.url} in your browser. Ctrl-C stops the bot."
    by = "Socket Mode" if bot.place.app_token else f"HTTP on port {settings.http_port}, path /slack/events"
    return f"Connected to Slack, workspace {bot.workshop.team}, by {by}. Mention me in a channel. Ctrl-C stops the bot."


def doctor(
    online: Annotated[
        bool,
        typer.Option("--online", help="Also call the configured APIs and Slack, and load the local model."),
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Say what is configured, what is missing, what is used instead, and the remedy; one line each.

    Lines begin with ok, note or PROBLEM; the exit code is 1 if there is a problem. No secret is ever shown.

    \b
    Example: apprentice doctor --online
    """
    from bot.doctor import examine
    from bot.findings import Mark

    findings = asyncio.run(examine(lambda: options.settings_from(data_dir, env_file), online=online))
    problems = sum(finding.mark is Mark.PROBLEM for finding in findings)
    if as_json:
        tell_json({"ok": not problems, "findings": [finding.to_json() for finding in findings]})
    else:
        for finding in findings:
            tell(f"{finding.mark:<7}  {finding.topic}: {finding.words}")
        tell(_summary(problems))
    raise typer.Exit(ExitCode.ERROR if problems else ExitCode.DONE)


def _summary(problems: int) -> str:
    if not problems:
        return "Everything that is needed is there."
    return "There is 1 problem." if problems == 1 else f"There are {problems} problems."


def rehearse(
    faq: Annotated[
        Path | None,
        typer.Option("--faq", metavar="FILE", help="Your own questions and answers; the handbook."),
    ] = None,
    as_json: AsJson = False,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="A fresh folder that is kept; a temporary one."),
    ] = None,
) -> None:
    """Play the whole loop without a person: ask, rate, correct, train, evaluate, promote, ask again.

    Simulated people do so over Slack's protocol, in a fresh folder and with no settings but the defaults. The exit code
    is 0 only if every stage really happened.

    \b
    Example: apprentice rehearse --faq faq.jsonl
    """
    from bot import logs

    logs.set_up("ERROR", "auto")
    options.carry_out(_rehearse(faq, data_dir, as_json))


async def _rehearse(faq: Path | None, data_dir: Path | None, as_json: bool) -> ExitCode:
    from bot.rehearse import rehearse as play

    report = await play(faq=faq, data_dir=data_dir, say=say if as_json else tell)
    if as_json:
        tell_json(report.to_json())
    return ExitCode.DONE if report.ok else ExitCode.FAILED


COMMANDS: Sequence[tuple[str, Callable[..., None], str]] = (
    ("serve", serve, "Start the bot."),
    ("doctor", doctor, "Say what is configured, what is missing, and the remedy."),
    ("ask", cli_data.ask, "Ask a question here, without Slack."),
    ("import", cli_formats.import_file, "Import questions and answers from a file."),
    ("train", cli_learning.train, "Train on what people said, and evaluate the result."),
    ("eval", cli_learning.evaluate, "Compare the models on held-out questions."),
    ("runs", cli_learning.runs, "List the training runs, watch one, or stop one."),
    ("distil", cli_distil.distil, "Let an API model answer, so that the local one can learn it."),
    ("models", cli_models.models, "List the models, and which of them answers."),
    ("promote", cli_models.promote, "Let a model answer from now on."),
    ("rollback", cli_models.rollback, "Let the model before it answer again."),
    ("experts", cli_guards.experts, "List the experts, or say who is one."),
    ("quarantine", cli_guards.quarantine, "List what is kept out of learning, and decide about it."),
    ("review", cli_review.review, "Review what would be learned from next, one at a time."),
    ("golden", cli_golden.golden, "Look after the questions by which every model is measured."),
    ("report", cli_report.report, "Show what a week was like, as text, CSV or a page."),
    ("spending", cli_spending.spending, "Show what API models cost, by model and channel."),
    ("datasets", cli_datasets.datasets, "List the frozen datasets, or say what changed between two."),
    ("lineage", cli_datasets.lineage, "Say where something came from, and what learned from it."),
    ("export", cli_formats.export, "Export the examples, or what is held of a person."),
    ("forget", cli_data.forget, "Delete everything of a person."),
    ("acknowledge", cli_data.acknowledge, "Say that you have read what holds for training on Slack."),
    ("backup", cli_backup.backup, "Back up the database, the models and the datasets."),
    ("restore", cli_backup.restore, "Put back what a backup holds."),
    ("rehearse", rehearse, "Play the whole loop without a person."),
    ("workspace", cli_workspace.workspace, "Start the local workspace alone, for any Slack app."),
)

for _name, _command, _short_help in COMMANDS:
    app.command(_name, short_help=_short_help)(_command)


if __name__ == "__main__":
    main()
