"""The parts of Block Kit that every message and window is made of, and the ids that several of them share. Pure."""

from typing import Any

Block = dict[str, Any]

SECTION_LIMIT = 2_900
RATE, IMPROVE, CONSENT = "rate", "improve", "consent"
CORRECTION_VIEW = "correction"
BETTER, REASON, MAY_TRAIN = "better", "reason", "may_train"


def section(mrkdwn: str) -> Block:
    """A paragraph."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": mrkdwn[:SECTION_LIMIT]}}


def context(mrkdwn: str) -> Block:
    """A small grey line."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": mrkdwn[:SECTION_LIMIT]}]}


def plain(words: str) -> Block:
    """A plain_text object."""
    return {"type": "plain_text", "text": words}


def button(words: str, action_id: str, value: str, *, style: str = "") -> Block:
    """A button with an opaque value."""
    made: Block = {"type": "button", "action_id": action_id, "text": plain(words), "value": value}
    if style:
        made["style"] = style
    return made
