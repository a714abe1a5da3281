"""What people type, as Slack stores it: mrkdwn text with escaped references, and the rich_text block of the client.

Pure. It refuses to render anything; that is the page's work.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bot.workspace.state import Json

BROADCASTS: Final = {"here": "here", "channel": "channel", "everyone": "everyone"}
REFERENCE: Final = re.compile(r"<[@#][A-Z0-9]+(?:\|[^<>]*)?>")
LINK: Final = re.compile(r"https?://[^\s<>|]+[^\s<>|.,;:!?)\]}'\"]")
AT_NAME: Final = re.compile(r"(?<![\w@/.-])@([A-Za-z0-9][\w.-]*)")
HASH_NAME: Final = re.compile(r"(?<![\w#/&-])#([a-z0-9][\w-]*)")


@dataclass(frozen=True)
class Names:
    """What can be mentioned: handle -> user id, channel name -> channel id."""

    users: Mapping[str, str]
    channels: Mapping[str, str]

    def knows(self, reference: str) -> bool:
        """Whether `<@U..>` or `<#C..|name>` names somebody or something that exists."""
        id_ = reference[2:-1].partition("|")[0]
        return id_ in (self.users.values() if reference[1] == "@" else self.channels.values())


def as_sent(typed: str, names: Names) -> str:
    """`hi @ann & co` becomes `hi <@U0ANN> &amp; co`; links get their brackets; known references stay."""
    return "".join(
        piece if is_reference else _plain(piece, names) for is_reference, piece in _pieces(typed, names)
    )


def _pieces(typed: str, names: Names) -> Iterable[tuple[bool, str]]:
    end = 0
    for found in REFERENCE.finditer(typed):
        if names.knows(found.group()):
            yield False, typed[end : found.start()]
            yield True, found.group()
            end = found.end()
    yield False, typed[end:]


def _plain(text: str, names: Names) -> str:
    parts, end = [], 0
    for found in LINK.finditer(text):
        parts += [_mentions(_escape(text[end : found.start()]), names), f"<{_escape(found.group())}>"]
        end = found.end()
    return "".join([*parts, _mentions(_escape(text[end:]), names)])


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _mentions(text: str, names: Names) -> str:
    def at(found: re.Match[str]) -> str:
        name = found.group(1).rstrip("._-")
        rest = found.group(1)[len(name) :]
        if name.lower() in BROADCASTS:
            return f"<!{name.lower()}>{rest}"
        user = names.users.get(name.lower())
        return f"<@{user}>{rest}" if user else found.group()

    def hash_(found: re.Match[str]) -> str:
        channel = names.channels.get(found.group(1))
        return f"<#{channel}|{found.group(1)}>" if channel else found.group()

    return HASH_NAME.sub(hash_, AT_NAME.sub(at, text))


TOKEN: Final = re.compile(
    r"(?P<code>`[^`\n]+`)|(?P<ref><[^<>\n]+>)|(?P<emoji>:[a-z0-9_+'-]+:)"
    r"|(?P<bold>(?<!\w)\*[^*\s](?:[^*\n]*[^*\s])?\*(?!\w))"
    r"|(?P<italic>(?<!\w)_[^_\s](?:[^_\n]*[^_\s])?_(?!\w))"
    r"|(?P<strike>(?<!\w)~[^~\s](?:[^~\n]*[^~\s])?~(?!\w))"
)
PREFORMATTED: Final = re.compile(r"```\n?(.*?)\n?```", re.DOTALL)


def rich_text(text: str, *, block_id: str) -> Json:
    """The rich_text block Slack's client sends beside mrkdwn `text`: styles, mentions, links, emoji, code."""
    elements: list[Json] = []
    end = 0
    for found in PREFORMATTED.finditer(text):
        elements += _section(text[end : found.start()])
        code = {"type": "text", "text": unescape(found.group(1))}
        elements.append({"type": "rich_text_preformatted", "elements": [code], "border": 0})
        end = found.end()
    elements += _section(text[end:])
    return {"type": "rich_text", "block_id": block_id, "elements": elements}


def _section(text: str) -> list[Json]:
    return [{"type": "rich_text_section", "elements": _inline(text, {})}] if text.strip("\n") else []


def _inline(text: str, style: Mapping[str, bool]) -> list[Json]:
    elements: list[Json] = []
    end = 0
    for found in TOKEN.finditer(text):
        elements += _words(text[end : found.start()], style)
        elements += _styled(found, style)
        end = found.end()
    return elements + _words(text[end:], style)


def _words(text: str, style: Mapping[str, bool]) -> list[Json]:
    return [_with_style({"type": "text", "text": unescape(text)}, style)] if text else []


def _styled(found: re.Match[str], style: Mapping[str, bool]) -> list[Json]:
    kind, text = str(found.lastgroup), found.group()
    if kind == "code":
        return _words(text[1:-1], {**style, "code": True})
    if kind == "ref":
        return [_with_style(_reference(text[1:-1]), style)]
    if kind == "emoji":
        return [{"type": "emoji", "name": text[1:-1]}]
    return _inline(text[1:-1], {**style, kind: True})


def _reference(inside: str) -> Json:
    target, _, label = inside.partition("|")
    if target.startswith("@"):
        return {"type": "user", "user_id": target[1:]}
    if target.startswith("#"):
        return {"type": "channel", "channel_id": target[1:]}
    if target.startswith("!"):
        return {"type": "broadcast", "range": target[1:]}
    link: Json = {"type": "link", "url": unescape(target)}
    return {**link, "text": unescape(label)} if label else link


def _with_style(element: Json, style: Mapping[str, bool]) -> Json:
    return {**element, "style": dict(style)} if style else element
