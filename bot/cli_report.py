"""The terminal's command about how it goes: report."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot import cli_options as options
from bot.cli_options import DataDir, EnvFile, ExitCode
from bot.cli_show import tell
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.digest import Digest
    from bot.settings import Settings


class Form(StrEnum):
    """How a report is written."""

    TEXT = "text"
    CSV = "csv"
    HTML = "html"


def report(
    week: Annotated[
        str, typer.Option("--week", metavar="WEEK", help="this, last, or one such as 2026-W47; last.")
    ] = "",
    since: Annotated[
        str, typer.Option("--since", metavar="DAY", help="Instead of a week: from this day, 2026-11-01.")
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="DAY", help="To this day, included; today.")] = "",
    run: Annotated[
        int | None, typer.Option("--run", metavar="N", help="Instead of a week: a training run, as HTML.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How it is written.")] = Form.TEXT,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there; the terminal.")
    ] = None,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Show what a week was like: questions, answers, how content people are, spending, what went wrong; or a training run.

    \b
    Example: apprentice report --format html --out week.html
    Example: apprentice report --run 3 --out run.html
    """
    settings = options.settings_from(data_dir, env_file)
    if run is not None:
        if week or since or until:
            raise PublicError("Name a run, or a week, or days; not both.")
        options.carry_out(_run_report(settings, run, out))
    options.carry_out(_report(settings, week, since, until, form, out))


async def _report(
    settings: "Settings", week: str, since: str, until: str, form: Form, out: Path | None
) -> ExitCode:
    from bot.digest import days_named, gather, week_named

    if week and (since or until):
        raise PublicError("Name a week, or days with --since and --until; not both.")
    if until and not since:
        raise PublicError("--until needs --since: from which day on?")
    zone = settings.timezone
    period = days_named(since, until, zone) if since else week_named(week, zone)
    async with options.opened(settings) as place:
        told = await gather(place.store, place.team, period, timezone=zone)
        before = await gather(place.store, place.team, period.before, timezone=zone)
    return _put(_written(told, before, form), out)


async def _run_report(settings: "Settings", number: int, out: Path | None) -> ExitCode:
    from bot.run_page import page
    from bot.slack.charts import loss_chart, score_chart
    from bot.slack.report_blocks import comparison_of
    from training.rundir import read_progress
    from training.sweep_words import chosen_course

    async with options.opened(settings) as place:
        run = await place.store.run_numbered(number)
        if run is None:
            raise PublicError(f"There is no training run #{number}. `apprentice runs` lists them.")
        evaluation = await place.store.evaluation(run.evaluation_id or "")
    comparison = comparison_of(evaluation) if evaluation is not None and evaluation.sheet else None
    course = chosen_course(read_progress(Path(run.directory))) if run.directory else []
    charts = [loss_chart(course), score_chart(comparison.arms) if comparison is not None else None]
    return _put(page(run, comparison, [chart for chart in charts if chart is not None]), out)


def _put(written: str, out: Path | None) -> ExitCode:
    if out is None:
        tell(written.rstrip("\n"))
        return ExitCode.DONE
    try:
        out.write_text(written, encoding="utf-8", newline="")
    except OSError as error:
        raise PublicError(f"{out} cannot be written ({error.strerror}). Name another file.") from None
    tell(f"Written to {out}.")
    return ExitCode.DONE


def _written(told: "Digest", before: "Digest", form: Form) -> str:
    from bot.digest_page import page
    from bot.digest_words import csv_text, lines, title

    if form is Form.HTML:
        return page(told, before)
    if form is Form.CSV:
        return csv_text(told)
    return "\n".join([title(told), *(line.replace("*", "") for line in lines(told, before))])
