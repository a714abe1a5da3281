"""What a week was like: how much was asked and answered, by whom, how content people are, what it cost, what went wrong.

Figures only; how they are said is in `bot.digest_words`, how they look on a page in `bot.digest_page`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from bot.errors import PublicError
from bot.money_words import totals
from storage.digesting import AskedRow
from storage.operating import wall_time
from storage.records import QuestionState, now
from storage.spending import SpendSum
from storage.store import Store
from training.router_estimates import AnsweredQuestion, RouterReport, router_report
from training.solicited import Drawn, Satisfaction, satisfaction
from training.topics import AskedAbout, topics

MOST_TOPICS = 8


@dataclass(frozen=True, slots=True)
class Period:
    """A time [since, until), as people name it: "2026-W47", or its two days."""

    name: str
    since: datetime
    until: datetime

    @property
    def before(self) -> "Period":
        """As long a time, directly before."""
        length = self.until - self.since
        return Period("the time before", self.since - length, self.since)


@dataclass(frozen=True, slots=True)
class TopicFailures:
    """Questions of one topic, how many of them had no answer, and how many answers were disliked."""

    name: str
    questions: int
    unanswered: int
    disliked: int

    @property
    def failed(self) -> int:
        """Both together."""
        return self.unanswered + self.disliked


@dataclass(frozen=True, slots=True)
class Digest:
    """The figures of a time. Seconds are from the question to the posted answer; `rated` answers have a vote of somebody.

    `private` questions were asked elsewhere than in public channels; `by_day` counts questions by local date.
    """

    period: Period
    questions: int
    people: int
    answered: int
    unanswered: int
    by_kind: dict[str, int]
    seconds_p50: float | None
    seconds_p95: float | None
    satisfaction: Satisfaction
    rated: int
    liked: int
    spent_usd: float
    by_model: dict[str, float]
    routing: RouterReport
    topics: tuple[TopicFailures, ...]
    private: int
    by_day: dict[str, int]

    @property
    def local_share(self) -> float | None:
        """Of the answers, those of the local model and memory."""
        return self.routing.local_share


def week_named(name: str, timezone: str) -> Period:
    """An ISO week such as 2026-W47, from Monday 0:00 in the zone; "" or "last": the newest that is over; "this": this one.

    Raises PublicError for anything else.
    """
    zone = ZoneInfo(timezone)
    today = now().astimezone(zone).date()
    monday = today - timedelta(days=today.weekday())
    if name in ("", "last"):
        monday -= timedelta(days=7)
    elif name != "this":
        monday = _monday(name)
    since, until = (_midnight(day, zone) for day in (monday, monday + timedelta(days=7)))
    year, week, _ = monday.isocalendar()
    return Period(f"{year}-W{week:02}", since, until)


def days_named(since: str, until: str, timezone: str) -> Period:
    """From one day to another, both included, such as 2026-11-01. Raises PublicError."""
    zone = ZoneInfo(timezone)
    try:
        first = date.fromisoformat(since)
        last = date.fromisoformat(until) if until else now().astimezone(zone).date()
    except ValueError:
        raise PublicError(f"{since} to {until}: write days as 2026-11-01.") from None
    if last < first:
        raise PublicError(f"{last} is before {first}. Write the earlier day first.")
    return Period(f"{first} to {last}", _midnight(first, zone), _midnight(last + timedelta(days=1), zone))


def _monday(name: str) -> date:
    year, _, week = name.upper().partition("-W")
    try:
        return date.fromisocalendar(int(year), int(week), 1)
    except ValueError:
        raise PublicError(f"{name!r} is no week. Write this, last, or one such as 2026-W47.") from None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


async def gather(
    store: Store, team: str, period: Period, *, timezone: str, usual_api_usd: float | None = None
) -> Digest:
    """The figures of a time, from the store. `usual_api_usd` is what an API's answer costs where none was bought then."""
    rows = await store.asked_between(team, period.since, period.until)
    spent = await store.spending(team, period.since, period.until)
    return figures(rows, spent, period, timezone=timezone, usual_api_usd=usual_api_usd)


def figures(
    rows: Sequence[AskedRow],
    spent: Sequence[SpendSum],
    period: Period,
    *,
    timezone: str,
    usual_api_usd: float | None = None,
) -> Digest:
    """Pure. What was said elsewhere than in public channels is counted, and none of its topics is named."""
    answered = [row for row in rows if row.answer_id]
    rated = [row for row in answered if row.vote is not None]
    seconds = sorted(row.seconds for row in answered if row.seconds is not None)
    public = [row for row in rows if row.place == "channel"]
    days = Counter(wall_time(row.asked_at, timezone).partition("T")[0] for row in rows)
    return Digest(
        period=period,
        questions=len(rows),
        people=len({row.asker for row in rows}),
        answered=len(answered),
        unanswered=sum(_unanswered(row) for row in rows),
        by_kind=dict(Counter(row.kind for row in answered).most_common()),
        seconds_p50=_quantile(seconds, 0.5),
        seconds_p95=_quantile(seconds, 0.95),
        satisfaction=satisfaction(drawn(answered, timezone)),
        rated=len(rated),
        liked=sum((row.vote or 0.0) > 0 for row in rated),
        spent_usd=sum(each.cost_usd for each in spent),
        by_model=dict(totals(spent, lambda each: each.model)),
        routing=router_report([_routed(row) for row in answered], usual_api_usd=usual_api_usd),
        topics=failures_by_topic(public),
        private=len(rows) - len(public),
        by_day={day: days[day] for day in _days(period, timezone)},
    )


def drawn(answered: Sequence[AskedRow], timezone: str) -> list[Drawn]:
    """The answers for which somebody might have been asked for a rating."""
    return [
        Drawn(
            person=row.asker,
            day=wall_time(row.posted_at, timezone).partition("T")[0],
            at=row.posted_at,
            chance=row.chance,
            asked=row.solicited,
            liked=None if row.askers_vote is None else row.askers_vote > 0,
        )
        for row in answered
        if row.chance is not None and row.posted_at is not None
    ]


def failures_by_topic(rows: Sequence[AskedRow]) -> tuple[TopicFailures, ...]:
    """Topics in which something went wrong, the worst first."""
    by_id = {row.id: row for row in rows}
    found = []
    for topic in topics([AskedAbout(row.id, row.text, row.thread) for row in rows]):
        its = [by_id[each] for each in topic.examples]
        disliked = sum(row.vote is not None and row.vote < 0 for row in its)
        found.append(TopicFailures(topic.name, len(its), sum(map(_unanswered, its)), disliked))
    failed = [each for each in found if each.failed]
    return tuple(sorted(failed, key=lambda each: (-each.failed, each.name))[:MOST_TOPICS])


def _days(period: Period, timezone: str) -> list[str]:
    """The local dates of a time."""
    first, last = (moment.astimezone(ZoneInfo(timezone)).date() for moment in (period.since, period.until))
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days)]


def _unanswered(row: AskedRow) -> bool:
    return row.state == QuestionState.DROPPED


def _routed(row: AskedRow) -> AnsweredQuestion:
    label = None if row.vote is None else (row.vote + 1) / 2
    return AnsweredQuestion(row.thread, row.kind, row.cost_usd, label)


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Of sorted values, the smallest that is not less than `share` of them."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else None
