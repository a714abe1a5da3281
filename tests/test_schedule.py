"""When things happen by themselves: what people may type, which times that means, and that each of them happens once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog

from bot.errors import PublicError
from bot.schedule import Clock, Cron, describe, last_due, next_times, parse_schedule
from storage.records import Schedule
from storage.store import Store

BERLIN = "Europe/Berlin"
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)  # a Sunday


def times(cron: str, after: datetime, n: int, zone: str = BERLIN) -> list[str]:
    """As clocks in the zone show them, with the distance to UTC."""
    return [moment.strftime("%Y-%m-%d %H:%M %z") for moment in next_times(Cron(cron), zone, after, n)]


# --- What people type


@pytest.mark.parametrize(
    ("typed", "cron", "said"),
    [
        ("nightly at 03:00", "0 3 * * *", "every day at 03:00"),
        ("daily 3:30", "30 3 * * *", "every day at 03:30"),
        ("  Every Day at 3:30 am ", "30 3 * * *", "every day at 03:30"),
        ("at 6pm", "0 18 * * *", "every day at 18:00"),
        ("midnight", "0 0 * * *", "every day at 00:00"),
        ("12am", "0 0 * * *", "every day at 00:00"),
        ("12 pm", "0 12 * * *", "every day at 12:00"),
        ("weekdays at 22:15", "15 22 * * 1-5", "Monday to Friday at 22:15"),
        ("weekends 9", "0 9 * * 0,6", "every Saturday and Sunday at 09:00"),
        ("every monday at 6", "0 6 * * 1", "every Monday at 06:00"),
        ("mon,thu 04:00", "0 4 * * 1,4", "every Monday and Thursday at 04:00"),
        ("Mondays and Thursdays at 4", "0 4 * * 1,4", "every Monday and Thursday at 04:00"),
        ("friday to sunday at noon", "0 12 * * 0,5,6", "every Friday, Saturday and Sunday at 12:00"),
        ("weekly on Tuesday at 5", "0 5 * * 2", "every Tuesday at 05:00"),
        ("hourly", "0 * * * *", "every hour, on the hour"),
        ("hourly at :15", "15 * * * *", "every hour at minute 15"),
        ("`0 3 * * 1`", "0 3 * * 1", "every Monday at 03:00"),
        ("0 3 * * SUN", "0 3 * * sun", "every Sunday at 03:00"),
        ("0 3 1,15 * *", "0 3 1,15 * *", "on day 1 and 15 of every month at 03:00"),
        ("0 3 29 2 *", "0 3 29 2 *", "on day 29 of February at 03:00"),
        ("*/20 3 * * *", "*/20 3 * * *", "every day at 03:00, 03:20 and 03:40"),
        ("0 3 1 * 1", "0 3 1 * 1", "by cron `0 3 1 * 1`"),
    ],
)
def test_what_a_person_types_is_understood_and_said_back(typed: str, cron: str, said: str) -> None:
    """The sentence that is said back names the days, the time and the zone."""
    parsed = parse_schedule(typed, BERLIN)
    assert parsed == Cron(cron, enabled=True)
    assert describe(parsed, BERLIN) == f"{said} (Europe/Berlin)"


@pytest.mark.parametrize(
    ("typed", "enabled"), [("off", False), ("On", True), ("pause", False), ("resume", True)]
)
def test_off_and_on_keep_the_time(typed: str, enabled: bool) -> None:
    """They say nothing about when."""
    parsed = parse_schedule(typed, BERLIN)
    assert parsed == Cron("", enabled=enabled)
    assert describe(parsed, BERLIN) == ("on" if enabled else "off")
    assert next_times(parsed, BERLIN, NOON, 3) == []


@pytest.mark.parametrize(
    ("typed", "part"),
    [
        ("", "When?"),
        ("nightly", "“nightly” names no time of day"),
        ("nightly at three", "names no time of day"),
        ("nightly at 25:00", "The hour 25 in “25:00” is out of range: 0 to 23"),
        ("nightly at 3:77", "The minute 77 in “3:77” is out of range: 0 to 59"),
        ("13pm", "The hour in “13pm” is out of range: 1 to 12 with am or pm"),
        ("nightly at 3:0", "I do not understand the time “3:0”"),
        ("every moonday at 3", "I do not understand the day “moonday”"),
        ("mo at 3", "I do not understand the day “mo”"),
        ("61 3 * * *", "The minute 61 is out of range: 0 to 59"),
        ("0 24 * * *", "The hour 24 is out of range: 0 to 23"),
        ("0 3 0 * *", "The day 0 is out of range: 1 to 31"),
        ("0 3 * 13 *", "The month 13 is out of range: 1 to 12"),
        ("0 3 * * 8", "The weekday 8 is out of range: 0 to 7"),
        ("0 3 * * foo", "I do not understand “foo” as the weekday"),
        ("0 3 , * *", "I do not understand “” as the day"),
        ("*/0 3 * * *", "The minute “*/0” has a step that is no number above 0"),
        ("0 5-3 * * *", "The hour “5-3” goes backwards"),
        ("0 3 * *", "has 4 cron fields; cron has five"),
        ("0 3 * * 1 *", "has 6 cron fields; cron has five"),
        ("0 3 31 2,4 *", "never happens: no month it names has a day 31"),
    ],
)
def test_a_mistake_is_named_with_examples(typed: str, part: str) -> None:
    """The person sees which part is wrong and what works."""
    with pytest.raises(PublicError) as refused:
        parse_schedule(typed, BERLIN)
    assert part in str(refused.value)
    assert "“nightly at 03:00”" in str(refused.value)


@pytest.mark.parametrize("zone", ["Berlin", "../etc/passwd", "", "Europe"])
def test_an_unknown_zone_is_named(zone: str) -> None:
    """With where to set it."""
    with pytest.raises(PublicError, match=r"is no time zone.*TIMEZONE"):
        parse_schedule("nightly at 3", zone)


# --- Which times that means


@pytest.mark.parametrize(
    ("weekday", "first"),
    [
        ("0", "2026-11-29"),
        ("7", "2026-11-29"),
        ("1", "2026-11-23"),
        ("mon", "2026-11-23"),
        ("6", "2026-11-28"),
    ],
)
def test_weekdays_are_those_of_cron(weekday: str, first: str) -> None:
    """1 is Monday, 0 and 7 are Sunday; APScheduler by itself would take 1 for Tuesday."""
    assert times(f"0 3 * * {weekday}", NOON, 1) == [f"{first} 03:00 +0100"]


@pytest.mark.parametrize("weekdays", ["5-7", "fri-sun", "5,6,0"])
def test_a_range_of_weekdays_may_end_on_sunday(weekdays: str) -> None:
    """Friday to Sunday, however it is written."""
    days = [moment.strftime("%a") for moment in next_times(Cron(f"0 3 * * {weekdays}"), BERLIN, NOON, 4)]
    assert days == ["Fri", "Sat", "Sun", "Fri"]


def test_a_day_or_a_weekday_is_enough_where_both_are_given() -> None:
    """As in cron: the first of the month, and every Friday."""
    assert [when[:10] for when in times("0 3 1 * 5", NOON, 3)] == ["2026-11-27", "2026-12-01", "2026-12-04"]


def test_leap_days_are_found() -> None:
    """Also over the eight years around 2100."""
    assert times("30 2 29 2 *", datetime(2096, 3, 1, tzinfo=UTC), 1) == ["2104-02-29 02:30 +0100"]


def test_a_time_is_later_than_the_moment_asked_about() -> None:
    """Asking at a firing gives the next one."""
    at_three = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
    assert times("0 3 * * *", at_three, 1) == ["2026-11-24 03:00 +0100"]
    assert times("0 3 * * *", at_three - timedelta(seconds=1), 1) == ["2026-11-23 03:00 +0100"]


def test_in_spring_a_skipped_time_happens_an_hour_later_once() -> None:
    """On 2027-03-28 Berlin has no 02:30; the night is not left out."""
    before = datetime(2027, 3, 27, 12, 0, tzinfo=UTC)
    assert times("30 2 * * *", before, 3) == [
        "2027-03-28 03:30 +0200",
        "2027-03-29 02:30 +0200",
        "2027-03-30 02:30 +0200",
    ]
    assert times("0 * * * *", datetime(2027, 3, 28, 0, 0, tzinfo=UTC), 2) == [
        "2027-03-28 03:00 +0200",
        "2027-03-28 04:00 +0200",
    ]
    assert times("30 2,3 * * *", before, 2) == ["2027-03-28 03:30 +0200", "2027-03-29 02:30 +0200"]


def test_in_autumn_a_repeated_time_happens_the_first_time_only() -> None:
    """On 2026-10-25 Berlin has 02:30 twice; APScheduler's own trigger fires at both."""
    before = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    assert times("30 2 * * *", before, 2) == ["2026-10-25 02:30 +0200", "2026-10-26 02:30 +0100"]
    night = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    assert times("0 * * * *", night, 3) == [
        "2026-10-25 02:00 +0200",
        "2026-10-25 03:00 +0100",
        "2026-10-25 04:00 +0100",
    ]


