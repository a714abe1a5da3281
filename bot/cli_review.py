"""The terminal's command for review: candidates one by one with single keys, or listed and decided about by id."""

import asyncio
import os
import re
import select
import shlex
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from bot import cli_options as options
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode, Opened
from bot.cli_show import murmur, say, table, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.settings import Settings
    from storage.reviewable import Reviewable

KEYS = "[a]pprove  [e]dit  [r]eject  [s]kip  [u]ndo  [q]uit"
NOTHING = "There is nothing to review. Corrected and liked answers come up here as people give them."
DONE_WORDS = {"approved": "Approved.", "edited": "Approved as you changed it.", "rejected": "Rejected."}
QUESTION_MARK, ANSWER_MARK = "=== The question ===", "=== The answer ==="


def review(
    action: Annotated[
        str, typer.Argument(metavar="[approve|reject]", help="Decide about one candidate; else one by one.")
    ] = "",
    subject: Annotated[str, typer.Argument(metavar="[ID]", help="The candidate, as --list shows it.")] = "",
    as_list: Annotated[
        bool, typer.Option("--list", help="Only list what waits, the most valuable first.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="How many to list.")
    ] = 50,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Review what would be learned from next: approve, edit or reject, one at a time.

    On a terminal one key decides; e opens the text in $EDITOR. Rejected examples are not learned from, edited ones as you
    left them. Elsewhere use --list and name what you decide about.

    \b
    Examples:
      apprentice review
      apprentice review --list --json
      apprentice review reject a_1f3c
    """
    settings = options.settings_from(data_dir, env_file)
    if action and action not in {"approve", "reject"}:
        raise typer.BadParameter(f"{action!r}: write approve or reject, then the ID.")
    if bool(action) != bool(subject):
        raise typer.BadParameter("name the candidate: apprentice review approve ID.")
    if action:
        options.carry_out(_decide(settings, action, subject, as_json))
    if as_list or as_json:
        options.carry_out(_list(settings, limit, as_json))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PublicError(
            "Reviewing one by one needs a terminal. Use `apprentice review --list`, then `apprentice review approve ID`."
        )
    options.carry_out(_review(settings))


async def _list(settings: "Settings", limit: int, as_json: bool) -> ExitCode:
    async with options.opened(settings) as place:
        found = await place.store.to_review(place.team, limit=limit)
    if as_json:
        tell_json([_as_json(each) for each in found])
    elif found:
        rows = [["id", "why", "votes", "question"]]
        rows += [
            [each.subject, each.why, f"+{each.up} -{each.down}", one_line(each.question)] for each in found
        ]
        tell(table(rows))
    else:
        say(NOTHING)
    return ExitCode.DONE


def _as_json(candidate: "Reviewable") -> dict[str, Any]:
    """Without whose words they are: who decides needs no names."""
    hidden = {"authors", "place"}
    return {name: value for name, value in asdict(candidate).items() if name not in hidden}


def one_line(words: str, longest: int = 80) -> str:
    """Words as a table shows them."""
    line = " ".join(words.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


async def _decide(settings: "Settings", action: str, subject: str, as_json: bool) -> ExitCode:
    from storage.reviewing import APPROVED, REJECTED, Kept

    state = APPROVED if action == "approve" else REJECTED
    async with options.opened(settings) as place:
        candidate = await place.store.reviewable(place.team, subject)
        if candidate is None:
            raise PublicError(
                f"There is no candidate {subject}. `apprentice review --list` shows those that wait."
            )
        by = options.operator()
        kept = await place.store.review(place.team, subject, candidate.key, state, by)
    if kept is not Kept.KEPT:
        raise PublicError("It was deleted meanwhile; nothing was kept.")
    if as_json:
        tell_json({"id": subject, "state": state})
    else:
        tell(DONE_WORDS[state])
    return ExitCode.DONE


# --- One by one ---------------------------------------------------------------------------------------------


async def _review(settings: "Settings") -> ExitCode:
    async with options.opened(settings) as place:
        total = await place.store.reviews_waiting(place.team)
        if not total:
            say(NOTHING)
            return ExitCode.DONE
        with _Keys() as keys:
            decided = await _Session(place, total, keys).run()
    tell(f"You have decided about {decided}. Thank you." if decided else "Nothing was decided.")
    return ExitCode.DONE


class _Session:
    """Somebody at a terminal, one candidate after the other; the last decision can be taken back."""

    def __init__(self, place: Opened, total: int, keys: "_Keys") -> None:
        self._place = place
        self._keys = keys
        self._total = total
        self._number = 0
        self._last = ""
        self._decided = 0
        self._again: Reviewable | None = None

    async def run(self) -> int:
        """Until nothing is left, or until they have enough; how many they decided about."""
        after = ""
        while True:
            candidate = await self._next(after)
            if candidate is None:
                if await self._is_the_end():
                    return self._decided
                continue
            self._number += 1
            key = await self._one(candidate)
            if key == "q":
                return self._decided
            if key == "u":
                await self._take_back()
            else:
                after = candidate.place

    async def _next(self, after: str) -> "Reviewable | None":
        """What was taken back, else the next one behind a place."""
        again, self._again = self._again, None
        if again is not None:
            return again
        page = await self._place.store.to_review(self._place.team, limit=1, after=after)
        return page[0] if page else None

    async def _is_the_end(self) -> bool:
        """Nothing is left: the last decision can still be taken back."""
        if not self._last:
            return True
        tell("That was the last one. u takes the last decision back, any other key ends.")
        if await self._keys.one() != "u":
            return True
        self._number += 1
        await self._take_back()
        return self._again is None

    async def _one(self, candidate: "Reviewable") -> str:
        """Show it and do what is wanted; the key that was pressed in the end."""
        from training.guards import kept_out

        tell(_shown(candidate, self._number, max(self._total, self._number)))
        quarantine = await self._place.store.quarantined(self._place.team)
        if why := kept_out(candidate.topic, "", candidate.authors, quarantine, key=candidate.key):
            murmur(f"Kept out so far: {why}. Approving it lets it in.")
        while True:
            key = await self._keys.one()
            match key:
                case "a":
                    await self._keep(candidate, "approved")
                case "r":
                    await self._keep(candidate, "rejected")
                case "e":
                    if not await self._edit(candidate):
                        continue
                case "u" if not self._last:
                    murmur("There is nothing to take back.")
                    continue
                case "s" | "q" | "u":
                    pass
                case _:
                    murmur(KEYS)
                    continue
            return key

    async def _edit(self, candidate: "Reviewable") -> bool:
        """Open both texts in an editor; False where nothing came of it."""
        with self._keys.lent():
            written = await asyncio.to_thread(_edited, _as_file(candidate.question, candidate.answer))
        texts = _from_file(written)
        if texts is None:
            murmur("Nothing was changed: the text was not saved, or a part of it is empty.")
            return False
        same = texts == (candidate.question.strip(), candidate.answer.strip())
        await self._keep(candidate, "approved" if same else "edited", *texts)
        return True

    async def _keep(self, candidate: "Reviewable", state: str, question: str = "", answer: str = "") -> None:
        from storage.reviewing import Kept

        kept = await self._place.store.review(
            self._place.team,
            candidate.subject,
            candidate.key,
            state,
            options.operator(),
            question,
            answer,
            only_first=True,
        )
        if kept is Kept.KEPT:
            self._last = candidate.subject
            self._decided += 1
            murmur(DONE_WORDS[state])
        else:
            murmur(
                "Somebody else had decided already." if kept is Kept.DECIDED else "It is not there any more."
            )

    async def _take_back(self) -> None:
        """Take the last decision back; its candidate comes next."""
        place, last = self._place, self._last
        self._last = ""
        self._number -= 1
        if await place.store.take_back_review(place.team, last, options.operator()):
            self._again = await place.store.reviewable(place.team, last)
        if self._again is None:
            murmur("That cannot be taken back: somebody else decided after you, or it is gone.")
            return
        self._decided -= 1
        self._number -= 1
        murmur("Taken back; here it is again.")


class _Keys:
    """The terminal, key by key, for as long as the block lasts; keys that are pressed early wait."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._fd)

    def __enter__(self) -> Self:
        quiet = termios.tcgetattr(self._fd)
        quiet[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
        termios.tcsetattr(self._fd, termios.TCSADRAIN, quiet)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The terminal as it was, for an editor."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    async def one(self) -> str:
        """The next key in lower case; Ctrl-C, Ctrl-D and the end of the input are q."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._fd)
        try:
            pressed = os.read(self._fd, 1)
        except OSError:  # the terminal is gone
            return "q"
        if pressed == b"\x1b":  # an arrow or a function key: several bytes that mean nothing here
            while select.select([self._fd], [], [], 0)[0]:
                os.read(self._fd, 1)
        return "q" if pressed in {b"", b"\x03", b"\x04"} else pressed.decode("latin-1").lower()


def _shown(candidate: "Reviewable", number: int, total: int) -> str:
    from storage.records import now
    from storage.reviewing import COUNTED

    votes = f"+{candidate.up} -{candidate.down}" if candidate.up or candidate.down else ""
    days = (now() - candidate.at).days
    about = [candidate.why, candidate.reason, votes, candidate.given_by, candidate.topic, candidate.source]
    told = ", ".join(each for each in [*about, f"{days} days ago"] if each)
    lines = [
        "",
        f"{number} of {total}{'+' if total >= COUNTED else ''}  ({told})",
        f"\n{candidate.question}\n",
        "\n".join(f"    {line}" for line in candidate.answer.splitlines()),
    ]
    if candidate.before:
        lines.append(
            "\nBefore the correction:\n" + "\n".join(f"  - {line}" for line in candidate.before.splitlines())
        )
    return "\n".join([*lines, "", KEYS])


def _edited(words: str) -> str:
    """The text as it is left in the editor; it lies in a folder of its own that goes at once. Raises PublicError."""
    from bot.settings import editor

    with tempfile.TemporaryDirectory(prefix="apprentice-review-") as folder:
        file = Path(folder) / "example.txt"
        file.write_text(words, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor()), str(file)], check=False)
        except OSError as error:
            raise PublicError(f"{editor()} could not be started ({error.strerror}). Set EDITOR.") from None
        return file.read_text(encoding="utf-8", errors="replace")


def _as_file(question: str, answer: str) -> str:
    return f"{QUESTION_MARK}\n{question.strip()}\n\n{ANSWER_MARK}\n{answer.strip()}\n"


def _from_file(written: str) -> tuple[str, str] | None:
    """Both texts as they were left in the editor; None where one of them, or its mark, is missing."""
    found = re.fullmatch(
        rf"\s*{re.escape(QUESTION_MARK)}\n(.*?)\n{re.escape(ANSWER_MARK)}\n(.*)", written, re.DOTALL
    )
    texts = (found.group(1).strip(), found.group(2).strip()) if found else ("", "")
    return texts if all(texts) else None
