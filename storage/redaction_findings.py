"""What the search for secrets and personal data hands around: kinds, findings, and a text as it is meant to be read.

People paste: with line breaks in the middle of a key, with invisible characters, escaped for HTML, JSON or a URL. A `View`
is the text without such disguises, and knows for every character where it stood. Everything that searches reads views.
"""

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What was found; also the word in its placeholder."""

    SECRET = "SECRET"
    PERSON = "PERSON"
    EMAIL = "EMAIL"
    IBAN = "IBAN"
    CARD = "CARD"
    PHONE = "PHONE"
    IP = "IP"
    ID = "ID"


PLACEHOLDER = re.compile(r"<(SECRET|PERSON|EMAIL|IBAN|CARD|PHONE|IP|ID)_(\d{1,6})>")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found between `start` and `end`."""

    start: int
    end: int
    kind: Kind
    identity: str  # equal for two spellings of one thing


@dataclass(frozen=True, slots=True)
class View:
    """A text to search, where its characters stand in the original, and where line breaks were taken out of it.

    `starts` and `ends` are None where the view is the original itself.
    """

    text: str
    starts: list[int] | None = None
    ends: list[int] | None = None
    joints: tuple[int, ...] = ()  # before these characters a line break was taken out, in ascending order

    def in_original(self, found: Finding) -> Finding:
        """The same finding with its place in the original text."""
        if self.starts is None or self.ends is None:
            return found
        return Finding(self.starts[found.start], self.ends[found.end - 1], found.kind, found.identity)

    def joints_in(self, start: int, end: int) -> tuple[int, ...]:
        """The joints strictly between these two places."""
        return self.joints[bisect_right(self.joints, start) : bisect_right(self.joints, end - 1)]


INVISIBLE = r"\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
WIDE, DASH = r"\uff01-\uff5e\U0001d400-\U0001d7ff", r"\u2010-\u2015\u2212\ufe58\ufe63"
OTHER_DIGITS = r"\u0660-\u0669\u06f0-\u06f9\u0966-\u096f"  # of Arabic, Persian and Hindi
SPACE = r"\u00a0\u2000-\u200a\u202f\u205f\u3000"
# Invisible characters; entities and percent signs, also escaped twice; \u0040, \x40, \n and \@ as JSON, code and Markdown
# write them;
# full-width and mathematical letters; dashes and spaces of typographers; and "(at)" for @. One class first: it is fast.
DISGUISE = re.compile(
    rf"[\\&%{INVISIBLE}{WIDE}{DASH}{SPACE}{OTHER_DIGITS}](?:"
    rf"(?P<nothing>(?<=[{INVISIBLE}])|(?<=\\)(?=[@._+*~|:/=#-]))"
    r"|(?<=&)(?:amp;){0,3}(?P<entity>#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,9});"
    r"|(?<=%)(?:25){0,3}(?P<percent>[2-7][0-9A-Fa-f]|0[AaDd])"
    r"|(?<=\\)(?:u00|x)(?P<escape>[2-7][0-9A-Fa-f])"
    r"|(?<=\\)(?P<control>[nrt])"
    rf"|(?P<wide>(?<=[{WIDE}]))|(?P<dash>(?<=[{DASH}]))|(?P<space>(?<=[{SPACE}]))|(?P<digit>(?<=[{OTHER_DIGITS}])))"
)
SPELT = re.compile(r"[\[({] ?(?:(?P<at>(?:at|AT|@) ?[\])}] ?)|(?P<dot>(?:dot|DOT|\.) ?[\])}] ?))")
PLAIN = {"control": "\n", "dash": "-", "space": " ", "at": "@", "dot": ".", "nothing": ""}


def undisguised(text: str) -> View:
    """The text as a person would read it; itself where nothing is disguised."""
    view = View(text)
    if not text.isascii() or "\\" in text or "%" in text or "&" in text:
        changes = [(match.span(), _meant(match)) for match in DISGUISE.finditer(text)]
        view = _rewritten(view, changes) if changes else view
    if SPELT.search(view.text):
        view = _rewritten(view, [_spelt(view.text, match) for match in SPELT.finditer(view.text)])
    return view


