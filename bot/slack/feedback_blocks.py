"""What people see when they rate, correct, allow, and look at what is held of them. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from bot.slack import text
from bot.slack.blocks import (
    BETTER,
    CONSENT,
    CORRECTION_VIEW,
    MAY_TRAIN,
    RATE,
    REASON,
    Block,
    button,
    plain,
    section,
)

TAKE_BACK, SAY_WRONG = "take_back", "say_what_was_wrong"
FORGET_ME, EXPORT_ME = "forget_me", "export_me"
NOTICE_VIEW = "notice"

WHAT_WAS_WRONG = "Thank you, your vote is kept. What was wrong?"
TAKEN_BACK = "Your vote is taken back."
NO_VOTE_LEFT = "There was no vote of yours left to take back."
NO_WINDOW = "Slack did not open the window in time. Please press again."
IMPROVEMENT_EMPTY = "Please write the better answer, or close this window."
NOT_AN_ANSWER = (
    "This message is not an answer of mine, so there is nothing here that I could do better. "
    "Choose *Improve this answer* in the menu of a message in which I answered somebody."
)
ONE_MOMENT = "_One moment…_"
DELETING = "Deleting everything of yours…"
EXPORTED = "I have sent you a direct message with a file: everything that I hold of you."
EXPORT_COMMENT = "Everything that I hold of you. `/apprentice privacy` deletes it."
EXPORT_CUT = (
    "… Slack did not take the file, so this is only the beginning. Whoever runs me can give you all of it."
)
NOTHING_HELD = "I hold nothing of you."
PRIVACY_USAGE = (
    "`/apprentice privacy` shows what I hold of you; `yes` and `no` change whether it may be used for "
    "training, `export` sends it to you, `delete` deletes it."
)
SURE_TO_DELETE = "*Delete everything of yours?* This cannot be undone."


@dataclass(frozen=True, slots=True)
class About:
    """Which answer a correction window is about, where it stands, and whether a thumbs-down opened it.

    Without an `answer_id` the answer is the one that message `ts` of `channel` belongs to.
    """

    answer_id: str
    channel: str
    thread_ts: str = ""
    ts: str = ""
    voted: bool = False

    @classmethod
    def from_view(cls, view: Mapping[str, Any]) -> Self:
        """What `correction_view` wrote into its view."""
        return cls(**json.loads(view["private_metadata"]))


def correction_view(about: About, *, question: str, said: str, agreed: bool) -> dict[str, Any]:
    """The window for the better answer. What is not known yet is "", and one moment is asked for.

    The box for training is ticked only for who has `agreed` before. Its block has another id then: Slack shows the new tick
    only in a block that is new to it, and the other blocks keep what was typed meanwhile.
    """
    agree = {"text": plain("My words here may be used to train this team's model"), "value": "yes"}
    training: Block = {"type": "checkboxes", "action_id": MAY_TRAIN, "options": [agree]}
    if agreed:
        training["initial_options"] = [agree]
    return {
        "type": "modal",
        "callback_id": CORRECTION_VIEW,
        "private_metadata": json.dumps(asdict(about)),
        "notify_on_close": True,
        "title": plain("What was wrong?" if about.voted else "Improve this answer"),
        "submit": plain("Send"),
        "close": plain("Only the vote" if about.voted else "Cancel"),
        "blocks": [
            section(f"*Question*\n{shortened(question, 1000) or ONE_MOMENT}"),
            section(f"*Answer*\n{shortened(said, 1800) or ONE_MOMENT}"),
            _reason_input(),
            _better_input(about),
            _input(f"{MAY_TRAIN}-agreed" if agreed else MAY_TRAIN, "Training", training),
        ],
    }


def _reason_input() -> Block:
    options = [{"text": plain(words), "value": value} for value, words in text.REASONS.items()]
    element = {"type": "radio_buttons", "action_id": REASON, "options": options}
    return _input(REASON, "Why was it not good?", element)


def _better_input(about: About) -> Block:
    only_why = " Leave it empty to give the reason only." if about.voted else ""
    element = {"type": "plain_text_input", "action_id": BETTER, "multiline": True, "max_length": 3000}
    made = _input(BETTER, "The better answer", element)
    return {**made, "hint": plain(f"As you would answer a colleague.{only_why}")}


def _input(block_id: str, label: str, element: Block) -> Block:
    return {
        "type": "input",
        "block_id": block_id,
        "optional": True,
        "label": plain(label),
        "element": element,
    }


def notice_view(title: str, words: str) -> dict[str, Any]:
    """A window that only says something."""
    return {
        "type": "modal",
        "callback_id": NOTICE_VIEW,
        "title": plain(title),
        "close": plain("Close"),
        "blocks": [section(words)],
    }


def thanks(answer_id: str) -> list[Block]:
    """After a thumbs-up: thanks, and the way back."""
    return [{**section(text.THANKS), "accessory": button("Take it back", TAKE_BACK, answer_id)}]


def what_was_wrong(answer_id: str) -> list[Block]:
    """After a thumbs-down that could not open the window by itself."""
    say = button("Say what was wrong", SAY_WRONG, answer_id)
    back = button("Take it back", TAKE_BACK, answer_id)
    return [section(WHAT_WAS_WRONG), {"type": "actions", "elements": [say, back]}]


def consent_message() -> dict[str, Any]:
    """Asked once, in plain words."""
    yes = button("Yes, you may", f"{CONSENT}_yes", "yes", style="primary")
    no = button("No, thank you", f"{CONSENT}_no", "no")
    return {
        "text": text.CONSENT_ASK,
        "blocks": [section(text.CONSENT_ASK), {"type": "actions", "elements": [yes, no]}],
    }


def privacy_message(said: str, *, agreed: bool | None) -> dict[str, Any]:
    """What is held, with the buttons that change it."""
    return {"text": said, "blocks": [section(said), privacy_buttons(agreed)]}


def privacy_buttons(agreed: bool | None) -> Block:
    """Yes and no to training, as far as they would change anything; export; delete."""
    yes = button("I agree to training", f"{CONSENT}_yes", "yes", style="primary")
    no = button("Withdraw my consent" if agreed else "I do not agree", f"{CONSENT}_no", "no")
    flips = {True: [no], False: [yes], None: [yes, no]}[agreed]
    return {
        "type": "actions",
        "elements": [*flips, button("Send me everything", EXPORT_ME, "me"), _forget_button()],
    }


def delete_message() -> dict[str, Any]:
    """What `/apprentice privacy delete` asks before it does anything."""
    return {
        "text": SURE_TO_DELETE,
        "blocks": [section(SURE_TO_DELETE), {"type": "actions", "elements": [_forget_button()]}],
    }


def _forget_button() -> Block:
    forget = button("Delete everything of mine", FORGET_ME, "me", style="danger")
    forget["confirm"] = {
        "title": plain("Delete everything?"),
        "text": plain("Your questions with their answers, your votes and corrections are deleted for good."),
        "confirm": plain("Delete"),
        "deny": plain("Keep"),
        "style": "danger",
    }
    return forget


def exported_text(content: str) -> str:
    """The beginning of an export as a message, for where Slack takes no file."""
    shown = text.escape(content[:1800])[:2700]
    return f"```\n{shown}\n```\n{EXPORT_CUT if len(content) > 1800 else ''}".strip()


def shortened(words: str, limit: int) -> str:
    """The beginning of somebody's words, at most `limit` characters as mrkdwn, with an ellipsis where some are left out."""
    escaped = text.escape(words)
    if len(escaped) <= limit:
        return escaped
    kept = words[:limit]
    while len(text.escape(kept)) >= limit:
        kept = kept[: len(kept) * 9 // 10]
    return text.escape(kept.rstrip()) + "…"


def quoted(words: str, limit: int = 2_800) -> list[Block]:
    """All of somebody's words, in as many paragraphs as that takes."""
    paragraphs, rest = [], words
    while rest:
        size = min(len(rest), limit)
        while len(text.escape(rest[:size])) > limit:
            size = size * 9 // 10
        paragraphs.append(section(text.escape(rest[:size])))
        rest = rest[size:]
    return paragraphs


def answer_id_in(message: Mapping[str, Any]) -> str:
    """The answer that a message's rating buttons belong to, "" where it has none."""
    for block in message.get("blocks") or []:
        for element in block.get("elements") or []:
            if isinstance(element, dict) and element.get("action_id") == RATE:
                return str(element["positive_button"]["value"]).rpartition(":")[0]
    return ""


def said_in(message: Mapping[str, Any]) -> str:
    """What a message says, as it came with a payload: its markdown, else its text."""
    blocks: Sequence[Any] = message.get("blocks") or []
    parts = [str(block.get("text") or "") for block in blocks if block.get("type") == "markdown"]
    return "\n\n".join(parts) or text.unescape(str(message.get("text") or ""))
