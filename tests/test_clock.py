"""That what is scheduled happens, once, whatever the clocks, the database and the process do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog

from bot.schedule import Clock
from storage.records import Schedule
from storage.store import Store

BERLIN = "Europe/Berlin"
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


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
    assert await store.schedules() == [], "the store is its owner's, and still open"
    await store.close()