def test_the_last_due_time_is_the_newest_of_those_missed() -> None:
    """Between two moments; the first is excluded and the second is not."""
    three = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)

    def due(since: datetime, until: datetime, cron: str = "0 3 * * *") -> datetime | None:
        return last_due(Cron(cron), BERLIN, since=since, until=until)

    assert due(three - timedelta(days=40), three + timedelta(hours=5)) == three
    assert due(three - timedelta(seconds=1), three) == three
    assert due(three, three + timedelta(hours=23)) is None
    assert due(three - timedelta(days=400), three, "0 3 29 2 *") is None
    night = datetime(2026, 10, 25, 1, 45, tzinfo=UTC)  # 02:45, for the second time
    assert due(night - timedelta(days=1), night, "30 2 * * *") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


# --- That it happens, once


class Watch:
    """A clock's idea of now, set by hand."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def set_berlin(self, wall: str, fold: int = 0) -> None:
        """To the moment when clocks in Berlin show this."""
        self.moment = datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo(BERLIN), fold=fold).astimezone(UTC)


class Diary:
    """What was fired, in order."""

    def __init__(self) -> None:
        self.occasions: list[str] = []

    async def train(self, occasion: str) -> None:
        """The action under test."""
        self.occasions.append(occasion)


async def nothing() -> None:
    """A tick with nothing to do."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so, ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


