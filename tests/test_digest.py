"""What a week was like: counted from the store, content askers estimated without the bias of those who press unasked."""

import csv
import random
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from statistics import fmean

import pytest
from databases import TEAM, ask, reply
from sqlalchemy import update

from bot.digest import Digest, Period, days_named, figures, gather, week_named
from bot.digest_page import page
from bot.digest_words import csv_text, lines, table
from bot.errors import PublicError
from storage.digesting import AskedRow
from storage.records import Answer, Question, now
from storage.store import Store
from training.solicited import ENOUGH_REPLIES, Drawn, satisfaction

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
WEEK = Period("2026-W47", MONDAY, MONDAY + timedelta(days=7))
RATE = 0.3

# --- the estimate -----------------------------------------------------------------------------------------------------


def a_week(drawn: random.Random, *, silent: float = 0.3) -> tuple[list[Drawn], float, float]:
    """What may be known of a week, the true share of content askers, and that of the thumbs.

    A fifth of the people ask much and are less content; of the content 3 in 100 press unasked, of the others 25.
    """
    rows: list[Drawn] = []
    truth: list[bool] = []
    for person in range(60):
        heavy = drawn.random() < 0.2
        content = min(0.98, max(0.02, drawn.gauss(0.7, 0.2))) * (0.6 if heavy else 1.0)
        for day in range(5):
            asked_today = False
            for number in range(drawn.randrange(4, 9) if heavy else drawn.randrange(3)):
                liked = drawn.random() < content
                asked = not asked_today and drawn.random() < RATE
                asked_today = asked_today or asked
                presses = drawn.random() < ((1 - silent) if asked else (0.03 if liked else 0.25))
                at = MONDAY + timedelta(days=day, hours=number)
                rows.append(Drawn(f"{person}", f"{day}", at, RATE, asked, liked if presses else None))
                truth.append(liked)
    pressed = [row.liked for row in rows if row.liked is not None]
    return rows, fmean(truth), fmean(map(bool, pressed))


def test_the_estimate_has_no_bias_where_thumbs_have_much() -> None:
    """200 weeks: right on average, in its interval as often as it says; thumbs alone tell 15 points too little."""
    drawn = random.Random(11)
    wrong, thumbs, covered, held = [], [], [], []
    for _ in range(200):
        rows, share, pressed = a_week(drawn)
        found = satisfaction(rows)
        assert found.share is not None and found.interval is not None  # noqa: PT018
        assert found.lowest is not None and found.highest is not None  # noqa: PT018
        wrong.append(found.share - share)
        thumbs.append(pressed - share)
        covered.append(found.interval.low <= share <= found.interval.high)
        held.append(found.lowest <= share <= found.highest)
    assert abs(fmean(wrong)) < 0.015
    assert fmean(thumbs) < -0.08
    assert fmean(covered) >= 0.93
    assert fmean(held) >= 0.99


def test_who_is_asked_once_a_day_counts_for_what_they_were_not_asked_about() -> None:
    """The second answer of a day is asked about only where the first was not: it stands for more."""
    rows = [
        Drawn(f"{n}", "1", MONDAY + timedelta(minutes=hour), 0.5, hour == n % 2, [True, False][n % 2])
        for n in range(40)
        for hour in (0, 1)
    ]
    found = satisfaction(rows)
    assert found.share == pytest.approx(20 * 2 / (20 * 2 + 20 * 4))


def test_too_few_replies_are_no_estimate_and_silence_widens_the_bounds() -> None:
    """How many are missing is said; the bounds hold every feeling of the silent."""
    few = [Drawn(f"{n}", "1", MONDAY, 0.5, True, True) for n in range(4)]
    assert satisfaction(few).share is None
    assert satisfaction(few).more == ENOUGH_REPLIES - 4
    half = [Drawn(f"{n}", "1", MONDAY, 0.5, True, True if n % 2 else None) for n in range(60)]
    found = satisfaction(half)
    assert found.share == 1.0
    assert found.lowest is not None
    assert found.lowest < 0.5
    assert found.highest == 1.0
    assert found.interval is not None
    assert 0.8 < found.interval.low < 1.0, "thirty who agree leave some doubt"


# --- from the store ---------------------------------------------------------------------------------------------------


async def in_that_week(store: Store) -> None:
    moment = MONDAY + timedelta(days=2, hours=9)
    async with store.database.writing() as session:
        connection = await session.connection()
        await connection.execute(update(Question).values(asked_at=moment))
        await connection.execute(update(Answer).values(posted_at=moment + timedelta(seconds=2)))


