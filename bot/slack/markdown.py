"""Markdown on its way into Slack: what may be shown while more comes, and how a long text is cut. Pure."""

import re

_OPEN_TOKEN = re.compile(r"<(?:[!@#][^<>\n]{0,80})?\Z|(?<![\w`])@\w{0,12}\Z|&[a-z]{0,4}\Z")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)(.*)$", re.MULTILINE)


def settled(text: str) -> str:
    """The beginning of a growing text that more text cannot change: it does not end inside what may become a mention."""
    unfinished = _OPEN_TOKEN.search(text)
    return text[: unfinished.start()] if unfinished else text


def split(text: str, limit: int) -> list[str]:
    """The text in parts of at most `limit` characters, cut where a paragraph, a line or a word ends.

    A code block that is cut is closed at the end of its part and opened again, in the same language, in the next.
    """
    parts: list[str] = []
    rest = text
    while len(rest) > limit:
        part, rest = _cut(rest, limit)
        parts.append(part)
    return [*parts, rest] if rest.strip() or not parts else parts


def _cut(text: str, limit: int) -> tuple[str, str]:
    room = limit - 16  # for closing a code block
    begun = text[:room]
    end = next(
        (at + len(mark) for mark in ("\n\n", "\n", " ") if (at := begun.rfind(mark)) > room // 2), len(begun)
    )
    part, rest = text[:end].rstrip(), text[end:].lstrip("\n")
    fence = _open_fence(part)
    if fence is None:
        return part, rest
    mark, language = fence
    return f"{part}\n{mark}", f"{mark}{language}\n{rest}"


def _open_fence(text: str) -> tuple[str, str] | None:
    """The mark and language of the code block in which the text ends; None where it ends outside of one."""
    opened: tuple[str, str] | None = None
    for found in _FENCE.finditer(text):
        mark, language = found.group(1), found.group(2).strip()
        if opened is None:
            opened = (mark, language[:40])
        elif mark[0] == opened[0][0] and len(mark) >= len(opened[0]) and not language:
            opened = None
    return opened
