"""A canary in the admin channel: begun by a report's button, shown, taken back with a press, its end told once."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from report_rig import ADMIN_CHANNEL, ANN, BEN, Office, office

from bot.slack import canary_blocks
from bot.slack.canaries import CanaryReports
from bot.slack.report_blocks import CANARY
from bot.workspace.seed import TEAM_ID
from storage.records import Canary, CanaryState
from storage.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    yield opened
    await opened.close()


def told_by(here: Office) -> CanaryReports:
    canaries = here.decisions._canaries
    reports = CanaryReports(here.store, here.reports, canaries, here.decisions, admins=(ANN, BEN))
    canaries.teller = reports
    reports.listen(here.rig.app)
    return reports


async def watched(store: Store) -> Canary:
    canary = await store.canary(TEAM_ID)
    assert canary is not None
    return canary


async def test_a_canary_begins_with_a_button_and_ends_with_one(store: Store, tmp_path: Path) -> None:
    """Its message stands while it goes on; the end is a message of its own, posted once."""
    async with office(store, tmp_path) as here:
        told_by(here)
        run, version = await here.judged()
        run = await here.finish(run)
        report = await here.report()
        await here.press(ANN, CANARY, report, run)
        standing = await here.says(f"{version.name} answers 20% of the threads* since")
        canary = await watched(store)
        assert canary.started_by == ANN
        await here.says("answers 20% of the threads since", report["ts"])
        await here.rig.person(BEN).click(ADMIN_CHANNEL, standing["ts"], canary_blocks.BACK, value=canary.id)
        ended = await here.says("is rolled back")
        assert "Taken back by hand" in json.dumps(ended["blocks"])
        row = await store.canary_by_id(canary.id)
        assert row is not None
        assert (row.state, row.ended_by) == (CanaryState.ROLLED_BACK, BEN)
        await here.decisions._canaries.tick()
        await here.decisions._canaries.tick()
        said = [
            each
            for each in await here.messages()
            if "Canary:" in each["text"] and "rolled back" in each["text"]
        ]
        assert len(said) == 2  # the standing message, closed, and the one that notifies


async def test_by_name_a_canary_is_begun_listed_and_rolled_back_first(store: Store, tmp_path: Path) -> None:
    """`promote NAME canary=0.1` and `rollback`: what serves is left as it was."""
    async with office(store, tmp_path) as here:
        told_by(here)
        _, version = await here.judged()
        assert "answers 10% of the threads" in await here.decisions.canary_named(ANN, version, 0.1)
        assert (await watched(store)).share == 0.1
        assert "is over" in await here.decisions.roll_back_named(BEN)
        assert await store.canary(TEAM_ID) is None
        assert await store.promotions(TEAM_ID) == []
