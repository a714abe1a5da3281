"""What stands in the thread of a report: how the comparison was made, its extremes, and every answer as CSV. Pure.

Questions come from the frozen dataset, where secrets and personal data are struck out already; answers are struck out here.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.slack import report_beside
from bot.slack import report_text as words
from bot.slack.blocks import Block, context, section
from bot.slack.report_blocks import Comparison
from bot.slack.report_text import ARM_NAMES, METRICS
from bot.slack.text import escape, without_mentions
from storage.records import DatasetVersion
from storage.redaction import redact
from training.dataset_difference import Difference
from training.evaluating import CHALLENGER, MEMORY
from training.evaluation import Row, Sheet
from training.sweep_words import plainly

EXTREMES = 5
QUESTION_LIMIT, ANSWER_LIMIT = 300, 300
ORIGINS: Mapping[str, str] = {
    "entry": "from imported or verified answers",
    "rating": "from liked answers",
    "correction": "from corrections",
}
MEMORY_IS = "the nearest verified answer, with held-out questions left out"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula at the beginning of a cell."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A held-out question and the answer that is expected, as the frozen dataset has them."""

    question: str
    reference: str


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that the thread tells about a comparison. `names` are the versions' names by arm, `answering` are lines on
    how people's questions were answered lately, `sweep` is what was tried to find the plan."""

    title: str
    names: Mapping[str, str]
    sheet: Sheet
    comparison: Comparison
    asked: Mapping[str, Asked]
    dataset: DatasetVersion | None = None
    golden: Sheet | None = None
    answering: Sequence[str] = ()
    sweep: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Pair:
    """What the challenger and the arm it is compared with said to one question."""

    challenger: Row
    other: Row

    @property
    def gain(self) -> float:
        return self.challenger.scores.token_f1 - self.other.scores.token_f1


def details_message(compared: Compared, *, key: str) -> dict[str, Any]:
    """The reply in the report's thread. Its metadata carries `key`, so that it is found again and not posted twice."""
    blocks: list[Block] = [section(f"*What was compared*\n{_arms(compared)}")]
    if compared.dataset is not None:
        blocks.append(section(f"*The data*\n{_dataset(compared.dataset)}"))
    if compared.sweep is not None:
        tried = section(f"*Ways of training that were tried*\n```{plainly(compared.sweep)}```")
        blocks.append(tried)
    if compared.golden is not None:
        blocks.append(section(f"*The golden set*\n{_golden(compared.golden)}"))
    blocks += report_beside.details(compared.comparison.beside)
    if compared.answering:
        blocks.append(section("\n".join(compared.answering)))
    pairs = _pairs(compared)
    won = sorted((pair for pair in pairs if pair.gain > 0), key=lambda pair: -pair.gain)
    lost = sorted((pair for pair in pairs if pair.gain < 0), key=lambda pair: pair.gain)
    if pairs:
        same = len(pairs) - len(won) - len(lost)
        blocks.append(
            section(f"*Question by question* (token F1): better {len(won)}, equal {same}, worse {len(lost)}.")
        )
    blocks += _extremes("Where the challenger won most", won, compared)
    blocks += _extremes("Where it lost most", lost, compared)
    blocks.append(context(f"{words.METHOD} Every answer with its scores is in the CSV file."))
    return {
        "text": f"{compared.title}: how the models were compared, and every answer as CSV.",
        "blocks": blocks,
        "metadata": {"event_type": "apprentice_details", "event_payload": {"report": key}},
    }


def _arms(compared: Compared) -> str:
    lines = []
    asked = max(arm.n for arm in compared.comparison.arms)
    for arm in compared.comparison.arms:
        name = compared.names.get(arm.name) or (MEMORY_IS if arm.name == MEMORY else arm.model)
        failures = f", {arm.errors} of {arm.n} questions without an answer" if arm.errors else ""
        fewer = asked - arm.n
        failures += f", {fewer} not asked because they are from private channels" if fewer else ""
        lines.append(f"• {ARM_NAMES.get(arm.name, arm.name)}: {words.literal(name)}{failures}")
    return "\n".join(lines)


