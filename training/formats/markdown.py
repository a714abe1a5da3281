"""A FAQ in Markdown as records: headings with their text, Q: and A: pairs, definition lists. Code blocks stay as they are.

A heading with headings below it is their topic. Front matter is passed over. Whatever text becomes no answer is told with
its line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from training.formats.records import LONGEST_LINE, TOO_LONG, Record

HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*$")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
ASKS = re.compile(
    r" {0,3}(?:[-*] +)?(?:\*\*|__)?(?:Q|Question)(?:\*\*|__)?[:.](?:\*\*|__)?[ \t]*(.+?)(?:\*\*|__)?$", re.I
)
ANSWERS = re.compile(r" {0,3}(?:\*\*|__)?(?:A|Answer)(?:\*\*|__)?[:.](?:\*\*|__)?[ \t]*(.*)$", re.I)
DEFINES = re.compile(r" {0,3}:[ \t]+(.*)$")
BEFORE_PAIRS = "text before the first question of its section"
NOTHING_BELOW = "a question with no answer below it"
TOO_MUCH = f"a section of more than {LONGEST_LINE:,} characters; what follows in it is not read"
LONGEST_FRONT = 200  # lines
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
    size: int = 0


def markdown_records(lines: Iterator[str | None]) -> Iterator[Record]:
    """The questions and answers of a Markdown text, each with the line on which it begins."""
    section, above = _Section(0, 0, "", ""), list[tuple[int, str]]()
    for line in _told(lines):
        if isinstance(line, int):
            yield line, TOO_LONG
            continue
        heading = None if line.code else HEADING.match(line.text)
        if heading is None:
            section.size += len(line.text)
            if section.size <= LONGEST_LINE:
                section.body.append(line)
            elif section.size - len(line.text) <= LONGEST_LINE:
                yield line.number, TOO_MUCH
            continue
        level = len(heading[1])
        yield from _records(section, parent=level > section.level > 0)
        above = [each for each in above if each[0] < level]
        topic = " / ".join(title for _, title in above)
        section = _Section(line.number, level, heading[2].strip("* "), topic)
        above.append((level, section.title))
    yield from _records(section, parent=False)


def _told(lines: Iterator[str | None]) -> Iterator[_Line | int]:
    """The lines behind the front matter, each with whether it belongs to a code block; of one too long its number."""
    fence = ""
    for number, line in _behind_front_matter(lines):
        if line is None:
            yield number
            continue
        text = line.rstrip("\n")
        mark = FENCE.match(text)
        code = bool(fence) or mark is not None
        if mark and not fence:
            fence = mark[1]
        elif fence and mark and mark[1].startswith(fence) and text.strip() == mark[1]:
            fence = ""
        yield _Line(number, text, code)


def _behind_front_matter(lines: Iterator[str | None]) -> Iterator[tuple[int, str | None]]:
    """The numbered lines from the end of the front matter on. A --- that nothing ends is a line across the page."""
    numbered = enumerate(lines, start=1)
    front: list[tuple[int, str | None]] = []
    for number, line in numbered:
        front.append((number, line))
        said = (line or "").strip()
        if number > 1 and said in ("---", "..."):
            front = []
        if (number == 1 and said != "---") or not front or number == LONGEST_FRONT:
            break
    yield from front
    yield from numbered


def _records(section: _Section, *, parent: bool) -> Iterator[Record]:
    topic = section.topic
    inner = " / ".join(each for each in (topic, section.title) if each)
    pairs = list(_pairs(section.body) or _definitions(section.body))
    before = [line for line in section.body if line.number < pairs[0][0]] if pairs else section.body
    answer = _joined([line.text for line in before])
    if not section.title:
        if answer:
            yield _first_said(before), "text that stands under no heading"
    elif section.title.endswith("?") and (answer or not (pairs or parent)):
        said: Record = (section.number, {"question": section.title, "answer": answer, "topic": topic})
        yield said if answer else (section.number, NOTHING_BELOW)
    elif answer and (pairs or parent):
        yield _first_said(before), BEFORE_PAIRS if pairs else INTRO
    elif answer:
        yield section.number, {"question": section.title, "answer": answer, "topic": topic}
    elif not pairs and not parent:
        yield section.number, "a heading with nothing below it"
    for number, question, told in pairs:
        yield number, {"question": question, "answer": _joined(told), "topic": inner}


def _first_said(lines: list[_Line]) -> int:
    return next(line.number for line in lines if line.text.strip())


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
