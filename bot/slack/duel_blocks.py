"""A duel as messages of Slack, blind while it is open and told when it is closed, and what is said about duels. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bot.slack import markdown, text
from bot.slack.blocks import Block, button, context, section
from storage.duels import DuelShown, DuelTally
from storage.records import Candidate

TOGETHER_LIMIT = 11_000  # a payload takes 12,000 characters of markdown, all its blocks together about 13,200
APART_LIMIT = 11_000
EVENT = "apprentice_duel"
DIVIDER: Block = {"type": "divider"}
PICK_ACTIONS: Mapping[str, str] = {
    "duel_pick_a": "a",
    "duel_pick_b": "b",
    "duel_pick_tie": "tie",
    "duel_pick_both_bad": "both bad",
}
"""Which button is which pick."""

BUTTONS: Mapping[str, str] = {"a": "A is better", "b": "B is better", "tie": "Tie", "both bad": "Both bad"}
OUTCOMES: Mapping[str, str] = {
    "a": "A won.",
    "b": "B won.",
    "tie": "It is a tie.",
    "both bad": "Both were found bad.",
    "": "Nobody picked.",
}
WHICH = "Which answer is better?"
GONE = "This duel is no longer there; perhaps its question was deleted."
CLOSED = "This duel is closed already. Thank you all the same."
ALIKE = "Both models gave the same answer, so there is nothing to compare. It follows as a normal answer."
ALONE = "Only one model could answer just now, so there is nothing to compare. Its answer follows as a normal one."


def picked(pick: str) -> str:
    """What somebody who picked is told, and nobody else."""
    meant = {"a": "A is better", "b": "B is better", "tie": "it is a tie", "both bad": "both are bad"}[pick]
    return f"Thank you, you picked: {meant}. You can change it until the duel closes."


def rules(*, votes: int, hours: float, direct: bool) -> str:
    """The line below the buttons of an open duel."""
    blind = "Who wrote which stays hidden until the duel closes"
    if direct:
        return f"{blind}, with your pick."
    after = "the first pick" if votes == 1 else f"{votes} picks"
    return f"{blind}, after {after} or {_hours(hours)}. Nobody sees what you pick."


def open_messages(shown: DuelShown, *, votes: int, hours: float, direct: bool) -> list[dict[str, Any]]:
    """The duel while it is open: one message, or three where the answers do not fit into one. The last has the buttons."""
    below = [*_buttons(shown.duel.id), context(rules(votes=votes, hours=hours, direct=direct))]
    return _messages(shown, below, text_of_last=WHICH)


def closed_message(shown: DuelShown) -> dict[str, Any]:
    """What the last message of a duel becomes when it is closed: the outcome, and who was who."""
    return _messages(shown, [section(_result(shown)), *_who_was_who(shown)], _result(shown))[-1]


def tally_line(tally: DuelTally) -> str:
    """What came of duels so far, on one line; "" while there were none."""
    if not tally.decided:
        return f"{tally.open} open" if tally.open else ""
    scores = sorted(tally.fought.items(), key=lambda each: (-tally.wins.get(each[0], 0), each[0]))
    parts = [f"{text.escape(model)} won {tally.wins.get(model, 0)} of {fought}" for model, fought in scores]
    parts += [f"{tally.ties} tied", f"{tally.both_bad} both bad"]
    if tally.open:
        parts.append(f"{tally.open} open")
    return ", ".join(parts)


def _messages(shown: DuelShown, below: Sequence[Block], text_of_last: str) -> list[dict[str, Any]]:
    a, b = _said(shown.a), _said(shown.b)
    if len(a) + len(b) <= TOGETHER_LIMIT:
        return [
            _message(
                shown, "picks", [*_answer("A", a), DIVIDER, *_answer("B", b), DIVIDER, *below], text_of_last
            )
        ]
    return [
        _message(shown, "a", _answer("A", _cut(a)), "Answer A"),
        _message(shown, "b", _answer("B", _cut(b)), "Answer B"),
        _message(shown, "picks", [section(f"*{WHICH}*"), *below], text_of_last),
    ]


def _message(shown: DuelShown, part: str, blocks: list[Block], words: str) -> dict[str, Any]:
    return {
        "text": words,
        "blocks": blocks,
        "metadata": {"event_type": EVENT, "event_payload": {"duel_id": shown.duel.id, "part": part}},
    }


def _answer(name: str, said: str) -> list[Block]:
    return [section(f"*Answer {name}*"), {"type": "markdown", "text": said}]


def _said(candidate: Candidate) -> str:
    return text.without_mentions(candidate.text.strip())


def _cut(said: str) -> str:
    """Both answers are cut at the same length, so that neither looks more complete."""
    if len(said) <= APART_LIMIT:
        return said
    return markdown.split(said, APART_LIMIT)[0] + "\n\n_(cut: too long for one message)_"


def _buttons(duel_id: str) -> list[Block]:
    buttons = [button(BUTTONS[pick], action_id, duel_id) for action_id, pick in PICK_ACTIONS.items()]
    return [{"type": "actions", "elements": buttons}]


def _result(shown: DuelShown) -> str:
    counts = Counter(each.pick for each in shown.picks)
    told = ", ".join(f"{BUTTONS[pick]}: {counts[pick]}" for pick in BUTTONS if counts[pick])
    said = OUTCOMES[shown.duel.outcome]
    return f"*The duel is closed.* {said}" + (f" ({told})" if told else "")


def _who_was_who(shown: DuelShown) -> list[Block]:
    return [
        context(f"*{name}* was {text.escape(each.model)}{_origin(each)} · {each.seconds:.1f} s")
        for name, each in (("A", shown.a), ("B", shown.b))
    ]


def _origin(candidate: Candidate) -> str:
    return f" (verified answer, from {text.escape(candidate.source)})" if candidate.source else ""


def _hours(hours: float) -> str:
    if hours == 1:
        return "an hour"
    return f"{hours:g} hours"
