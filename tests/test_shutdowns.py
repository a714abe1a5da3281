"""Before a provider switches a model off, the admins are told, once for each step."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from answer_rig import MODEL, room_at
from bot_process import ADMIN_CHANNEL

from bot.slack.shutdowns import AHEAD_DAYS, Shutdowns, due, words
from storage.records import now

TODAY = date(2026, 11, 23)


class Luna:
    """A model that ends."""

    kind, label = "openai", "gpt-6-luna"

    async def ends_on(self) -> date | None:
        return None


@pytest.mark.parametrize(
    ("left", "level"),
    [(200, None), (91, None), (90, 90), (45, 90), (30, 30), (8, 30), (7, 7), (2, 7), (1, 1), (0, 0), (-9, 0)],
)
def test_each_step_is_reached_in_its_time(left: int, level: int | None) -> None:
    """The newest step that was reached counts, also where the bot was away at the others."""
    found = due(Luna(), TODAY + timedelta(days=left), TODAY)
    assert (found.level if found else None) == level


def test_the_words_name_the_day_and_the_setting() -> None:
    """What to do stands beside what happens."""
    for left in (*AHEAD_DAYS, 45):
        found = due(Luna(), TODAY + timedelta(days=left), TODAY)
        assert found is not None
        said = words(found)
        assert "gpt-6-luna" in said
        assert "OPENAI_MODEL" in said
        assert f"{found.ends:%Y}" in said


async def test_admins_read_it_once(tmp_path: Path) -> None:
    """Asked of the provider itself; a second look and a second process tell nothing anew."""
    async with room_at(tmp_path) as room:
        ends = now().date() + timedelta(days=20)
        room.api.models = {MODEL: ends.isoformat()}
        shop = room.bot.workshop
        for _ in range(2):
            shutdowns = Shutdowns(
                shop.store,
                room.bot.reports._client,
                shop.apis,
                team=shop.team,
                channel=ADMIN_CHANNEL,
            )
            await shutdowns.look()
            await shutdowns.look()
        told = [
            each["text"]
            for each in await room.team.ann.messages(ADMIN_CHANNEL)
            if "switched off" in each.get("text", "")
        ]
        assert len(told) == 1
        assert "in 20 days" in told[0]
