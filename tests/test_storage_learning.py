"""What the store promises about runs, evaluations, promotions and schedules, on SQLite and on PostgreSQL alike."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES, TEAM, ask, empty_database, lease_runs_out, reply, rows
from sqlalchemy.exc import IntegrityError

from storage.operating import wall_time
from storage.records import RunState
from storage.store import Store


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return empty_database(request, tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(url)
    yield opened
    await opened.close()


async def request(store: Store, occasion: str) -> Any:
    return await store.request_run(team=TEAM, occasion=occasion, by="clock", options={"epochs": 1})


async def test_one_occasion_is_one_run(store: Store) -> None:
    """Three replicas that fire the same night request one run."""
    requests = await asyncio.gather(*(request(store, "train@2026-11-23T03:00") for _ in range(8)))
    assert sum(made.new for made in requests) == 1
    assert {made.run.number for made in requests} == {1}
    assert await rows(store, "training_run") == 1


async def test_runs_requested_together_get_different_numbers(store: Store) -> None:
    """People speak of run 7; there is one."""
    requests = await asyncio.gather(*(request(store, f"by hand {number}") for number in range(8)))
    assert sorted(made.run.number for made in requests) == list(range(1, 9))
    assert [run.number for run in await store.runs(TEAM, limit=3)] == [8, 7, 6]


async def test_a_run_is_moved_once(store: Store) -> None:
    """Of those who saw a run in one state, one moves it; the others are shown where it is now."""
    run = (await request(store, "x")).run
    moved = await asyncio.gather(
        *(store.advance_run(run, RunState.FREEZING, directory=f"by {number}") for number in range(6))
    )
    assert len({now.directory for now in moved}) == 1
    assert {now.state for now in moved} == {RunState.FREEZING}
    late = await store.advance_run(run, RunState.FAILED, reason="somebody who slept")
    assert (late.state, late.reason, late.finished_at) == (RunState.FREEZING, "", None)


async def test_a_finished_run_says_when_and_is_no_longer_live(store: Store) -> None:
    """Nobody advances what is over."""
    run = (await request(store, "x")).run
    assert await store.claim_run(run.id, worker="w1", lease_s=60)
    assert not await store.claim_run(run.id, worker="w2", lease_s=60)
    assert await store.claim_run(run.id, worker="w1", lease_s=60)
    await lease_runs_out(store, "training_run", run.id)
    assert await store.claim_run(run.id, worker="w2", lease_s=60)
    done = await store.advance_run(run, RunState.DECLINED, reason="too few examples")
    assert done.finished_at is not None
    assert done.lease_until is None
    assert await store.live_runs() == []
    assert not await store.claim_run(run.id, worker="w1", lease_s=60)


async def test_a_run_has_one_evaluation(store: Store) -> None:
    """Two ticks that both want the evaluation of a run get the same one; `/eval` makes its own."""
    run = (await request(store, "x")).run
    wish: dict[str, Any] = {
        "team": TEAM,
        "by": "tick",
        "challenger_id": None,
        "current_id": None,
        "dataset_id": None,
    }
    made = await asyncio.gather(*(store.request_evaluation(**wish, run_id=run.id) for _ in range(5)))
    assert len({evaluation.id for evaluation in made}) == 1
    alone = await asyncio.gather(*(store.request_evaluation(**wish) for _ in range(3)))
    assert sorted(evaluation.number for evaluation in alone) == [2, 3, 4]
    assert len(await store.live_evaluations()) == 3


async def register(store: Store, name: str, run_id: str | None) -> Any:
    files: dict[str, Any] = {
        "base_model": "starter",
        "path": name,
        "sha256": name,
        "dataset_id": None,
        "card": {},
    }
    return await store.register_model(team=TEAM, name=name, run_id=run_id, **files)


async def test_a_run_registers_one_model(store: Store) -> None:
    """A crash between registering and noting it down does not make a second version."""
    run = (await request(store, "x")).run
    versions = await asyncio.gather(*(register(store, "local-1", run.id) for _ in range(4)))
    assert len({version.id for version in versions}) == 1
    assert (await register(store, "local-1b", run.id)).id == versions[0].id


async def test_another_run_cannot_take_a_models_name(store: Store) -> None:
    """A name stands for one set of weights."""
    first, second = (await request(store, "x")).run, (await request(store, "y")).run
    await register(store, "local-1", first.id)
    with pytest.raises(IntegrityError):
        await register(store, "local-1", second.id)


async def test_a_decision_promotes_once(store: Store) -> None:
    """The button of a report may be pressed by two admins; one promotion stands."""

    async def press(version: str) -> tuple[Any, bool]:
        return await store.promote(
            team=TEAM, decision="report 1", version_id=version, by="U1", reason="better"
        )

    pressed = await asyncio.gather(*(press(f"m_{number}") for number in range(6)))
    assert sum(new for _, new in pressed) == 1
    assert len({row.id for row, _ in pressed}) == 1
    assert len(await store.promotions(TEAM)) == 1


async def test_promotions_are_appended_and_the_newest_holds(store: Store) -> None:
    """A rollback is another promotion; the history stays as it was."""
    version = await register(store, "local-1", None)
    decisions = [("d1", version.id), ("d2", None), ("d3", version.id)]
    for decision, version_id in decisions:
        await store.promote(team=TEAM, decision=decision, version_id=version_id, by="U1", reason="")
    history = await store.promotions(TEAM)
    assert [(row.decision, row.version_id) for row in history] == decisions
    assert [row.previous_id for row in history] == [None, version.id, None]
    current = await store.current(TEAM)
    assert current is not None
    assert current.id == version.id
    assert await store.current("T2") is None


async def test_different_decisions_at_once_all_stand_in_an_order(store: Store) -> None:
    """Each follows the one before it, so that a rollback knows where to go."""

    async def decide(number: int) -> None:
        await store.promote(team=TEAM, decision=f"d{number}", version_id=f"m_{number}", by="U1", reason="")

    await asyncio.gather(*(decide(number) for number in range(6)))
    history = await store.promotions(TEAM)
    assert [row.sequence for row in history] == list(range(1, 7))
    assert [row.previous_id for row in history] == [None, *(row.version_id for row in history[:-1])]


async def test_frozen_data_of_the_same_content_is_one_row(store: Store) -> None:
    """The hash names the dataset."""
    frozen: dict[str, Any] = {
        "dataset_id": "abc",
        "path": "p",
        "counts": {"train": 3, "validation": 1, "test": 1},
        "manifest": {},
    }
    await asyncio.gather(*(store.save_dataset(**frozen) for _ in range(5)))
    assert [row.id for row in await store.datasets()] == ["abc"]


async def set_schedule(store: Store, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "team": TEAM,
        "action": "train",
        "cron": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "enabled": True,
    }
    return await store.set_schedule(**(values | changes), by="U1")


async def test_a_firing_is_claimed_by_one(store: Store) -> None:
    """However many clocks see the same night, one of them fires; an earlier night comes too late."""
    schedule = await set_schedule(store)
    claims = await asyncio.gather(*(store.fired(schedule.id, "2026-11-23T03:00") for _ in range(10)))
    assert sum(claims) == 1
    assert not await store.fired(schedule.id, "2026-11-22T03:00")
    assert await store.fired(schedule.id, "2026-11-24T03:00")


async def test_a_schedule_is_set_once_per_action(store: Store) -> None:
    """Two admins who set it together leave one schedule."""
    await asyncio.gather(*(set_schedule(store, cron=f"{minute} 3 * * *") for minute in range(6)))
    assert len(await store.schedules()) == 1


async def test_a_schedule_moved_to_the_west_still_fires_the_same_day(store: Store) -> None:
    """A wall time of the old zone says nothing about the new one."""
    schedule = await set_schedule(store)
    assert await store.fired(schedule.id, "2026-11-23T03:00")
    await set_schedule(store, cron="0 23 * * *", timezone="America/New_York")
    assert await store.fired(schedule.id, "2026-11-22T23:00")


def test_a_wall_time_is_what_a_clock_on_the_wall_shows() -> None:
    """To the minute, and sortable as text."""
    assert wall_time(datetime(2026, 10, 25, 0, 30, 59, tzinfo=UTC), "Europe/Berlin") == "2026-10-25T02:30"
    assert wall_time(datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "Europe/Berlin") == "2026-10-25T02:30"


async def test_a_keepsake_is_made_once(store: Store) -> None:
    """Everybody gets the value of whoever was first, for ever."""
    values = [f"salt {number}" for number in range(6)]
    given = await asyncio.gather(*(store.keepsake("salt", value.upper) for value in values))
    assert len(set(given)) == 1
    assert await store.keepsake("salt", lambda: "another") == given[0]


async def test_the_tally_counts_one_workspace(store: Store) -> None:
    """`/apprentice status` shows what is there, and nothing of others."""
    answer = await reply(store, await ask(store, ts="1.0"))
    await store.rate(answer.id, team=TEAM, rater="U2", value=-1)
    await ask(store, ts="2.0")
    await ask(store, ts="3.0", team="T2")
    tally = await store.tally(TEAM)
    assert (tally.questions, tally.waiting, tally.answered_by) == (2, 1, {"local": 1})
    assert (tally.thumbs_up, tally.thumbs_down, tally.corrections, tally.entries) == (0, 1, 0, 0)
