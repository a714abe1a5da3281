"""A sweep in words: how far it is, what was tried, and which of it was chosen. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.method import stage_name

SWEEP = "sweep"
"""The stage that a run's progress names while ways of training are tried."""
SWEEPERS = ("local", "ray")
"""Who can try: those whose trainer is ours."""
SHOWN = 20  # of the tried ones, in a report
FINISHED, STOPPED, FAILED = "finished", "stopped early", "failed"


def doing(progress: Mapping[str, Any]) -> str:
    """What a run that trains is at: "learning the answers", "trying 3 of 12, best held-out loss 1.234"; "": not begun."""
    if progress.get("stage") != SWEEP or not progress.get("trial"):
        return stage_name(progress.get("stage"))
    best = progress.get("best_loss")
    said = f"trying {progress['trial']} of {progress['trials']}"
    return said if best is None else f"{said}, best held-out loss {best:.3f}"


def chosen_course(told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A run's progress lines without those of the ways that were tried and not chosen; the chosen one's are SFT's."""
    chosen = next(
        (line.get("trial") for line in told if line.get("stage") == "sft" and line.get("trial")), None
    )
    return [
        {**line, "stage": "sft"} if line.get("stage") == SWEEP else dict(line)
        for line in told
        if line.get("stage") != SWEEP or line.get("trial") == chosen
    ]


def no_sweep_at(place: str) -> str:
    """To who wants a sweep of somebody who cannot."""
    return f"with={place} cannot sweep: each trial would be a job to be paid. Write with=local, or leave `sweep` away."


def why(sweep: Mapping[str, Any]) -> str:
    """For the report's last line: how the plan was found."""
    tried = list(sweep["tried"])
    best = next(each for each in tried if each["number"] == sweep["chosen"])
    stopped = sum(each["ended"] == STOPPED for each in tried)
    early = f", {stopped} of them stopped early" if stopped else ""
    rate, rank, epochs = f"{best['learning_rate']:.2g}", best["rank"], f"{best['epochs']:.3g}"
    values = f"learning rate {rate}, rank {rank}, epochs {epochs}, batch {best['batch']}"
    doubt = (
        ""
        if sweep.get("sure")
        else " The held-out examples have answers of their own, so this says less than usual."
    )
    return f"Of {len(tried)} ways tried{early}, number {best['number']} has the best held-out loss: {values}.{doubt}"


def sweep_of(card: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a model's card says of the sweep that found its plan; None where there was none."""
    stages = card.get("stages") or ()
    return next((stage["sweep"] for stage in stages if stage.get("sweep")), None)


def table(sweep: Mapping[str, Any]) -> list[list[str]]:
    """What was tried under its headers: the chosen one first, then by held-out loss, those without one last."""
    rows = sorted(
        sweep["tried"],
        key=lambda each: (
            each["number"] != sweep["chosen"],
            each["ended"] != FINISHED,
            _order(each),
            each["number"],
        ),
    )
    head = ["Tried", "Learning rate", "Rank", "Epochs", "Batch", "Held-out loss", ""]
    return [head, *(_row(each, chosen=each["number"] == sweep["chosen"]) for each in rows)]


def markdown(sweep: Mapping[str, Any]) -> list[str]:
    """The table for an adapter's card."""
    head, *rows = table(sweep)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]


def plainly(sweep: Mapping[str, Any]) -> str:
    """The table in letters of one width."""
    head, *rows = table(sweep)
    shown = [head, *rows[:SHOWN]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
    more = [f"and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return "\n".join([*lines, *more])


def _order(tried: Mapping[str, Any]) -> float:
    return float("inf") if tried["eval_loss"] is None else float(tried["eval_loss"])


def _row(tried: Mapping[str, Any], *, chosen: bool) -> list[str]:
    loss = "" if tried["eval_loss"] is None else f"{tried['eval_loss']:.4f}"
    return [
        str(tried["number"]),
        f"{tried['learning_rate']:.2g}",
        str(tried["rank"]),
        f"{tried['epochs']:.3g}",
        str(tried["batch"]),
        loss,
        "chosen" if chosen else str(tried["ended"]),
    ]
