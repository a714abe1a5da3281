"""What people read of a distillation. Pure."""

from collections.abc import Mapping
from typing import Any

from storage.records import Distillation, DistillationState
from storage.values import who

TERMS = (
    "With your yes you say that your contract with the provider allows training a model of your own on its answers; read it "
    "if you are not sure."
)


def plural(count: int, one: str, many: str = "") -> str:
    """A number with its word."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def quote_lines(row: Distillation, *, confirm: str, cancel: str) -> list[str]:
    """What would happen, and how to agree to it."""
    told = row.quote
    questions, own = int(told["questions"]), int(told["own"])
    lines = []
    if questions:
        lines.append(
            f"{row.teacher} would be asked {plural(questions, 'question')} of your team, {_price(row)}."
        )
    if own:
        giver = "it" if questions else row.teacher
        lines.append(
            f"{plural(own, 'answer')} that {giver} gave people here already would be taken as "
            f"{'it is' if own == 1 else 'they are'}, for nothing."
        )
    lines.append(
        "What it says is learned by the local model alone: it is never held out to measure by, never sent to another "
        "provider, gives way to any answer of a person, and goes when the one who asked is forgotten."
    )
    if told.get("review_required"):
        lines.append(
            "REVIEW_REQUIRED is on, and nobody has read these answers: no dataset takes them until it is off."
        )
    lines += ["Left out:"] * bool(told["left_out"]) + left_out(told["left_out"])
    lines += [TERMS, f"{confirm} begins, {cancel} drops it."]
    return lines


def left_out(counts: Mapping[str, Any]) -> list[str]:
    """A line for each reason."""
    return [f"• {int(count):,}: {reason}" for reason, count in counts.items()]


def _price(row: Distillation) -> str:
    about = row.quote["about_usd"]
    stops = f"it stops at ${row.within_usd:.2f}" if row.within_usd else "nothing but your budgets limits it"
    if about is None:
        return f"for a price that nobody knows here (PRICES_FILE could tell); {stops}"
    return f"for about ${about:.2f}; {stops}" if about else "for nothing"


def status_line(row: Distillation | None, kept: int) -> str:
    """How far it is, and how many answers there are to learn from."""
    there = f"{plural(kept, 'answer')} of API models can be learned from."
    if row is None:
        return f"No API model was asked to teach yet. {there}"
    how = {
        DistillationState.QUOTED: f"A quote for {row.teacher} waits for a yes.",
        DistillationState.RUNNING: f"{row.teacher} is being asked: {_so_far(row)}.",
    }.get(row.state) or end_line(row)
    return f"{how} {there}"


def end_line(row: Distillation) -> str:
    """How it ended."""
    if row.state is DistillationState.DONE:
        missed = f" {row.reason}" if row.reason else ""
        return f"{row.teacher} was asked: {_so_far(row)}. The next training learns from that.{missed}"
    by = f" by {who(row.stopped_by)}" if row.stopped_by else ""
    reason = "" if row.reason == "cancelled" else f" {row.reason}"
    return (
        f"Asking {row.teacher} ended early{by}: {_so_far(row)}.{reason} What was answered stays; asking again goes on "
        "behind it."
    )


def _so_far(row: Distillation) -> str:
    failed = f", {row.failed:,} without an answer" if row.failed else ""
    return f"{plural(row.answered, 'answer')}{failed}, ${row.cost_usd:.2f}"
