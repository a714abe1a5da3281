"""The receipt of a forgetting: what was deleted, what could not be, and why. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bot.slack import text
from bot.slack.blocks import Block, button, section
from storage.forgetting import Holdings

SWITCH = "forget_switch"
STILL_AT_IT = "I am deleting everything of yours. It takes a while; I write to you when it is done."
IN_SLACK = (
    "What stands in Slack itself (your messages, my answers to them, files I posted) I cannot take back: who deletes a "
    "message there also deletes my copy of it."
)
COUNTED: Mapping[str, tuple[str, str]] = {
    "picks": ("pick in a duel", "picks in duels"),
    "nominations": ("proposed example", "proposed examples"),
    "reviews": ("review", "reviews"),
    "distilled answers": ("answer of a teacher", "answers of teachers"),
    "golden items": ("golden question", "golden questions"),
    "dataset rows": ("row of frozen datasets", "rows of frozen datasets"),
    "evaluated answers": ("answer in evaluations", "answers in evaluations"),
    "quotes": ("quote in what others got", "quotes in what others got"),
    "lines": ("line in files", "lines in files"),
    "files": ("file", "files"),
    "checkpoints": ("run's checkpoints", "runs' checkpoints"),
    "provider files": ("file or model at a provider", "files and models at providers"),
}


def receipt(done: Mapping[str, Any], undone: Mapping[str, Any], *, finished: bool = True) -> str:
    """Everything that one forgetting did and could not do, one thing a line, for whoever asked for it."""
    if not finished:
        return STILL_AT_IT
    return "\n".join([*_deleted(done), *_models(done, undone), *_not_done(undone), IN_SLACK])


def for_admins(done: Mapping[str, Any], undone: Mapping[str, Any], work: str) -> tuple[str, list[Block]]:
    """The same for the admin channel, without the name; with the switch where a marked model serves."""
    lines = [
        ":wastebasket: *Somebody was forgotten.*",
        *_deleted(done),
        *_models(done, undone),
        *_not_done(undone),
    ]
    said = "\n".join(lines)
    blocks = [section(said[:2_900])]
    if offer := undone.get("offer"):
        switch = button(f"Switch to {_clean(offer)}", SWITCH, f"{work}:{offer}")
        blocks.append({"type": "actions", "elements": [{**switch, "style": "primary"}]})
    return said, blocks


def provider_files_gone(names: Sequence[str]) -> str:
    """To admins: what a provider had not deleted at first is gone now."""
    return f":wastebasket: Deleted at the provider by now: {', '.join(names)}. Nothing is left to do there."


def _clean(name: str) -> str:
    return "the untuned model" if name == "base" else name


def _deleted(done: Mapping[str, Any]) -> Iterator[str]:
    questions, ratings, corrections, entries = (
        int(done.get(kind, 0)) for kind in ("questions", "ratings", "corrections", "entries")
    )
    yield text.forgotten(Holdings(questions, ratings, corrections, entries, None), ())
    more = [
        f"{done[kind]:,} {one if done[kind] == 1 else many}"
        for kind, (one, many) in COUNTED.items()
        if done.get(kind)
    ]
    if more:
        yield f"Also: {', '.join(more)}."
    if done.get("backups"):
        count = done["backups"]
        yield f"{count} {'backup' if count == 1 else 'backups'} in the data directory deleted; a new one takes their place."
    yield "The database and memory's index were written anew. What was deleted is not taken in again from Slack or files."


def _models(done: Mapping[str, Any], undone: Mapping[str, Any]) -> Iterator[str]:
    if done.get("tainted"):
        yield f"These models learned from some of it and are marked: {', '.join(done['tainted'])}."
    if done.get("runs stopped"):
        yield "A training run that was learning from it is stopped."
    if done.get("switched"):
        yield f"{_clean(done['switched'])} answers instead, because it never saw any of it."
    if undone.get("offer"):
        why = f" ({undone['switch']})" if undone.get("switch") else ""
        yield (
            f"{undone['serving']} still answers{why}; the last one that never saw any of it is "
            f"{_clean(undone['offer'])}, and admins can switch to it."
        )
    if done.get("retraining"):
        yield "A training without it is queued."
    if undone.get("retraining"):
        yield f"No training without it is queued: {undone['retraining']}"


def _kind(name: str) -> str:
    return "model" if name.startswith(("ft:", "projects/")) else "file"


def _not_done(undone: Mapping[str, Any]) -> Iterator[str]:
    for provider, name, why in undone.get("provider files") or ():
        what = f"{_kind(name)} {name or '(unknown)'} at {provider}"
        yield f"Not deleted yet: {what}: {why}. I try again, once a day after a while."
    if undone.get("reports"):
        numbers = ", ".join(f"#{number}" for number in undone["reports"])
        yield f"The answers in the thread of report {numbers} stand in Slack; delete that file there if they are to go."
    if undone.get("files"):
        yield f"The id still stands in {', '.join(undone['files'])}, which I did not write; please look at it."
    if undone.get("memory"):
        yield f"Memory: {undone['memory']}; the bot does it at its next start."
    if undone.get("told"):
        yield f"{undone['told']}."
