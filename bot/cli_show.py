"""How the terminal shows things: plain tables, one line of progress, JSON for programs. Decides nothing.

Results go to stdout; whatever is said on the way goes to stderr, so that a program reads results only.
"""

import html
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from storage.records import Evaluation, TrainingRun

EVERY_S = 10.0
NARROW, WIDE = 60, 110


def tell(words: str) -> None:
    """A result, on stdout."""
    print(words, flush=True)


def say(words: str) -> None:
    """Something on the way, on stderr."""
    print(words, file=sys.stderr, flush=True)


def murmur(words: str) -> None:
    """A side note on stderr, dim where a terminal shows it."""
    typer.secho(words, dim=True, err=True)


def tell_json(value: Any) -> None:
    """One JSON document on one line of stdout."""
    tell(json.dumps(value, ensure_ascii=False, default=_plain))


def pretty_json(value: Any) -> str:
    """A JSON document for a file that people read too."""
    return json.dumps(value, ensure_ascii=False, indent=1, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns under their headers, the first one to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    numeric = [all(_number(row[place]) for row in rows[1:]) for place in range(len(widths))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    )


def _number(cell: str) -> bool:
    return bool(cell) and cell.lstrip("$+-")[:1].isdigit()


class Progress:
    """One line that is rewritten on a terminal; elsewhere a line when the stage changes, and every ten seconds."""

    def __init__(self, *, only_live: bool = False) -> None:
        self._live = sys.stderr.isatty()
        self._silent = only_live and not self._live
        self._since = time.monotonic()
        self._stage = ""
        self._said = ""
        self._said_at = 0.0

    def show(self, stage: str, detail: str = "") -> None:
        """Show where things stand; cheap to call often."""
        words = f"{stage}: {detail}" if detail else stage
        moment = time.monotonic()
        if self._live:
            line = f"{words} ({moment - self._since:.0f} s)"
            print(f"\r\x1b[2K{line[: _columns() - 1]}", end="", file=sys.stderr, flush=True)
        elif self._silent:
            return
        elif stage != self._stage or (words != self._said and moment - self._said_at >= EVERY_S):
            say(f"{words} ({moment - self._since:.0f} s)")
            self._said_at = moment
        self._stage, self._said = stage, words

    def end(self) -> None:
        """Leave the terminal's line clean."""
        if self._live and self._said:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def _columns() -> int:
    import shutil

    return max(NARROW, min(WIDE, shutil.get_terminal_size().columns))


def run_stage(run: "TrainingRun") -> tuple[str, str]:
    """The stage of a run and how far it is: ("Run #3 training", "step 20 of 60, loss 1.234, about 40 s left")."""
    if run.awaiting:
        return (
            f"Run #{run.number} waits for a yes",
            f"{run.awaiting} Answer with `/train confirm`, or cancel it.",
        )
    return f"Run #{run.number} {run.state.value}", ", ".join(_steps(run.state.value, run.progress))


def _steps(state: str, progress: Mapping[str, Any]) -> list[str]:
    if state == "evaluating" and progress.get("to_evaluate"):
        return [f"{progress['evaluated']} of {progress['to_evaluate']} answers"]
    if state != "training" or not progress.get("max_steps"):
        return []
    from training.sweep_words import doing

    parts = [doing(progress)] if doing(progress) else []
    parts.append(f"step {progress.get('step', 0)} of {progress['max_steps']}")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.3f}")
    if progress.get("eval_loss") is not None:
        parts.append(f"held-out loss {progress['eval_loss']:.3f}")
    if progress.get("tokens_per_s"):
        parts.append(f"{progress['tokens_per_s']:,.0f} tokens/s")
    if progress.get("eta_s"):
        parts.append(f"about {span(progress['eta_s'])} left")
    return parts


def span(seconds: float) -> str:
    """A length of time in words: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def scores(evaluation: "Evaluation") -> str:
    """The scores of every model side by side, the difference with its interval, and the verdict."""
    from bot.slack import report_beside
    from bot.slack.report_text import ARM_NAMES, METRICS, difference_line
    from training.evaluation import Sheet

    arms = Sheet.from_json(evaluation.sheet).arms
    rows = [["", *(ARM_NAMES.get(arm.name, arm.name) for arm in arms)]]
    for metric, words in METRICS.items():
        rows.append(
            [words, *("failed" if arm.failed else f"{getattr(arm.scores, metric):.3f}" for arm in arms)]
        )
    beside = report_beside.of(evaluation.sheet)
    shares = [report_beside.refusal_share(beside, arm.name) for arm in arms]
    if any(share is not None for share in shares):
        rows.append(["Refusals", *("" if share is None else f"{share:.3f}" for share in shares)])
    rows.append(["Seconds, median", *(f"{arm.latency_p50_s:.2f}" for arm in arms)])
    rows.append(["Seconds, 95 %", *(f"{arm.latency_p95_s:.2f}" for arm in arms)])
    rows.append(["$ per 1,000", *(f"{1000 * arm.cost_usd / arm.n:.2f}" for arm in arms)])
    rows.append(["Held-out questions", *(str(arm.n) for arm in arms)])
    lines = [table(rows)]
    lines += [
        f"{ARM_NAMES.get(arm.name, arm.name)} gave no answer: {arm.failed}" for arm in arms if arm.failed
    ]
    by_topic = report_beside.topic_rows(beside, [arm.name for arm in arms])
    if len(by_topic) > 2:
        lines += ["", "Token F1 by topic", table(by_topic), ""]
    lines += [html.unescape(line).removeprefix(":no_entry: ") for line in report_beside.lines(beside)]
    if evaluation.verdict:
        lines += [difference_line(evaluation.verdict), verdict_line(evaluation.verdict)]
    return "\n".join(line for line in lines if line)


def verdict_line(verdict: Mapping[str, Any]) -> str:
    """The verdict in words, with its reason."""
    return f"Verdict: {str(verdict['outcome']).replace('-', ' ')}. {verdict['reason']}"


def evaluation_json(evaluation: "Evaluation") -> dict[str, Any]:
    """An evaluation for programs: arms in figures, verdict; not every answer."""
    from dataclasses import asdict

    from training.evaluation import Sheet

    return {
        "number": evaluation.number,
        "state": evaluation.state.value,
        "reason": evaluation.reason,
        "requested_by": evaluation.requested_by,
        "requested_at": evaluation.requested_at,
        "finished_at": evaluation.finished_at,
        "arms": [asdict(arm) for arm in Sheet.from_json(evaluation.sheet).arms] if evaluation.sheet else [],
        **{name: (evaluation.sheet or {}).get(name) for name in ("refusals", "topics", "probes", "judge")},
        "verdict": evaluation.verdict or None,
    }


def run_json(run: "TrainingRun", *, model: str, evaluation: "Evaluation | None" = None) -> dict[str, Any]:
    """A run for programs; `model` is the name of the version that it made, "" where it made none."""
    return {
        "number": run.number,
        "id": run.id,
        "state": run.state.value,
        "outcome": run.outcome,
        "reason": run.reason,
        "requested_by": run.requested_by,
        "requested_at": run.requested_at,
        "finished_at": run.finished_at,
        "options": run.options,
        "dataset": run.dataset_id,
        "progress": run.progress,
        "model": model or None,
        "evaluation": evaluation_json(evaluation) if evaluation is not None else None,
    }
