"""Pages of HTML for reports: no script, nothing from elsewhere, charts as SVG with their numbers in words. Pure.

They follow the reader's choice of light or dark, and print.
"""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, ROW, LABEL = 640, 30, 190
HEIGHT, LEFT, BOTTOM = 260, 50, 40
COLOURS = ("bar", "bad", "soft")
STYLE = """
:root {
  color-scheme: light dark; --ink: #1d1c1d; --soft: #616061; --line: #dddddd; --paper: #ffffff;
  --bar: #1264a3; --bad: #c4314b;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #ababad; --line: #3c3f44; --paper: #1a1d21; --bar: #5aa9e6; --bad: #ff7a8a; }
}
body {
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 2rem auto; max-width: 46rem; padding: 0 1rem;
}
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
ul { padding-left: 1.2rem; } li { margin: .35rem 0; }
svg { display: block; height: auto; max-width: 100%; }
svg text { fill: var(--ink); font: 14px system-ui, sans-serif; } svg .soft { fill: var(--soft); }
svg .bar { fill: var(--bar); } svg .bad { fill: var(--bad); } svg line { stroke: var(--soft); stroke-width: 2; }
svg polyline { fill: none; stroke-width: 2.5; }
svg polyline.bar { stroke: var(--bar); fill: none; } svg polyline.bad { stroke: var(--bad); fill: none; }
svg polyline.soft { stroke: var(--soft); fill: none; }
table { border-collapse: collapse; font-size: .9rem; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: left; }
.wide { overflow-x: auto; } td.number { font-variant-numeric: tabular-nums; } td.number, th.number { text-align: right; }
footer { color: var(--soft); font-size: .85rem; margin-top: 2rem; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } svg { break-inside: avoid; } }
"""


def document(heading: str, body: str, footer: str) -> str:
    """A whole page around a body that is HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Apprentice: {escape(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(heading)}</h1>\n{body}<footer>{escape(footer)}</footer>\n</body>\n</html>\n"
    )


def bars(name: str, values: Mapping[str, float], *, bad: bool = False, most: float = 0.0) -> str:
    """Bars that lie, each with its label and its number; "" where there are none. `most`: what the longest would be."""
    if not values:
        return ""
    most = most or max(values.values()) or 1
    room = WIDTH - LABEL - 60
    drawn = []
    for number, (label, value) in enumerate(values.items()):
        top, wide = number * ROW, max(2.0, room * value / most)
        drawn.append(
            f'<text x="{LABEL - 10}" y="{top + 20}" text-anchor="end">{escape(_short(label))}</text>'
            f'<rect class="{"bad" if bad else "bar"}" x="{LABEL}" y="{top + 5}" width="{wide:.1f}" '
            f'height="{ROW - 10}" rx="3"/>'
            f'<text class="soft" x="{LABEL + wide + 8:.1f}" y="{top + 20}">{value:,.0f}</text>'
        )
    told = "; ".join(f"{label}: {value:,.0f}" for label, value in values.items())
    return svg(name, told, "".join(drawn), height=len(values) * ROW)


def curves(name: str, at: Sequence[str], series: Mapping[str, Sequence[float]], *, axis: str) -> str:
    """Lines over `at`, from 0 to the largest value, each with its name at its end."""
    most = max((value for values in series.values() for value in values), default=0.0) or 1.0
    room, high = WIDTH - LEFT - 110, HEIGHT - BOTTOM

    def place(number: int, value: float) -> str:
        return f"{LEFT + room * number / max(1, len(at) - 1):.1f},{high - (high - 15) * value / most:.1f}"

    drawn = [f'<line x1="{LEFT}" y1="{high}" x2="{LEFT + room}" y2="{high}"/>']
    for share in (0.0, 0.5, 1.0):
        level = high - (high - 15) * share
        drawn.append(
            f'<text class="soft" x="{LEFT - 8}" y="{level + 5:.1f}" text-anchor="end">{most * share:.2g}</text>'
        )
    for number in sorted({0, len(at) // 2, len(at) - 1}):
        left = LEFT + room * number / max(1, len(at) - 1)
        drawn.append(
            f'<text class="soft" x="{left:.1f}" y="{high + 20}" text-anchor="middle">{escape(at[number])}</text>'
        )
    drawn.append(
        f'<text class="soft" x="{LEFT + room / 2}" y="{high + 38}" text-anchor="middle">{escape(axis)}</text>'
    )
    named = 0.0
    for (label, values), colour in zip(
        sorted(series.items(), key=lambda each: -each[1][-1]), COLOURS, strict=False
    ):
        points = " ".join(place(number, value) for number, value in enumerate(values))
        right, level = (float(each) for each in place(len(values) - 1, values[-1]).split(","))
        named = max(level + 5, named + 18)  # no name on another one
        drawn.append(
            f'<polyline class="{colour}" points="{points}"/>'
            f'<text class="{colour}" x="{right + 8:.1f}" y="{named:.1f}">{escape(label)}</text>'
        )
    told = "; ".join(f"{label} from {values[0]:.3g} to {values[-1]:.3g}" for label, values in series.items())
    return svg(name, told, "".join(drawn), height=HEIGHT)


def svg(name: str, told: str, drawn: str, *, height: float) -> str:
    """A drawing with its heading, and in words for who does not see it."""
    return (
        f"<h2>{escape(name)}</h2>\n"
        f'<svg role="img" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}">'
        f"<title>{escape(name)}</title><desc>{escape(told)}</desc>{drawn}</svg>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A table whose first columns are `words`, the others numbers."""
    titles = "".join(
        f'<th scope="col"{" class=number" if place >= words else ""}>{escape(name)}</th>'
        for place, name in enumerate(head)
    )
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=number' if place >= words else ''}>{escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table></div>\n'


def _short(label: str, most: int = 26) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"