def _dataset(dataset: DatasetVersion) -> str:
    counted = (
        f"{dataset.train} examples to train on, {dataset.validation} to watch it, {dataset.test} held out"
    )
    origins = dataset.manifest.get("origins") or {}
    came = ", ".join(f"{count} {ORIGINS.get(origin, origin)}" for origin, count in origins.items())
    dropped = dataset.manifest.get("dropped") or {}
    difference = Difference.from_json(dataset.difference or {})
    left = "; ".join(f"{count} left out because {reason}" for reason, count in dropped.items())
    lines = [
        f"{counted}{f' ({came})' if came else ''}.",
        f"{left}." if left else "",
        f"Dataset `{dataset.id[:12]}`.",
        difference.in_words() if difference is not None else "",
    ]
    return " ".join(line for line in lines if line)


def _golden(golden: Sheet) -> str:
    """What each arm scored on the questions that people chose to measure models by."""
    arms = golden.arms
    scored = ", ".join(
        f"{ARM_NAMES.get(arm.name, arm.name)} {words.points(arm.scores.token_f1)}" for arm in arms
    )
    questions = "1 question" if arms[0].n == 1 else f"{arms[0].n} questions"
    return (
        f"{questions} that two people stand behind, token F1: {scored}. The verdict does not depend on them."
    )


def _pairs(compared: Compared) -> list[_Pair]:
    if not compared.comparison.against:
        return []
    others = {row.answered.example: row for row in compared.sheet.rows_of(compared.comparison.against)}
    return [_Pair(row, others[row.answered.example]) for row in compared.sheet.rows_of(CHALLENGER)]


def _extremes(title: str, pairs: Sequence[_Pair], compared: Compared) -> list[Block]:
    if not pairs:
        return []
    blocks = [section(f"*{title}*")]
    other = ARM_NAMES.get(compared.comparison.against, compared.comparison.against)
    for pair in pairs[:EXTREMES]:
        asked = compared.asked.get(pair.challenger.answered.example)
        lines = [f">{_quoted(asked.question, QUESTION_LIMIT)}" if asked else ">(the question is gone)"]
        lines += [_said("Challenger", pair.challenger), _said(other, pair.other)]
        if asked:
            lines.append(f"Expected: {_quoted(asked.reference, ANSWER_LIMIT)}")
        blocks.append(section("\n".join(lines)))
    return blocks


def _said(name: str, row: Row) -> str:
    said = row.answered.error or redact(row.answered.text).text
    score = words.points(row.scores.token_f1)
    return f"{name} ({score}): {_quoted(said, ANSWER_LIMIT) or '_nothing_'}"


def _quoted(said: str, limit: int) -> str:
    """One line of somebody's words, cut, that notifies nobody."""
    line = " ".join(without_mentions(said).split())
    return escape(line[: limit - 1] + "…" if len(line) > limit else line)


def csv_text(compared: Compared) -> str:
    """Every held-out question in a row: its ids, and for each arm the answer with its scores and seconds."""
    arms = [arm.name for arm in compared.comparison.arms]
    rows = {name: {row.answered.example: row for row in compared.sheet.rows_of(name)} for name in arms}
    held = io.StringIO(newline="")
    table = csv.writer(held)
    columns = ("answer", "error", *METRICS, "seconds")
    table.writerow(
        ["question", "thread", "split", *(f"{arm} {column}" for arm in arms for column in columns)]
    )
    for example, first in rows[arms[0]].items():
        cells: list[str] = [example, first.cluster, "test"]
        for arm in arms:
            cells += _csv_cells(rows[arm].get(example))
        table.writerow([_harmless(cell) for cell in cells])
    return held.getvalue()


def _csv_cells(row: Row | None) -> list[str]:
    """Empty ones where the arm was not asked: an API model is not told of private places."""
    if row is None:
        return [""] * (len(METRICS) + 3)
    figures = [f"{getattr(row.scores, metric):.4f}" for metric in METRICS]
    return [
        redact(row.answered.text).text,
        redact(row.answered.error).text,
        *figures,
        f"{row.answered.seconds:.3f}",
    ]


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell
