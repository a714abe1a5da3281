"""What line breaks split: whether what stands on both sides of one is really one thing (pure).

Joining is guessing. A token that goes on in the next line looks like a token there too; a sentence does not.
"""

import re
from collections.abc import Iterator

from storage.redaction_findings import Finding, Kind, View
from storage.redaction_secrets import AWS_SECRET, AZURE, BEARER, LONE, SHAPES, WEBHOOK

PIECE = re.compile(r"[\w./+-]{3,}={0,2}", re.ASCII)
ODD = re.compile(r"\d|[a-z][A-Z]|[A-Z]{2}[a-z]")
AFTERWARDS = re.compile(r"[=:(@]")
ADDRESS = re.compile(r"[\w.%+'-]{1,64}@(?:\w(?:[\w-]{0,61}\w)?\.){1,8}[^\W\d_]{2,24}(?![\w@-])")
NAMED = re.compile(r"(?i:hook|bearer|key)")
DOMAIN = re.compile(r"[\w-]{1,63}\.[\w-]{2,}")
GROUPED = (WEBHOOK, BEARER, AWS_SECRET, AZURE)


def split_secrets(view: View) -> Iterator[Finding]:
    """Tokens with a line break in the middle, as long as they go on."""
    text = view.text
    patterns = [shape for begin, shape in SHAPES.items() if begin in text]
    if NAMED.search(text):
        patterns += GROUPED
    for pattern in (*patterns, LONE):
        for match in pattern.finditer(text):
            group = match.lastindex or 0
            start, end = match.span(group)
            joints = view.joints_in(start, end)
            if joints:
                end = _where_it_ends(view, pattern, start, end, joints)
                if view.joints_in(start, end):
                    yield Finding(start, end, Kind.SECRET, text[start:end])


def _where_it_ends(
    view: View, pattern: re.Pattern[str], start: int, end: int, joints: tuple[int, ...]
) -> int:
    """The first joint after which no token goes on, if what stands before it is a whole one."""
    for joint, following in zip(joints, (*joints[1:], end), strict=True):
        piece = view.text[joint:following]
        ends_here = following == end and AFTERWARDS.match(view.text, end)
        if not (PIECE.fullmatch(piece) and ODD.search(piece)) or ends_here:
            whole = pattern in GROUPED or pattern.fullmatch(view.text[start:joint])
            return joint if whole else end
    return end


def split_addresses(view: View) -> Iterator[Finding]:
    """E-mail addresses with a line break in the middle."""
    if "@" not in view.text:
        return
    for match in ADDRESS.finditer(view.text):
        joints = view.joints_in(*match.span())
        at = match.start() + match[0].index("@")
        start = match.start()
        for joint in joints:
            # A word that ends the line before is no part of the address, unless it looks like one.
            if joint <= at and not re.search(r"[._+\d-]", view.text[start:joint]):
                start = joint if joint < at else start
        end = _whole_before(view.text, start, match.end(), [joint for joint in joints if joint > at])
        if view.joints_in(start, end):
            yield Finding(start, end, Kind.EMAIL, view.text[start:end].casefold())


def _whole_before(text: str, start: int, end: int, joints: list[int]) -> int:
    """Where the address ends: at a joint, if it is whole there and no domain goes on after it."""
    for joint in joints:
        if ADDRESS.fullmatch(text[start:joint]) and not DOMAIN.match(text, joint):
            return joint
    return end
