"""What kind of conversation a channel is: asked of Slack once, and again soon where it did not say."""

import pytest
from workspace_rig import running

from bot.slack import places
from bot.slack.places import Places


async def test_slack_is_asked_once_and_again_where_it_did_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its scope an unknown place stays unknown, which counts as private, and no question asks for it anew."""
    async with running(connect=False) as rig:

        async def asked() -> int:
            async with rig.session.get(f"{rig.workspace.url}/_control/calls") as response:
                calls = (await response.json())["calls"]
            return sum(call["method"] == "conversations.info" for call in calls)

        known = Places(rig.client)
        await rig.control("fault", method="conversations.info", error="missing_scope", times=1)
        assert [await known.kind("C0HELP") for _ in range(3)] == ["", "", ""]
        assert await asked() == 1
        monkeypatch.setattr(places, "UNSAID_S", 0.0)
        assert [await known.kind("C0HELP") for _ in range(3)] == ["channel"] * 3
        assert [await known.kind(each) for each in ("C0ADMIN", "D0CLEO")] == ["group", "im"]
        assert await asked() == 3
