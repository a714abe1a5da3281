"""What a digest says, as lines of mrkdwn for Slack and the terminal, and as a table for whoever counts on. Pure."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO

from bot.digest import Digest
from bot.money_limits import usd

KINDS = {"memory": "memory", "local": "the local model", "openai": "OpenAI", "gemini": "Gemini"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
HEAD = ("period", "figure", "of", "value", "low", "high", "n")


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table: a number, its interval and what it rests on, where there are such."""

    name: str
    of: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


def lines(told: Digest, before: Digest | None = None) -> list[str]:
    """What people read."""
    if not told.questions:
        return ["Nobody asked anything."]
    said = [_asked(told, before), _answered(told), _content(told, before), _by_themselves(told), _money(told)]
    return [line for line in (*said, *_failures(told)) if line]


def title(told: Digest) -> str:
    """The time in words: "Week 2026-W47, 16 to 22 November"."""
    first, last = told.period.since, told.period.until
    days = f"{first:%-d %B} to {last - timedelta(hours=12):%-d %B %Y}"
    return (
        f"Week {told.period.name}, {days}" if (last - first).days == 7 and "W" in told.period.name else days
    )


def _asked(told: Digest, before: Digest | None) -> str:
    was = f"; {before.questions:,} the time before" if before is not None and before.questions else ""
    people = "1 person" if told.people == 1 else f"{told.people:,} people"
    without = f", {told.unanswered:,} got no answer" if told.unanswered else ""
    return f"*Asked:* {_count(told.questions, 'question')} by {people}{was}. {told.answered:,} answered{without}."


def _answered(told: Digest) -> str:
    if not told.answered:
        return ""
    shares = ", ".join(
        f"{KINDS.get(kind, kind)} {count / told.answered:.0%}" for kind, count in told.by_kind.items()
    )
    times = ""
    if told.seconds_p50 is not None and told.seconds_p95 is not None:
        times = f" Half of them within {told.seconds_p50:.1f} s, 95 % within {told.seconds_p95:.1f} s."
    return f"*Who answered:* {shares}; {told.local_share or 0.0:.0%} without an API.{times}"


def _content(told: Digest, before: Digest | None) -> str:
    """The estimate, with what it rests on and what it cannot know."""
    found = told.satisfaction
    asked = f"{found.replies:,} replies of {found.asked:,} asked at random"
    if found.share is None or found.interval is None or found.lowest is None or found.highest is None:
        if not found.asked:
            return "*Content with their answer:* not known: nobody was asked at random."
        more = _count(found.more, "more is", "more are")
        return f"*Content with their answer:* too few to say: {asked}, and {more} needed at least."
    was = before.satisfaction.share if before is not None else None
    then = f"; {was:.0%} the time before" if was is not None else ""
    more = f" About {found.more:,} more replies would make it sure to 10 points." if found.more else ""
    return (
        f"*Content with their answer:* {found.share:.0%} (95 % interval {found.interval.low:.0%} to "
        f"{found.interval.high:.0%}{then}), from {asked}. Whatever those felt who said nothing: between "
        f"{found.lowest:.0%} and {found.highest:.0%}.{more}"
    )


def _by_themselves(told: Digest) -> str:
    if not told.rated:
        return ""
    return (
        f"*Thumbs, asked for or not:* {told.liked / told.rated:.0%} of {told.rated:,} rated answers are liked. "
        "Who presses one unasked is not everybody, so this is no estimate."
    )


def _money(told: Digest) -> str:
    by_model = ", ".join(f"{model} {usd(spent)}" for model, spent in told.by_model.items())
    spent = f"*Spent on API models:* {usd(told.spent_usd)}{f' ({by_model})' if by_model else ''}"
    saved = told.routing.saved
    if saved is None or told.routing.saved_usd is None:
        return f"{spent}."
    low, high = (usd(each * told.routing.questions) for each in (saved.interval.low, saved.interval.high))
    return (
        f"{spent}; saved about {usd(told.routing.saved_usd)} against asking an API each time "
        f"(95 % interval {low} to {high})."
    )


def _failures(told: Digest) -> Iterator[str]:
    if told.topics:
        yield "*What went wrong most:*"
    for topic in told.topics:
        parts = [
            f"{count:,} {what}"
            for count, what in ((topic.disliked, "disliked"), (topic.unanswered, "without an answer"))
            if count
        ]
        yield f"• {topic.name}: {' and '.join(parts)} of {_count(topic.questions, 'question')}"
    if told.private:
        were = "was" if told.private == 1 else "were"
        yield (
            f"{_count(told.private, 'question')} {were} asked in private places; they are counted, and their topics are "
            "not named."
        )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# --- the table ------------------------------------------------------------------------------------------------------


def table(told: Digest) -> list[Figure]:
    """Every figure, one to a line."""
    found, saved = told.satisfaction, told.routing.saved
    interval = found.interval
    figures = [
        Figure("questions", "", told.questions),
        Figure("people", "", told.people),
        Figure("answered", "", told.answered, n=told.questions),
        Figure("unanswered", "", told.unanswered, n=told.questions),
        Figure("questions in private places", "", told.private, n=told.questions),
        *(Figure("questions on a day", day, count) for day, count in told.by_day.items()),
        *(Figure("answers", kind, count, n=told.answered) for kind, count in told.by_kind.items()),
        Figure("share without an API", "", told.local_share, n=told.answered),
        Figure("seconds to the answer", "median", told.seconds_p50, n=told.answered),
        Figure("seconds to the answer", "95th percentile", told.seconds_p95, n=told.answered),
        Figure("asked for a rating at random", "", found.asked),
        Figure(
            "content askers",
            "estimate from those asked at random",
            found.share,
            interval.low if interval else None,
            interval.high if interval else None,
            found.replies,
        ),
        Figure("content askers", "whatever the silent feel", None, found.lowest, found.highest, found.asked),
        Figure(
            "liked answers",
            "of all that were rated; no estimate",
            told.liked / told.rated if told.rated else None,
            n=told.rated,
        ),
        Figure("spent, US dollars", "", told.spent_usd),
        *(Figure("spent, US dollars", model, spent) for model, spent in told.by_model.items()),
    ]
    if saved is not None:
        questions = told.routing.questions
        low, high = saved.interval.low * questions, saved.interval.high * questions
        figures.append(Figure("saved, US dollars", "", told.routing.saved_usd, low, high, questions))
    for topic in told.topics:
        figures.append(Figure("disliked answers", topic.name, topic.disliked, n=topic.questions))
        figures.append(Figure("unanswered questions", topic.name, topic.unanswered, n=topic.questions))
    return figures


def csv_text(told: Digest) -> str:
    """The table as CSV (RFC 4180); no cell of it is a formula to a spreadsheet."""
    written = StringIO()
    rows = csv.writer(written)
    rows.writerow(HEAD)
    for each in table(told):
        numbers = (each.value, each.low, each.high, each.n)
        cells = ["" if number is None else f"{number:.10g}" for number in numbers]
        rows.writerow([_cell(told.period.name), each.name, _cell(each.of), *cells])
    return written.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text
