"""What admins read of the guards: findings with their buttons, and who is an expert. Pure."""

import re
from collections.abc import Sequence

from bot.slack.blocks import Block, button, context, section
from bot.slack.text import escape
from storage.records import Expert, Quarantine
from storage.values import who

KEEP_OUT, LEARN = "guard_keep_out", "guard_learn"
"""The buttons; their value is the finding's id."""

TITLES = {
    "topic": "A topic is fed by one person",
    "cluster": "Like questions are answered by one person",
    "contrary": "Ratings that go against everybody's",
    "one way": "Always the same thumb",
    "ring": "Ratings for one person's questions only",
    "burst": "Ratings faster than anybody reads",
    "flood": "Most ratings come from one person",
    "trigger": "Words that could be a trigger",
    "link": "A link that only one person gives",
}
HELD = {
    "topic": "Nothing of this topic is learned until one of you decides.",
    "cluster": "Nothing of these questions is learned until one of you decides.",
    "trigger": "Nothing they wrote is learned until one of you decides.",
    "link": "Nothing they wrote is learned any more.",
}
VOTES_HELD = "Their ratings do not count until one of you decides."
NOT_HELD = "Nothing is kept out because of this; you can."
LOOK = "Look at a few of them, and ask the person: it may well be honest."
EXPERTS_HELP = "Write `/apprentice experts add @somebody` or `/apprentice experts remove @somebody`."
NO_FINDINGS = "Nothing is odd, and nothing is kept out of learning."
GONE = "This is not there any more: the person it was about was forgotten, or the store was changed."
MENTION = re.compile(r"^<@([UW][0-9A-Z]{2,20})(?:\|[^>]*)?>$|^([UW](?=[A-Z]*[0-9])[0-9A-Z]{3,20})$")


def title(row: Quarantine) -> str:
    """What was found, in a few words."""
    return TITLES.get(row.kind, row.kind)


def standing(row: Quarantine) -> str:
    """What follows from a finding now, and who decided it."""
    if row.lifted_by:
        return f"Learned from after all, as {who(row.lifted_by)} decided."
    if row.kept_by:
        return f"Kept out, as {who(row.kept_by)} decided."
    return HELD.get(row.kind, VOTES_HELD) if row.holds else NOT_HELD


def finding_text(row: Quarantine) -> str:
    """A finding for a notification, and where there are no blocks."""
    return f"{title(row)}: {row.detail} {standing(row)}"


def finding_blocks(row: Quarantine) -> list[Block]:
    """A finding with what can be decided about it. Names stand here only, not in what is stored."""
    whose = f" It is about {who(row.person)}." if row.person else ""
    buttons = []
    if not row.lifted_by:
        buttons.append(button("Learn from it after all", LEARN, row.id))
    if not row.kept_by:
        buttons.append(button("Keep out", KEEP_OUT, row.id))
    return [
        section(f":mag: *{title(row)}*\n{escape(row.detail)}{whose}"),
        context(f"{standing(row)} {'' if row.kept_by or row.lifted_by else LOOK}".strip()),
        {"type": "actions", "block_id": f"guard:{row.id}", "elements": buttons},
    ]


def experts_text(rows: Sequence[Expert], weight: float) -> str:
    """Who is an expert, by whose word."""
    if not rows:
        return f"Nobody is an expert yet. An expert's rating counts {weight:g} times. {EXPERTS_HELP}"
    names = "\n".join(
        f"• {who(row.person)}, by {who(row.granted_by)} on {row.granted_at:%Y-%m-%d}" for row in rows
    )
    return f"An expert's rating counts {weight:g} times. Experts:\n{names}\n{EXPERTS_HELP}"


def expert_added(person: str, weight: float, *, new: bool) -> str:
    """The receipt."""
    if not new:
        return f"{who(person)} is an expert already."
    return f"{who(person)} is an expert now: their ratings count {weight:g} times from the next dataset on."


def expert_removed(person: str, *, was: bool) -> str:
    """The receipt."""
    return f"{who(person)} is no expert any more." if was else f"{who(person)} is no expert."


def nobody_called(name: str) -> str:
    """Nobody, or more than one, has this name."""
    return (
        f"I cannot tell who {escape(name)} is. Copy their member ID from their profile in Slack (it starts with U) and "
        "write `/apprentice experts add U…`."
    )


def person_in(words: str) -> str:
    """The person that Slack's mention or a member ID names; "" where it names none."""
    found = MENTION.match(words.strip())
    return (found.group(1) or found.group(2)) if found else ""


def status_line(experts: int, waiting: int, held: int) -> str:
    """For `/apprentice status` and Home; "" where there is nothing to say."""
    parts = []
    if experts:
        parts.append("1 expert" if experts == 1 else f"{experts} experts")
    if held:
        parts.append(f"{held} {'thing is' if held == 1 else 'things are'} kept out of learning")
    if waiting:
        parts.append(
            f"{waiting} {'waits' if waiting == 1 else 'wait'} for an admin's decision in the admin channel"
        )
    return f"*Guards:* {', '.join(parts)}" if parts else ""
