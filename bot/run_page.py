"""The report of a training run as one page of HTML: what Slack shows, with its curves and every topic. Pure."""

import re
from collections.abc import Mapping, Sequence
from html import escape, unescape
from typing import Any

from bot import pages
from bot.slack import report_beside
from bot.slack.charts import Chart, Kind
from bot.slack.report_blocks import Comparison, Look, run_report
from storage.records import TrainingRun

FOOTER = "Made by Apprentice. Every answer with its scores is in the CSV file in the report's thread."
_EMOJI = re.compile(r":[a-z0-9_+-]+:\s?")
_BOLD = re.compile(r"\*([^*\n]+)\*")
_PERSON = re.compile(r"<@([A-Z0-9]+)>")
_CODE = re.compile(r"`([^`\n]+)`")


def page(run: TrainingRun, comparison: Comparison | None, charts: Sequence[Chart]) -> str:
    """The whole page, as the run stands now."""
    shown = run_report(run, comparison=comparison, look=Look.NO_PICTURES)
    blocks = [block for block in shown["blocks"] if block["type"] != "header"]
    body = "".join(_block(block) for block in blocks) + "".join(_drawn(chart) for chart in charts)
    if comparison is not None and comparison.beside.get("topics"):
        head, *rows = report_beside.topic_rows(comparison.beside, [arm.name for arm in comparison.arms])
        body += "<h2>Topic by topic (token F1)</h2>\n" + pages.table(head, rows)
    return pages.document(f"Training run #{run.number}", body, FOOTER)


def _block(block: Mapping[str, Any]) -> str:
    """A block of Slack's as HTML; "" for what a page has no use for, such as buttons."""
    match block["type"]:
        case "section" if "text" in block:
            return f"<p>{markup(str(block['text']['text']))}</p>\n"
        case "context":
            said = "<br>".join(markup(str(each.get("text", ""))) for each in block["elements"])
            return f'<p class="soft">{said}</p>\n'
        case "table":
            head, *rows = [[_cell(cell) for cell in row] for row in block["rows"]]
            return pages.table(head, rows)
    return ""


def _cell(cell: Mapping[str, Any]) -> str:
    return str(cell.get("text", ""))


def markup(said: str) -> str:
    """Slack's marks as HTML: bold, code, lines; pictures of faces are left out, and what people wrote is text."""
    text = escape(unescape(_PERSON.sub(r"@\1", _EMOJI.sub("", said))))
    text = _CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<strong>\1</strong>", text))
    return text.replace("\n", "<br>")


def _drawn(chart: Chart) -> str:
    if chart.kind is Kind.LINE:
        return pages.curves(chart.title, chart.categories, chart.series, axis=chart.x_label)
    return "".join(
        pages.bars(f"{metric}, of 100", {name: values[at] for name, values in chart.series.items()}, most=100)
        for at, metric in enumerate(chart.categories)
    )
