"""Canaries as Block Kit: how one stands, how it ended, and what admins may decide. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.slack.blocks import Block, context, plain, section
from bot.slack.report_text import clock, literal
from storage.records import Canary, CanaryState
from storage.values import who
from training.canary import CanaryTerms, Side, Tally

PROMOTE, BACK, AGAIN = "canary_promote", "canary_back", "canary_again"
SELECTION = (
    "The comparison counts every rating: threads are drawn, so that both sides are volunteered for alike while both answer "
    "equally well. Who volunteers is more often cross, so a satisfaction is read from asked-for ratings only."
)
ENDED: Mapping[CanaryState, str] = {
    CanaryState.PROMOTED: "is promoted",
    CanaryState.ROLLED_BACK: "is rolled back",
    CanaryState.STOPPED: "is over without a result",
}


@dataclass(frozen=True, slots=True)
class Names:
    """What people call both sides, and who may press."""

    canary: str
    current: str
    admins: tuple[str, ...] = ()


def goes_on(canary: Canary, tally: Tally, names: Names) -> dict[str, Any]:
    """The one message of a canary while it is watched."""
    terms = CanaryTerms.from_json(canary.specification)
    headline = (
        f"*{names.canary} answers {canary.share:.0%} of the threads* since "
        f"{clock(canary.started_at, canary.started_at)}, asked for by {who(canary.started_by)}. "
        f"{names.current} answers the others."
    )
    blocks = [section(headline)]
    if canary.passed_at is not None:
        blocks.append(section(f"*Seen enough: promote it?* {_sentence(canary.reason)}"))
    blocks += [*figures(tally, names), context(agreed(terms, tally, canary))]
    promote = _button(
        f"Promote {names.canary}", PROMOTE, canary.id, names, style="primary" * bool(canary.passed_at)
    )
    promote["confirm"] = _confirm("Promote?", f"{names.canary} will answer every thread.", "Promote")
    back = _button("Roll back", BACK, canary.id, names, style="danger")
    back["confirm"] = _confirm("Roll back?", f"{names.current} will answer every thread again.", "Roll back")
    blocks.append({"type": "actions", "elements": [promote, back]})
    said = f"Canary: {names.canary} answers {canary.share:.0%} of the threads."
    return _message(said, blocks, canary, "watching")


def closed(canary: Canary, tally: Tally, names: Names) -> dict[str, Any]:
    """The same message once it is over: no buttons, and how it ended."""
    blocks = [section(ended_line(canary, names)), *figures(tally, names)]
    return _message(f"Canary: {names.canary} {ENDED[canary.state]}.", blocks, canary, "watching")


def ended(canary: Canary, tally: Tally, names: Names) -> dict[str, Any]:
    """A message of its own at the end, so that people are notified. One without a result asks what to do."""
    blocks: list[Block] = [section(ended_line(canary, names)), *figures(tally, names)]
    if canary.state is CanaryState.STOPPED:
        promote = _button(f"Promote {names.canary}", PROMOTE, canary.id, names)
        promote["confirm"] = _confirm(
            "Promote?",
            f"{names.canary} will answer every thread. The canary did not show that it is as good.",
            "Promote",
        )
        again = _button("Canary again", AGAIN, canary.id, names)
        blocks.append({"type": "actions", "elements": [promote, again]})
    return _message(f"Canary: {names.canary} {ENDED[canary.state]}. {canary.reason}", blocks, canary, "ended")


def ended_line(canary: Canary, names: Names) -> str:
    """How a canary ended, by whom or what, and what answers now."""
    serves = names.canary if canary.state is CanaryState.PROMOTED else names.current
    by = f" ({who(canary.ended_by)})" if canary.ended_by else ""
    return f"*{names.canary} {ENDED[canary.state]}*{by}: {_sentence(canary.reason)} {serves} answers every thread."


def figures(tally: Tally, names: Names) -> list[Block]:
    """Both sides, a line each."""
    return [context(_side(names.canary, tally.canary)), context(_side(names.current, tally.current))]


def _side(name: str, side: Side) -> str:
    said = [f"{name}: {_count(side.answers, 'answer')}"]
    if side.rated:
        asked = (
            f"; asked for: {side.asked_liked:.0%} of {side.asked}" if side.asked else "; none was asked for"
        )
        said.append(f"{_count(side.rated, 'thread')} rated, {side.liked:.0%} liked{asked}")
    else:
        said.append("not rated yet")
    if side.answers:
        said.append(f"median {side.seconds:.1f} s")
    for number, what in ((side.failures, "failed"), (side.empty, "empty"), (side.refused, "refused")):
        if number:
            said.append(f"{number} {what}")
    return " · ".join(said)


def agreed(terms: CanaryTerms, tally: Tally, canary: Canary) -> str:
    """What ends it, how near that is, and the hash of what was agreed."""
    digest = str(canary.specification.get("sha256", ""))[:8]
    return (
        f"Odds that it is rated worse: {tally.odds:.1f} to 1; at {1 / terms.alpha:.0f} to 1 it goes back by itself. "
        f"Enough: {terms.enough} rated threads on each side, at the latest after {terms.days:.0f} days. "
        f"Specification `{digest}`. {SELECTION}"
    )


def fell(name: str, answers: str, why: str) -> str:
    """One sentence in the admin channel: the promoted version cannot answer."""
    return f":warning: {name} is promoted but cannot answer, so {answers} answers instead: {literal(why)}"


# --- Parts --------------------------------------------------------------------------------------------------


def _button(label: str, action_id: str, value: str, names: Names, *, style: str = "") -> Block:
    button: Block = {"type": "button", "action_id": action_id, "text": plain(label[:75]), "value": value}
    if names.admins:
        button["visible_to_user_ids"] = list(names.admins)
    return button | ({"style": style} if style else {})


def _confirm(title: str, said: str, yes: str) -> Block:
    return {"title": plain(title), "text": plain(said[:300]), "confirm": plain(yes), "deny": plain("Not now")}


def _message(said: str, blocks: Sequence[Block], canary: Canary, moment: str) -> dict[str, Any]:
    metadata = {
        "event_type": "apprentice_canary",
        "event_payload": {"canary_id": canary.id, "moment": moment},
    }
    return {"text": said[:2_900], "blocks": list(blocks), "metadata": metadata}


def _sentence(reason: str) -> str:
    said = literal(reason.strip())
    return f"{said[:1].upper()}{said[1:]}".rstrip(".") + "." if said else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
