"""Keeps time: fires what the `schedule` rows ask for, and calls `tick` again and again.

The rows are the truth. APScheduler only wakes us, from memory, so that any replica may fire (its own job store is a pickle
and must not be shared); whoever wakes reads the row afresh and claims the firing, named by its local wall time, so it
happens once however many clocks run. Refuses to do the work itself: an action writes down a wish, a tick advances rows.

Times are cron's, not those of APScheduler's CronTrigger: 0 and 7 are Sunday, and where both a day of the month and a
weekday are given, either is enough. A wall time that spring skips happens an hour later by the clock (02:30 becomes
03:30); one that autumn repeats happens the first time only.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from apscheduler.events import EVENT_SCHEDULER_SHUTDOWN
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from bot.errors import PublicError
from storage.operating import wall_time
from storage.records import Schedule
from storage.records import now as utc_now
from storage.store import Store

EXAMPLES = (
    "Write “nightly at 03:00”, “weekdays at 22:15”, “every monday at 6”, “mon,thu 04:00”, “hourly”, “off”, “on”, "
    "or five cron fields such as “0 3 * * 1”."
)
# misfire_grace_time: the default of one second drops whatever a restart delays (facts/platform.md, part 2).
JOB_DEFAULTS = {"misfire_grace_time": 3600, "coalesce": True, "max_instances": 1}
STOP_LIMIT_S = 10.0
DAYS_SEARCHED = 366 * 9  # 29 February can be eight years away (2096 to 2104)

WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
ON = {"on", "enable", "enabled", "resume"}
OFF = {"off", "disable", "disabled", "pause", "never", "stop"}
DAY_PHRASES = {
    "": "*",
    "nightly": "*",
    "daily": "*",
    "day": "*",
    "night": "*",
    "weekday": "1-5",
    "weekdays": "1-5",
    "weekend": "0,6",
    "weekends": "0,6",
}
DAYS_AND_TIME = re.compile(r"(?P<days>.*?)(?: ?\bat)? ?(?P<time>\d\S*(?: [ap]m)?|noon|midnight)")
TIME_OF_DAY = re.compile(r"(\d{1,2})(?:[:.h](\d{2}))?\s*(am|pm)?")


@dataclass(frozen=True, slots=True)
class Cron:
    """When something is to happen: five cron fields, weekdays by cron's meaning (0 and 7 are Sunday).

    `text` is empty for a plain "on" or "off", which keep the time that was set before.
    """

    text: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class _Fields:
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool  # whether the day of the month or the weekday is enough

    def include(self, day: date) -> bool:
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        fits = by_date or by_weekday if self.either else by_date and by_weekday
        return fits and day.month in self.months


def parse_schedule(text: str, timezone: str) -> Cron:
    """What a person typed, as a time. Raises PublicError naming the part that is wrong, with examples."""
    _zone(timezone)
    words = " ".join(text.casefold().strip(" \t\n`'\"“”‘’.").split())
    if words in ON or words in OFF:
        return Cron("", enabled=words in ON)
    if not words:
        raise PublicError(f"When? {EXAMPLES}")
    cron = Cron(words if _looks_like_cron(words) else _from_words(words))
    _fields(cron.text)
    return cron


def describe(cron: Cron, timezone: str) -> str:
    """The time in words: "every Monday at 06:00 (Europe/Berlin)"."""
    if not cron.enabled:
        return "off"
    if not cron.text:
        return "on"
    fields = _fields(cron.text)
    days, times = _days_in_words(fields), _times_in_words(fields)
    said = f"{days} {times}" if days and times else f"by cron `{cron.text}`"
    if fields.hours == tuple(range(24)) and days == "every day" and times:
        said = times
    return f"{said} ({timezone})"


def next_times(cron: Cron, timezone: str, after: datetime, n: int) -> list[datetime]:
    """The next `n` times later than `after`, aware, in the zone; none where it is off or has no time."""
    if not cron.enabled or not cron.text:
        return []
    fields, zone = _fields(cron.text), _zone(timezone)
    # A day more at both ends: where spring comes at 23:00, the last times of a day lie in the next one.
    start = after.astimezone(zone).date() - timedelta(days=1)
    found: set[datetime] = set()
    for offset in range(DAYS_SEARCHED):
        enough = len(found) >= n
        found |= {
            moment for moment in _moments(fields, zone, start + timedelta(days=offset)) if moment > after
        }
        if enough:
            break
    return [moment.astimezone(zone) for moment in sorted(found)[:n]]


def last_due(cron: Cron, timezone: str, *, since: datetime, until: datetime) -> datetime | None:
    """The newest time in (since, until], aware, in UTC; None where there was none."""
    if not cron.enabled or not cron.text:
        return None
    fields, zone = _fields(cron.text), _zone(timezone)
    day, first = until.astimezone(zone).date(), since.astimezone(zone).date() - timedelta(days=1)
    while day >= first:
        here = _moments(fields, zone, day) + _moments(fields, zone, day - timedelta(days=1))
        due = [moment for moment in here if since < moment <= until]
        if due:
            return max(due)
        day -= timedelta(days=1)
    return None


class Clock:
    """Fires the schedules of `store` and ticks, until it is stopped.

    `actions` names what can be scheduled; each gets its occasion, `action@local wall time`, which is claimed before, so it
    is called once for it. A firing missed while nobody kept time happens once, late, unless the schedule was changed since.
    What an action or a tick raises is logged, and the clock goes on.
    """

    def __init__(
        self,
        store: Store,
        *,
        actions: Mapping[str, Callable[[str], Awaitable[None]]],
        tick: Callable[[], Awaitable[None]],
        tick_s: float = 1.0,
        reload_s: float = 30.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._actions = dict(actions)
        self._tick = tick
        self._tick_s = tick_s
        self._reload_s = reload_s
        self._now = now
        self._log = structlog.get_logger("bot.schedule")
        self._scheduler: Any = _scheduler()
        self._set: dict[str, tuple[str, str, str]] = {}
        self._busy: set[asyncio.Task[Any]] = set()
        self._reloading = asyncio.Lock()

    async def start(self) -> None:
        """Begin to keep time; what was missed while nobody did is fired at once."""
        # It says every second that it ran the tick, and whenever it did not because one was still running.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler.start()
        await self.reload()
        self._scheduler.add_job(self._tick_once, "interval", seconds=self._tick_s, id="tick")
        self._scheduler.add_job(self._poll, "interval", seconds=self._reload_s, id="reload")

    async def stop(self) -> None:
        """Begin nothing more, let what runs come to its end (10 s at most), then stop."""
        if not self._scheduler.running:
            return
        self._scheduler.pause()
        if self._busy:
            await asyncio.wait(self._busy, timeout=STOP_LIMIT_S)
        stopped = asyncio.Event()  # it shuts down in a later turn of the loop
        self._scheduler.add_listener(lambda _event: stopped.set(), EVENT_SCHEDULER_SHUTDOWN)
        self._scheduler.shutdown(wait=False)
        await stopped.wait()

    async def reload(self) -> None:
        """Take over the rows as they are now; call it after a change (it is polled too)."""
        async with self._reloading:
            rows = {row.id: row for row in await self._store.schedules() if row.enabled}
            for schedule_id in self._set.keys() - rows.keys():
                self._unset(schedule_id)
            for row in rows.values():
                if self._set.get(row.id) != _time_of(row):
                    self._set_time(row)
                if self._scheduler.get_job(row.id) and _overdue(row, self._now()):
                    late = f"late {row.id}"
                    self._scheduler.add_job(self._look, args=(row.id,), id=late, replace_existing=True)

    def _unset(self, schedule_id: str) -> None:
        del self._set[schedule_id]
        if self._scheduler.get_job(schedule_id):
            self._scheduler.remove_job(schedule_id)

    def _set_time(self, row: Schedule) -> None:
        if row.id in self._set:
            self._unset(row.id)
        self._set[row.id] = _time_of(row)
        if row.action not in self._actions:
            self._log.error("schedule for an unknown action", action=row.action, known=sorted(self._actions))
            return
        try:
            next_times(Cron(row.cron), row.timezone, self._now(), 1)
        except PublicError as error:
            self._log.error("schedule cannot be read", action=row.action, cron=row.cron, why=str(error))
            return
        times = _Times(Cron(row.cron), row.timezone)
        self._scheduler.add_job(self._look, times, args=(row.id,), id=row.id, replace_existing=True)

    async def _look(self, schedule_id: str) -> None:
        with self._doing("schedule", schedule=schedule_id):
            rows = [row for row in await self._store.schedules() if row.id == schedule_id]
            for row in rows:
                due = _overdue(row, self._now()) if row.enabled else None
                if due and await self._store.fired(row.id, due):
                    await self._fire(row.action, f"{row.action}@{due}")

    async def _fire(self, action: str, occasion: str) -> None:
        self._log.info("schedule fires", occasion=occasion)
        with self._doing("action", occasion=occasion):
            await self._actions[action](occasion)

    async def _tick_once(self) -> None:
        with self._doing("tick"):
            await self._tick()

    async def _poll(self) -> None:
        with self._doing("reload"):
            await self.reload()

    @contextmanager
    def _doing(self, what: str, **about: str) -> Iterator[None]:
        task = asyncio.current_task()
        outermost = task is not None and task not in self._busy
        if task is not None and outermost:
            self._busy.add(task)
        try:
            yield
        except Exception:
            self._log.exception(f"{what} failed", **about)
        finally:
            if task is not None and outermost:
                self._busy.discard(task)


def _scheduler() -> Any:
    """An APScheduler, which has no types."""
    return AsyncIOScheduler(timezone=UTC, job_defaults=JOB_DEFAULTS)  # type: ignore[no-untyped-call]


class _Times(BaseTrigger):
    """Our times for APScheduler; those that were slept through count as one."""

    def __init__(self, cron: Cron, timezone: str) -> None:
        self._cron, self._timezone = cron, timezone

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """The newest time that is already due, otherwise the next one."""
        late = previous and last_due(self._cron, self._timezone, since=previous, until=now)
        return late or next(iter(next_times(self._cron, self._timezone, now, 1)), None)


def _time_of(row: Schedule) -> tuple[str, str, str]:
    return row.action, row.cron, row.timezone


def _overdue(row: Schedule, moment: datetime) -> str | None:
    """The local wall time of the newest firing that is due and not claimed."""
    due = last_due(Cron(row.cron), row.timezone, since=row.changed_at, until=moment)
    local = wall_time(due, row.timezone) if due else ""
    return local if local > row.last_fired_local else None


def _moments(fields: _Fields, zone: ZoneInfo, day: date) -> list[datetime]:
    """The times that begin on this local day, in UTC and in order; each wall time once (`fold` stays 0)."""
    if not fields.include(day):
        return []
    walls = (time(hour, minute) for hour in fields.hours for minute in fields.minutes)
    return sorted({datetime.combine(day, wall, tzinfo=zone).astimezone(UTC) for wall in walls})


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PublicError(
            f"“{name}” is no time zone. Write a name such as Europe/Berlin in TIMEZONE."
        ) from None


def _looks_like_cron(words: str) -> bool:
    parts = words.split()
    return len(parts) >= 4 and all(re.fullmatch(r"[\d*/,\-]+", part) for part in parts[:3])


@lru_cache(maxsize=64)
def _fields(text: str) -> _Fields:
    parts = text.casefold().split()
    if len(parts) != 5:
        raise PublicError(
            f"“{text}” has {len(parts)} cron fields; cron has five: minute, hour, day, month, weekday. {EXAMPLES}"
        )
    minute, hour, day, month, weekday = parts
    fields = _Fields(
        minutes=tuple(sorted(_field("minute", minute, 0, 59))),
        hours=tuple(sorted(_field("hour", hour, 0, 23))),
        days=_field("day", day, 1, 31),
        months=_field("month", month, 1, 12, MONTHS, first=1),
        weekdays=_weekdays(weekday),
        either=not day.startswith("*") and not weekday.startswith("*"),
    )
    earliest = min(fields.days)
    if not fields.either and earliest > max(LONGEST[number - 1] for number in fields.months):
        raise PublicError(f"“{text}” never happens: no month it names has a day {earliest}. {EXAMPLES}")
    return fields


def _weekdays(part: str) -> frozenset[int]:
    return frozenset(number % 7 for number in _field("weekday", part, 0, 7, WEEKDAYS))


def _field(
    name: str, part: str, low: int, high: int, names: tuple[str, ...] = (), first: int = 0
) -> frozenset[int]:
    """The numbers that one cron field allows: lists, ranges, steps and (for months and weekdays) names."""
    chosen: set[int] = set()
    for piece in part.split(","):
        span, slash, step = piece.partition("/")
        if slash and (not step.isdecimal() or int(step) == 0):
            raise PublicError(f"The {name} “{part}” has a step that is no number above 0. {EXAMPLES}")
        begin, dash, end = span.partition("-")
        if span == "*":
            start, stop = low, high - (name == "weekday")
        else:
            start = _number(name, begin, low, high, names, first)
            stop = _number(name, end, low, high, names, first) if dash else high if slash else start
        if dash and stop == 0 and names is WEEKDAYS:
            stop = 7
        if stop < start:
            raise PublicError(
                f"The {name} “{part}” goes backwards. Write it as a list, such as “5,6,0”. {EXAMPLES}"
            )
        chosen.update(range(start, stop + 1, int(step) if slash else 1))
    return frozenset(chosen)


def _number(name: str, text: str, low: int, high: int, names: tuple[str, ...], first: int) -> int:
    for number, known in enumerate(names, start=first):
        if len(text) >= 3 and known.casefold().startswith(text):
            return number
    if not text.isdecimal() or not text.isascii():
        raise PublicError(f"I do not understand “{text}” as the {name}. {EXAMPLES}")
    if not low <= int(text) <= high:
        raise PublicError(f"The {name} {text} is out of range: {low} to {high}. {EXAMPLES}")
    return int(text)


def _from_words(words: str) -> str:
    if hourly := re.fullmatch(r"(?:hourly|every hour|each hour)(?: at)?(?: :?(\d{1,2}))?", words):
        return f"{int(hourly[1] or 0)} * * * *"
    parts = DAYS_AND_TIME.fullmatch(words)
    if parts is None:
        raise PublicError(f"“{words}” names no time of day, or one I do not understand. {EXAMPLES}")
    days = re.sub(r"^(?:(?:every|each|weekly|on) )*", "", f"{parts['days']} ").strip()
    hour, minute = _time_of_day(parts["time"])
    return f"{minute} {hour} * * {DAY_PHRASES.get(days) or _named_days(days)}"


def _time_of_day(clock: str) -> tuple[int, int]:
    if clock in {"noon", "midnight"}:
        return (12 if clock == "noon" else 0), 0
    parts = TIME_OF_DAY.fullmatch(clock)
    if parts is None:
        raise PublicError(f"I do not understand the time “{clock}”. {EXAMPLES}")
    hour, minute, half = int(parts[1]), int(parts[2] or 0), parts[3]
    if half and not 1 <= hour <= 12:
        raise PublicError(f"The hour in “{clock}” is out of range: 1 to 12 with am or pm. {EXAMPLES}")
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 23 or minute > 59:
        part, value, last = ("hour", hour, 23) if hour > 23 else ("minute", minute, 59)
        raise PublicError(f"The {part} {value} in “{clock}” is out of range: 0 to {last}. {EXAMPLES}")
    return hour, minute


def _named_days(phrase: str) -> str:
    """Weekdays by name, as a cron field: "mondays and thursdays", "mon-fri", "friday to sunday"."""
    chosen: list[int] = []
    for piece in re.split(r"\s*(?:,|&|\band\b|\s)\s*", re.sub(r"\s*(-|–| to | through )\s*", "-", phrase)):
        begin, dash, end = piece.removeprefix("every ").partition("-")
        start = _day_named(begin, phrase)
        count = (_day_named(end, phrase) - start) % 7 if dash else 0
        chosen += [(start + offset) % 7 for offset in range(count + 1)]
    return ",".join(str(number) for number in sorted(set(chosen)))


def _day_named(text: str, phrase: str) -> int:
    singular = text.removesuffix("s") if text.endswith("days") else text
    for number, name in enumerate(WEEKDAYS):
        if len(singular) >= 3 and name.casefold().startswith(singular):
            return number
    raise PublicError(f"I do not understand the day “{text or phrase}”. {EXAMPLES}")


def _days_in_words(fields: _Fields) -> str:
    if len(fields.months) < 12 or len(fields.days) < 31:
        return _dates_in_words(fields)
    if len(fields.weekdays) == 7:
        return "every day"
    if fields.weekdays == frozenset(range(1, 6)):
        return "Monday to Friday"
    monday_first = sorted(fields.weekdays, key=lambda number: (number - 1) % 7)
    return "every " + _listed([WEEKDAYS[number] for number in monday_first])


def _dates_in_words(fields: _Fields) -> str:
    if len(fields.weekdays) < 7 or len(fields.days) > 3:
        return ""
    which = _listed([str(day) for day in sorted(fields.days)])
    if len(fields.months) == 12:
        return f"on day {which} of every month"
    return f"on day {which} of {_listed([MONTHS[month - 1] for month in sorted(fields.months)])}"


def _times_in_words(fields: _Fields) -> str:
    if fields.hours == tuple(range(24)) and len(fields.minutes) == 1:
        minute = fields.minutes[0]
        return f"every hour at minute {minute}" if minute else "every hour, on the hour"
    if len(fields.hours) * len(fields.minutes) > 4:
        return ""
    return "at " + _listed([f"{hour:02}:{minute:02}" for hour in fields.hours for minute in fields.minutes])


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
