"""What an operator has to know before anything said in Slack becomes training data, and that they have read it.

It is no legal advice. It names what Slack's terms say, what is collected here and who has to be asked; until somebody
acknowledges it, no dataset is frozen on real Slack. Who did so, and when, is a Decision.
"""

from storage.records import Decision
from storage.store import Store

VERSION = 1
ACTION, SUBJECT = "acknowledge", f"legal note {VERSION}"
TITLE = "Before anything is learned from Slack"
NOTE = (
    "Slack's API terms (since 29 May 2025) forbid bulk export, long-term copies and using API data to train "
    "language models. Slack says that several of these sections bind only apps that are distributed beyond your "
    "organisation, not internal ones. So: run me as an internal app, and have the owner of your Slack workspace "
    "read the terms.",
    "I keep what is said *to me* (mentions, direct messages, my threads), my answers, ratings, corrections, and "
    "messages whose authors allowed it one by one; never the history of a channel. Secrets and personal data are "
    "struck out before anything is stored.",
    "Of that, training uses the words of people who agreed, each for themselves. Ask who has to be asked where you "
    "are: your data protection officer, a works council. Guests and people of other workspaces are not asked and "
    "never learned from.",
    "`/apprentice learning off` switches learning off, for a channel or everywhere. `/apprentice privacy` lets "
    "everybody see and delete what is theirs, down to the models.",
)
NOT_READ = (
    "Nothing is frozen from Slack's words before somebody has read what Slack's terms say about it. Press *We have "
    "read this* in the admin channel, or type `apprentice acknowledge` in the terminal."
)


async def acknowledged(store: Store, team: str) -> Decision | None:
    """Who read the note as it is now, and when; None for nobody."""
    return await store.decision_on(team, SUBJECT, (ACTION,))


async def acknowledge(store: Store, team: str, *, by: str) -> Decision | None:
    """Somebody has read it. The first one stays."""
    if await acknowledged(store, team) is None:
        await store.decide(team=team, actor=by, action=ACTION, subject=SUBJECT)
    return await acknowledged(store, team)


async def why_nothing_is_frozen(store: Store, team: str, *, on_slack: bool) -> str:
    """The reason, with the remedy; "" where datasets may be frozen: in the local workspace always."""
    return NOT_READ if on_slack and await acknowledged(store, team) is None else ""


def in_plain_words() -> str:
    """The note for a terminal."""
    return "\n".join([f"{TITLE}:", *(f"  - {each.replace('*', '').replace('`', '')}" for each in NOTE)])
