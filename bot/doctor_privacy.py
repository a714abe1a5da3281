"""What doctor says of the legal basis, of what is kept how long, and of people who are being forgotten."""

from typing import TYPE_CHECKING

from bot import legal
from bot.findings import Finding, Mark
from bot.settings import Settings
from storage.records import ForgettingState

if TYPE_CHECKING:
    from storage.store import Store


async def legal_basis(store: "Store", team: str, settings: Settings) -> Finding:
    """Whether somebody has read what holds for training on Slack."""
    topic, read = "legal basis", await legal.acknowledged(store, team)
    if read is not None:
        return Finding(Mark.OK, topic, f"read by {read.actor} on {read.decided_at:%Y-%m-%d}.")
    if not settings.on_slack:
        words = "`apprentice acknowledge` shows what has to be read before training on real Slack."
        return Finding(Mark.OK, topic, words)
    words = "nobody has read it yet, so nothing is trained. `apprentice acknowledge` shows it, --yes says that you have."
    return Finding(Mark.NOTE, topic, words)


async def kept_and_forgotten(store: "Store", team: str) -> list[Finding]:
    """What went last night; who is being forgotten, and what stands in the way; files that a provider has not deleted."""
    found = []
    last = await store.last_retention(team)
    if last is not None:
        found.append(Finding(Mark.OK, "retention", f"{last.detail} went on {last.decided_at:%Y-%m-%d}."))
    for row in await store.forgettings(team):
        if row.state is ForgettingState.DONE:
            continue
        trouble = row.undone.get("trouble")
        words = f"asked for on {row.asked_at:%Y-%m-%d %H:%M} UTC and not done yet. The running bot does it."
        found.append(
            Finding(Mark.NOTE, "forgetting", f"{words} Last trouble: {trouble}" if trouble else words)
        )
    waiting = [each for each in await store.provider_files(team) if each.deletion_due_at is not None]
    if waiting:
        names = ", ".join(f"{each.file_id or '?'} at {each.provider} ({each.trouble})" for each in waiting)
        found.append(
            Finding(Mark.NOTE, "provider files", f"not deleted yet: {names}. It is tried once a day.")
        )
    return found