Keep = Callable[..., Awaitable[Clock]]


@pytest.fixture
async def keep(store: Store) -> AsyncIterator[Keep]:
    """Starts clocks on the store and stops them at the end."""
    clocks: list[Clock] = []

    async def start(diary: Diary, watch: Watch | None = None, **options: Any) -> Clock:
        values: dict[str, Any] = {"actions": {"train": diary.train}, "tick": nothing, "reload_s": 0.02}
        values |= {"now": watch} if watch else {}
        clock = Clock(store, **(values | options))
        clocks.append(clock)
        await clock.start()
        return clock

    yield start
    for clock in clocks:
        await clock.stop()


async def set_schedule(
    store: Store, watch: Watch, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> Schedule:
    """Set the schedule at the moment that the watch shows."""
    monkeypatch.setattr("storage.operating.now", watch)
    values: dict[str, Any] = {
        "team": "T1",
        "action": "train",
        "cron": "30 2 * * *",
        "timezone": BERLIN,
        "enabled": True,
    }
    return await store.set_schedule(**(values | changes), by="U1")


async def looked_again(store: Store, rounds: int = 3) -> None:
    """Wait until the clocks have read the schedules that many times more."""
    read, reads = store.schedules, 0

    async def counted() -> list[Schedule]:
        nonlocal reads
        rows = await read()
        reads += 1
        return rows

    store.schedules = counted  # type: ignore[method-assign]
    await until(lambda: reads >= rounds)
    store.schedules = read  # type: ignore[method-assign]


async def test_a_night_fires_once_for_all_replicas(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three clocks on one database: one occasion, named by the action and the local wall time."""
    watch, diary = Watch(NOON), Diary()
    await set_schedule(store, watch, monkeypatch)
    for _ in range(3):
        await keep(diary, watch)
    assert diary.occasions == []
    watch.set_berlin("2026-11-23T02:30")
    await until(lambda: bool(diary.occasions))
    await looked_again(store, 9)
    assert diary.occasions == ["train@2026-11-23T02:30"]


async def test_autumns_double_hour_fires_once(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks show 02:30 twice that night, also to a bot that was restarted in between."""
    watch, diary = Watch(datetime(2026, 10, 24, 12, 0, tzinfo=UTC)), Diary()
    await set_schedule(store, watch, monkeypatch)
    first = await keep(diary, watch)
    watch.set_berlin("2026-10-25T02:30", fold=0)
    await until(lambda: bool(diary.occasions))
    await first.stop()
    watch.set_berlin("2026-10-25T02:30", fold=1)
    await keep(diary, watch)
    await looked_again(store)
    watch.set_berlin("2026-10-26T02:30")
    await until(lambda: len(diary.occasions) > 1)
    assert diary.occasions == ["train@2026-10-25T02:30", "train@2026-10-26T02:30"]


async def test_springs_missing_hour_does_not_lose_the_night(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no 02:30; it happens when clocks show 03:30."""
    watch, diary = Watch(datetime(2027, 3, 27, 12, 0, tzinfo=UTC)), Diary()
    await set_schedule(store, watch, monkeypatch)
    await keep(diary, watch)
    watch.set_berlin("2027-03-28T03:29")
    await looked_again(store)
    assert diary.occasions == []
    watch.set_berlin("2027-03-28T03:30")
    await until(lambda: bool(diary.occasions))
    assert diary.occasions == ["train@2027-03-28T03:30"]


async def test_nights_missed_while_the_bot_was_down_happen_once(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a week off there is one run, not seven; and none more at the next start."""
    watch, diary = Watch(NOON), Diary()
    await set_schedule(store, watch, monkeypatch)
    watch.moment = NOON + timedelta(days=7)
    clock = await keep(diary, watch)
    await until(lambda: bool(diary.occasions))
    await clock.stop()
    await keep(diary, watch)
    await looked_again(store)
    assert diary.occasions == ["train@2026-11-29T02:30"]


async def test_a_new_or_changed_schedule_does_not_catch_up(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes “nightly at 02:30” at noon means tonight."""
    watch, diary = Watch(NOON), Diary()
    clock = await keep(diary, watch)
    await set_schedule(store, watch, monkeypatch)
    await clock.reload()
    watch.moment = NOON + timedelta(minutes=10)
    await set_schedule(store, watch, monkeypatch, cron="5 13 * * *")  # 13:05 in Berlin was five minutes ago
    await clock.reload()
    await looked_again(store)
    assert diary.occasions == []
    watch.moment = NOON + timedelta(days=1)
    await looked_again(store)
    assert diary.occasions == []
    watch.moment = NOON + timedelta(days=1, minutes=5)
    await until(lambda: bool(diary.occasions))
    assert diary.occasions == ["train@2026-11-23T13:05"]


async def test_a_schedule_that_is_off_does_not_fire_and_does_not_catch_up(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holiday leaves nothing to make up for."""
    watch, diary = Watch(NOON), Diary()
    await set_schedule(store, watch, monkeypatch)
    clock = await keep(diary, watch)
    await set_schedule(store, watch, monkeypatch, enabled=False)
    await clock.reload()
    watch.moment = NOON + timedelta(days=3)
    await looked_again(store)
    await set_schedule(store, watch, monkeypatch, enabled=True)
    await clock.reload()
    await looked_again(store)
    assert diary.occasions == []


async def test_a_replica_that_has_not_heard_of_a_change_does_not_fire(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wakes reads the row again before firing it."""
    watch, diary = Watch(NOON), Diary()
    schedule = await set_schedule(store, watch, monkeypatch)
    stale = await keep(diary, watch, reload_s=3600)
    await set_schedule(store, watch, monkeypatch, enabled=False)
    watch.set_berlin("2026-11-23T02:30")
    await stale._look(schedule.id)
    assert diary.occasions == []


async def test_apscheduler_wakes_the_clock_at_the_time(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when the rows are polled: APScheduler, shown the same watch, calls on the minute."""
    watch, diary = Watch(NOON), Diary()

    class Shown(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return watch.moment.astimezone(tz)

    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Shown)
    monkeypatch.setattr("apscheduler.executors.base.datetime", Shown)
    await set_schedule(store, watch, monkeypatch)
    clock = await keep(diary, watch, reload_s=3600, tick_s=3600)
    for day, clock_shows in ((23, "02:30"), (24, "03:20"), (26, "02:30")):  # late, and a night slept through
        watch.set_berlin(f"2026-11-{day}T{clock_shows}")
        clock._scheduler.wakeup()
        await until(lambda day=day: f"train@2026-11-{day}T02:30" in diary.occasions)  # type: ignore[misc]
    assert len(diary.occasions) == 3


async def test_the_clock_ticks_and_ticks_never_overlap(keep: Keep) -> None:
    """A slow tick is waited for; those that would have come meanwhile are left out."""
    running, most, ticks = 0, 0, 0

    async def slow_tick() -> None:
        nonlocal running, most, ticks
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        ticks += 1

    await keep(Diary(), tick=slow_tick, tick_s=0.01)
    await until(lambda: ticks >= 4)
    assert most == 1


async def test_a_tick_that_fails_is_logged_and_the_next_one_comes(keep: Keep) -> None:
    """One bad row does not stop the loop."""
    ticks = 0

    async def failing_tick() -> None:
        nonlocal ticks
        ticks += 1
        raise ValueError("a bad row")

    with structlog.testing.capture_logs() as logs:
        await keep(Diary(), tick=failing_tick, tick_s=0.01)
        await until(lambda: ticks >= 3)
    assert [log["event"] for log in logs if log["log_level"] == "error"][:3] == ["tick failed"] * 3


async def test_an_action_that_fails_is_logged_and_fires_the_next_night(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again for the same night: that is the business of the run."""
    watch, diary = Watch(NOON), Diary()

    async def failing(occasion: str) -> None:
        await diary.train(occasion)
        raise ValueError("no disk")

    await set_schedule(store, watch, monkeypatch)
    with structlog.testing.capture_logs() as logs:
        await keep(diary, watch, actions={"train": failing})
        for day in (23, 24):
            watch.set_berlin(f"2026-11-{day}T02:30")
            await until(lambda day=day: len(diary.occasions) == day - 22)  # type: ignore[misc]
        await looked_again(store)
    assert diary.occasions == ["train@2026-11-23T02:30", "train@2026-11-24T02:30"]
    failed = [log for log in logs if log["event"] == "action failed"]
    assert [log["occasion"] for log in failed] == diary.occasions


async def test_a_database_that_is_away_for_a_while_does_not_stop_the_clock(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are read again at the next poll."""
    watch, diary, refusals = Watch(NOON), Diary(), 0
    await set_schedule(store, watch, monkeypatch)
    clock = await keep(diary, watch)
    read = store.schedules

    async def away() -> list[Schedule]:
        nonlocal refusals
        refusals += 1
        raise ConnectionError("gone")

    store.schedules = away  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await clock.reload()
    await until(lambda: refusals >= 3)
    store.schedules = read  # type: ignore[method-assign]
    watch.set_berlin("2026-11-23T02:30")
    await until(lambda: bool(diary.occasions))


@pytest.mark.parametrize(
    "wrong", [{"cron": "every full moon"}, {"timezone": "Mars/Olympus"}, {"action": "dance"}]
)
async def test_a_row_that_cannot_be_read_is_logged_and_the_others_fire(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    """Rows may come from a newer program, or from somebody's hand."""
    watch, diary = Watch(NOON), Diary()
    await set_schedule(store, watch, monkeypatch)
    await set_schedule(store, watch, monkeypatch, **({"action": "evaluate"} | wrong))
    with structlog.testing.capture_logs() as logs:
        await keep(diary, watch, actions={"train": diary.train, "evaluate": diary.train})
        watch.set_berlin("2026-11-23T02:30")
        await until(lambda: bool(diary.occasions))
        await looked_again(store)
    assert diary.occasions == ["train@2026-11-23T02:30"]
    assert len([log for log in logs if log["log_level"] == "error"]) == 1, "it is said once"


async def test_stopping_waits_for_what_runs_and_begins_nothing_more(
    store: Store, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action that has begun comes to its end; stopping twice does no harm."""
    watch, diary = Watch(NOON), Diary()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(occasion: str) -> None:
        begun.set()
        await go_on.wait()
        await diary.train(occasion)

    await set_schedule(store, watch, monkeypatch, cron="* * * * *")
    watch.moment += timedelta(minutes=1)
    clock = await keep(diary, watch, actions={"train": slow})
    await begun.wait()
    stopping = asyncio.create_task(clock.stop())
    await looked_away()
    assert not stopping.done()
    watch.moment += timedelta(minutes=1)
    go_on.set()
    await stopping
    await clock.stop()
    assert diary.occasions == ["train@2026-11-22T13:01"]


async def looked_away(turns: int = 20) -> None:
    """Let the event loop turn."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_a_clock_that_never_started_can_be_stopped(tmp_path: Path) -> None:
    """A start that failed half-way is cleaned up the same way."""
    store = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    await Clock(store, actions={}, tick=nothing).stop()
    await store.close()