async def test_a_week_is_counted_from_the_store(store: Store) -> None:
    """Who asked, who answered, what was rated by whom, and nothing from outside the week."""
    questions = [await ask(store, asker=f"U{n % 3}", ts=f"{n}.0", place="channel") for n in range(6)]
    answers = [await reply(store, question) for question in questions[:5]]
    await store.drop_question(questions[5].id, "no model answered")
    await store.rate(answers[0].id, team=TEAM, rater="U0", value=1)
    await store.rate(answers[1].id, team=TEAM, rater="U9", value=-1)
    async with store.database.writing() as session:
        await (await session.connection()).execute(update(Answer).values(solicit_probability=0.5))
    assert await store.solicit(answers[0].id, team=TEAM, person="U0", probability=0.5, day="2026-11-18")
    await in_that_week(store)
    rows = await store.asked_between(TEAM, WEEK.since, WEEK.until)
    assert [row.askers_vote for row in rows if row.answer_id == answers[0].id] == [1]
    assert [row.askers_vote for row in rows if row.answer_id == answers[1].id] == [None]
    told = await gather(store, TEAM, WEEK, timezone="UTC")
    assert (told.questions, told.people, told.answered, told.unanswered) == (6, 3, 5, 1)
    assert told.by_kind == {"local": 5}
    assert told.seconds_p95 == 2.0
    assert (told.rated, told.liked) == (2, 1)
    assert (told.satisfaction.asked, told.satisfaction.replies) == (1, 1)
    assert list(told.by_day.values()) == [0, 0, 6, 0, 0, 0, 0]
    (worst,) = told.topics
    assert (worst.questions, worst.unanswered, worst.disliked) == (6, 1, 1)
    assert (await gather(store, TEAM, WEEK.before, timezone="UTC")).questions == 0
    assert (await gather(store, "T-other", WEEK, timezone="UTC")).questions == 0


def test_weeks_and_days_are_named_as_people_name_them() -> None:
    """Monday is Monday in the zone, also where clocks change; what is no week is refused with an example."""
    berlin = week_named("2026-W13", "Europe/Berlin")  # clocks go forward on its Sunday
    assert berlin.until - berlin.since == timedelta(days=7)
    assert (berlin.until.astimezone(UTC) - berlin.since.astimezone(UTC)) == timedelta(hours=167)
    assert week_named("last", "UTC").until == week_named("this", "UTC").since <= now()
    assert days_named("2026-11-01", "2026-11-02", "UTC").until == datetime(2026, 11, 3, tzinfo=UTC)
    for wrong in ("2026-W60", "yesterday", "2026-47"):
        with pytest.raises(PublicError, match="2026-W47"):
            week_named(wrong, "UTC")
    with pytest.raises(PublicError, match="earlier day first"):
        days_named("2026-11-02", "2026-11-01", "UTC")


# --- said, counted on, shown ------------------------------------------------------------------------------------------


def asked(
    number: int, *, place: str = "channel", text: str = "How do I reset my password?", vote: float = -1.0
) -> AskedRow:
    moment = MONDAY + timedelta(hours=number)
    return AskedRow(
        id=f"q{number}", asker=f"U{number % 20}", channel="C", thread=f"C/{number}", place=place, state="answered",
        text=text, asked_at=moment, answer_id=f"a{number}", posted_at=moment, kind="local", model="starter", seconds=1.5,
        vote=vote, askers_vote=int(vote), chance=0.5, solicited=True,
    )  # fmt: skip


def told_of(rows: list[AskedRow]) -> Digest:
    return figures(rows, [], WEEK, timezone="UTC")


def test_topics_of_private_places_are_counted_and_never_named() -> None:
    """Neither of a private channel, nor of a direct message."""
    about = ["reset", "please", "mine", "now", "new", "changed"]
    other = [
        "printer paper",
        "coffee beans",
        "parking spots",
        "lunch menus",
        "visitor badges",
        "monitor arms",
        "chairs",
    ]
    public = [asked(n, text=text) for n, text in enumerate([*(f"password {word}" for word in about), *other])]
    private = [
        asked(20 + n, place=place, text="When is the merger announced?")
        for n, place in enumerate(["group", "im", "mpim", ""] * 3)
    ]
    told = told_of([*public, *private])
    assert told.private == 12
    everything = "\n".join([*lines(told), csv_text(told), page(told)])
    assert "password" in everything
    assert "merger" not in everything
    assert "12 questions were asked in private places" in everything


def test_the_table_is_read_by_machines_and_harmless_in_a_spreadsheet() -> None:
    """Each figure once, every number a number; a topic that looks like a formula is none."""
    told = told_of([asked(n, text="=cmd() =cmd()") for n in range(8)])
    rows = list(csv.DictReader(StringIO(csv_text(told))))
    assert len(rows) == len(table(told))
    assert {row["period"] for row in rows} == {"2026-W47"}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "@"))]
    assert all(not row["value"] or float(row["value"]) is not None for row in rows)
    assert next(row["value"] for row in rows if row["figure"] == "questions") == "8"


def test_the_page_holds_everything_itself_and_says_what_the_charts_show() -> None:
    """Nothing is fetched, nothing runs; each chart has its words; what people wrote is text."""
    told = told_of([asked(n, text="Where is <script>alert(1)</script> documentation?") for n in range(60)])
    shown = page(told, told)
    assert "<script" not in shown
    assert not re.search(r"(src|href)\s*=|url\(|@import|http", shown)
    charts = shown.count("<svg")
    assert charts == shown.count("<desc>") == 4
    assert shown.count("</table>") == 1
    assert "Content with their answer" in shown


def test_a_week_without_questions_says_so() -> None:
    """And divides by nothing."""
    told = told_of([])
    assert lines(told) == ["Nobody asked anything."]
    assert "Nobody asked anything." in page(told)
    assert csv_text(told).startswith("period,figure,of,value,low,high,n")