def _meant(match: re.Match[str]) -> str:
    group = match.lastgroup or ""
    said = match[group]
    if group in {"percent", "escape"}:
        return chr(int(said, 16))
    if group == "entity":
        meant = html.unescape(f"&{said};")
        return " " if meant == "\u00a0" else meant if len(meant) == 1 else match[0]
    if group == "digit":
        return str(unicodedata.digit(match[0]))
    if group == "wide":
        return unicodedata.normalize("NFKC", match[0])
    return PLAIN[group]


def _spelt(text: str, match: re.Match[str]) -> tuple[tuple[int, int], str]:
    """A space before "(at)" belongs to it."""
    start = match.start() - (text[match.start() - 1 : match.start()] == " ")
    return (start, match.end()), PLAIN[match.lastgroup or ""]


LINE_BREAK = re.compile(r"\r?\n|<br ?/?>")
# What stands around a line break and belongs to neither side: quotes of mail and Slack, comments, tables, the = of mail, the
# ends of strings in code.
BEFORE = re.compile(r"[ \t]{0,4}(?:[\"'][ \t]{0,4}(?:\+[ \t]{0,4})?\\?|[\\+=|])?[ \t]{0,40}\Z")
AFTER = re.compile(r"(?:[ \t]{0,8}[>|#*]){0,8}[ \t]{0,40}[\"']?")
ODD = re.compile(r"\d|[a-z][A-Z]|[A-Z]{5}|\w[._-]\w")  # in a word: it may be a part of something
REACH = 90


def joined(view: View) -> Iterator[View]:
    """The view without the line breaks that may split something: once with nothing and once with a space in their place."""
    if "\n" in view.text or "<br" in view.text:
        breaks = [span for match in LINE_BREAK.finditer(view.text) if (span := _splitting(view.text, match))]
        if breaks:
            for between in ("", " "):
                yield _rewritten(view, [(span, between) for span in breaks], joints=True)


def _splitting(text: str, match: re.Match[str]) -> tuple[int, int] | None:
    """The break and what belongs to it, if the word before it and the one after look like parts of one thing."""
    end = match.end()
    if after := AFTER.match(text, end):
        end = after.end()
    floor = max(0, match.start() - REACH)
    before = text[floor : match.start()]
    before = before[: found.start()] if (found := BEFORE.search(before)) else before
    left, right = before.rsplit(None, 1)[-1:], text[end : end + REACH].split(None, 1)[:1]
    if not left or not right or before[-1].isspace() or text[end].isspace():
        return None
    whole = "@" in left[0] or "@" in right[0] or (ODD.search(left[0]) and ODD.search(right[0]))
    return (floor + len(before), end) if whole else None


def _rewritten(view: View, changes: Iterable[tuple[tuple[int, int], str]], *, joints: bool = False) -> View:
    """The view with other words in some places."""

    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    places: list[int] = []
    done = 0
    for (start, end), words in changes:
        if start < done:
            continue
        _keep(view, done, start, pieces, starts, ends)
        if joints:
            places.append(len(starts))
        pieces.append(words)
        starts += [_start(view, start)] * len(words)
        ends += [_end(view, end - 1)] * len(words)
        done = end
    _keep(view, done, len(view.text), pieces, starts, ends)
    return View("".join(pieces), starts, ends, tuple(places))


def _keep(view: View, start: int, end: int, pieces: list[str], starts: list[int], ends: list[int]) -> None:
    pieces.append(view.text[start:end])
    starts += range(start, end) if view.starts is None else view.starts[start:end]
    ends += range(start + 1, end + 1) if view.ends is None else view.ends[start:end]


def _start(view: View, place: int) -> int:
    return place if view.starts is None else view.starts[place]


def _end(view: View, place: int) -> int:
    return place + 1 if view.ends is None else view.ends[place]
