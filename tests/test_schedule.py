"""When things happen by themselves: what people may type, and which times that means."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.errors import PublicError
from bot.schedule import Cron, describe, last_due, next_times, parse_schedule

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
