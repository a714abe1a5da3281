"""A digest as one page of HTML, with charts and every figure. Pure."""

from collections.abc import Sequence
from html import escape

from bot import pages
from bot.digest import Digest
from bot.digest_words import KINDS, lines, table, title
from bot.pages import LABEL, ROW, WIDTH

FOOTER = "Made by Apprentice. Intervals hold with 95 % confidence; one person's answers count as one piece of evidence."


def page(told: Digest, before: Digest | None = None) -> str:
    """The whole page."""
    short = [line for line in lines(told, before) if not line.startswith(("•", "*What went wrong"))]
    said = "".join(f"<li>{_plain(line)}</li>" for line in short)
    parts = [
        f"<ul>{said}</ul>\n",
        pages.bars("Questions on each day", told.by_day),
        pages.bars("Who answered", {KINDS.get(kind, kind): count for kind, count in told.by_kind.items()}),
        _contentment(told),
        pages.bars(
            "Disliked or without an answer", {each.name: each.failed for each in told.topics}, bad=True
        ),
        "<h2>All figures</h2>\n",
        pages.table(("figure", "of", "value", "low", "high", "n"), _rows(told), words=2),
    ]
    return pages.document(title(told), "".join(parts), FOOTER)


def _plain(line: str) -> str:
    """A line of mrkdwn without its stars."""
    name, colon, rest = line.partition(":*")
    if not colon:
        return escape(line)
    return f"<strong>{escape(name.removeprefix('*'))}:</strong>{escape(rest)}"


def _contentment(told: Digest) -> str:
    """The estimate as a point with its interval, and the span that no assumption narrows."""
    found = told.satisfaction
    if found.share is None or found.interval is None or found.lowest is None or found.highest is None:
        return ""
    room = WIDTH - LABEL - 60

    def at(share: float) -> float:
        return LABEL + room * share

    spans = (
        ("estimate", found.interval.low, found.interval.high, found.share),
        ("whatever the silent feel", found.lowest, found.highest, None),
    )
    drawn = []
    for number, (label, low, high, point) in enumerate(spans):
        middle = number * ROW + 15
        drawn.append(
            f'<text x="{LABEL - 10}" y="{middle + 5}" text-anchor="end">{label}</text>'
            f'<line x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{middle}" y2="{middle}"/>'
        )
        if point is not None:
            drawn.append(f'<circle class="bar" cx="{at(point):.1f}" cy="{middle}" r="6"/>')
    axis = 2 * ROW + 18
    ticks = (
        f'<text class="soft" x="{at(share):.1f}" y="{axis}" text-anchor="middle">{share:.0%}</text>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    told_in_words = (
        f"Estimate {found.share:.0%}, 95 % interval {found.interval.low:.0%} to {found.interval.high:.0%}; "
        f"whatever the silent feel {found.lowest:.0%} to {found.highest:.0%}"
    )
    name = "Content with their answer, of all askers"
    return pages.svg(name, told_in_words, "".join((*drawn, *ticks)), height=axis + 8)


def _rows(told: Digest) -> list[list[str]]:
    return [
        [each.name, each.of, *(_number(number) for number in (each.value, each.low, each.high, each.n))]
        for each in table(told)
    ]


def _number(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.3f}"


def names_of_files(told: Digest) -> Sequence[str]:
    """How the page and the table are called."""
    stem = f"apprentice-{told.period.name.replace(' ', '-')}"
    return f"{stem}.html", f"{stem}.csv"
