"""A FAQ in Markdown as records: headings with their text, Q: and A: pairs, definition lists. Code blocks stay as they are.

A heading with headings below it is their topic. Front matter is passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from training.formats.records import Record

HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*$")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
ASKS = re.compile(
    r" {0,3}(?:[-*] +)?(?:\*\*|__)?(?:Q|Question)(?:\*\*|__)?[:.](?:\*\*|__)?[ \t]*(.+?)(?:\*\*|__)?$", re.I
)
ANSWERS = re.compile(r" {0,3}(?:\*\*|__)?(?:A|Answer)(?:\*\*|__)?[:.](?:\*\*|__)?[ \t]*(.*)$", re.I)
DEFINES = re.compile(r" {0,3}:[ \t]+(.*)$")
INTRO = "text under a heading that has headings of its own; it is read as their topic"


@dataclass
class _Line:
    number: int
    text: str
    code: bool


@dataclass
class _Section:
    number: int
    level: int
    title: str
    topic: str
    body: list[_Line] = field(default_factory=list)


def markdown_records(lines: Iterator[str]) -> Iterator[Record]:
    """The questions and answers of a Markdown text, each with the line on which it begins."""
    section, above = _Section(0, 0, "", ""), list[tuple[int, str]]()
    for line in _told(lines):
        heading = None if line.code else HEADING.match(line.text)
        if heading is None:
            section.body.append(line)
            continue
        level = len(heading[1])
        yield from _records(section, parent=level > section.level > 0)
        above = [each for each in above if each[0] < level]
        topic = " / ".join(title for _, title in above)
        section = _Section(line.number, level, heading[2].strip("* "), topic)
        above.append((level, section.title))
    yield from _records(section, parent=False)


def _told(lines: Iterator[str]) -> Iterator[_Line]:
    """The lines behind the front matter, each with whether it belongs to a code block."""
    front, fence = False, ""
    for number, text in enumerate(lines, start=1):
        text = text.rstrip("\n")
        if front or (number == 1 and text.strip() == "---"):
            front = number == 1 or text.strip() not in ("---", "...")
            continue
        mark = FENCE.match(text)
        code = bool(fence) or mark is not None
        if mark and not fence:
            fence = mark[1]
        elif fence and mark and mark[1].startswith(fence) and text.strip() == mark[1]:
            fence = ""
        yield _Line(number, text, code)


def _records(section: _Section, *, parent: bool) -> Iterator[Record]:
    topic = section.topic
    inner = " / ".join(each for each in (topic, section.title) if each)
    pairs = list(_pairs(section.body) or _definitions(section.body))
    if pairs:
        for number, question, said in pairs:
            yield number, {"question": question, "answer": _joined(said), "topic": inner}
        return
    answer = _joined([line.text for line in section.body])
    if not answer or not section.title:
        if answer:
            yield section.body[0].number, "text that stands under no heading"
        return
    if parent and not section.title.endswith("?"):
        yield section.number, INTRO
        return
    yield section.number, {"question": section.title, "answer": answer, "topic": topic}


def _pairs(body: list[_Line]) -> list[tuple[int, str, list[str]]]:
    found: list[tuple[int, str, list[str]]] = []
    for line in body:
        asks = None if line.code else ASKS.match(line.text)
        answers = None if line.code else ANSWERS.match(line.text)
        if asks:
            found.append((line.number, asks[1].strip(), []))
        elif found:
            first = not _joined(found[-1][2])
            found[-1][2].append(answers[1] if answers and first else line.text)
    return found


def _definitions(body: list[_Line]) -> list[tuple[int, str, list[str]]]:
    found: list[tuple[int, str, list[str]]] = []
    for line, after in zip(body, [*body[1:], None], strict=False):
        defines = None if line.code else DEFINES.match(line.text)
        begins = after is not None and not after.code and DEFINES.match(after.text)
        if begins and not line.code and line.text.strip() and not defines:
            found.append((line.number, line.text.strip().strip("*"), []))
        elif found:
            found[-1][2].append(defines[1] if defines else line.text)
    return found


def _joined(lines: list[str]) -> str:
    return "\n".join(lines).strip("\n").strip()
