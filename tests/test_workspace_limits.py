"""Slack's limits and lesser methods: rate tiers, sizes, scheduled messages, conversations, pins, bookmarks, lists."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from workspace_rig import Json, Rig, running

from bot.workspace import LocalWorkspace, Workspace
from bot.workspace.clock import Clock
from bot.workspace.rate_limits import RateLimits
from bot.workspace.seed import BOT_USER


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(connect=False) as rig:
        yield rig


def control_of(rig: Rig) -> Workspace:
    return Workspace(rig.workspace.url, rig.session)


def section(text: str) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"markdown_text": "x" * 12_001}, "msg_too_long"),
        ({"text": "x", "blocks": [section("x" * 2_900) for _ in range(5)]}, "msg_blocks_too_long"),
        ({"text": "x", "metadata": {"event_type": "a"}}, "invalid_metadata_format"),
        (
            {"text": "x", "metadata": {"event_type": "a", "event_payload": {"long": "x" * 4_100}}},
            "metadata_too_large",
        ),
    ],
)
async def test_sizes_are_limited_as_in_slack(rig: Rig, args: Json, error: str) -> None:
    """Text, Markdown, blocks in total and metadata."""
    assert (await rig.api("chat.postMessage", channel="C0HELP", **args))["error"] == error


async def test_attachments_are_kept_numbered(rig: Rig) -> None:
    """What old apps post beside their text stays with the message; an update can empty it."""
    said = await rig.api("chat.postMessage", channel="C0HELP", attachments=[{"text": "old", "color": "good"}])
    kept = [{"id": 1, "fallback": "old", "text": "old", "color": "good"}]
    assert said["message"]["attachments"] == kept
    assert (await rig.person("U0CLEO").messages("C0HELP"))[0]["attachments"] == kept
    await rig.api("chat.update", channel="C0HELP", ts=said["ts"], text="new", attachments=[])
    assert "attachments" not in (await rig.person("U0CLEO").messages("C0HELP"))[0]


async def test_an_update_takes_less_text_than_a_post(rig: Rig) -> None:
    """chat.update stops at 4,000 characters where chat.postMessage goes on."""
    said = await rig.api("chat.postMessage", channel="C0HELP", text="x" * 4_001)
    answer = await rig.api("chat.update", channel="C0HELP", ts=said["ts"], text="x" * 4_001)
    assert answer["error"] == "msg_too_long"


def test_a_tier_is_full_after_its_calls_and_frees_itself_after_a_minute() -> None:
    """Tier 2 takes 20 calls a minute of one method; Retry-After is when the oldest is a minute old."""
    clock = Held()
    limits = RateLimits(clock)
    assert [limits.wait_s("conversations.list", "") for _ in range(20)] == [None] * 20
    clock.seconds += 15
    assert limits.wait_s("conversations.list", "") == 45
    assert limits.wait_s("users.list", "") is None
    clock.seconds += 45
    assert limits.wait_s("conversations.list", "") is None


def test_a_channel_takes_one_post_a_second_and_a_small_burst() -> None:
    """A few posts may come together; then one a second; another channel is not touched."""
    clock = Held()
    limits = RateLimits(clock)
    burst = [limits.wait_s("chat.postMessage", "C0HELP") for _ in range(8)]
    taken = burst.index(1)
    assert 2 <= taken <= 6
    assert limits.wait_s("chat.postMessage", "C0GENERAL") is None
    clock.seconds += 1
    assert [limits.wait_s("chat.postMessage", "C0HELP") for _ in range(2)] == [None, 1]


class Held(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds


async def test_rate_limits_are_an_option() -> None:
    """429 with Retry-After once they are on; the next minute is free again."""
    async with running(connect=False, rate_limits=True) as rig:
        statuses = []
        for _ in range(21):
            async with rig.session.get(
                f"{rig.workspace.url}/api/emoji.list",
                headers={"Authorization": "Bearer xoxb-local-apprentice"},
            ) as response:
                statuses.append(response.status)
                wait = response.headers.get("Retry-After")
        assert statuses == [200] * 20 + [429]
        assert 1 <= int(wait or 0) <= 60
        await control_of(rig).advance(61)
        assert (await rig.api("emoji.list"))["ok"]


async def test_a_scheduled_message_comes_when_it_is_due(rig: Rig) -> None:
    """Nothing is seen before; it is listed until then; the clock brings it."""
    cleo, control = rig.person("U0CLEO"), control_of(rig)
    post_at = int(time.time()) + 3600
    made = await rig.api("chat.scheduleMessage", channel="C0HELP", text="good morning", post_at=post_at)
    listed = (await rig.api("chat.scheduledMessages.list"))["scheduled_messages"]
    assert [(one["id"], one["post_at"]) for one in listed] == [(made["scheduled_message_id"], post_at)]
    assert await cleo.messages("C0HELP") == []
    await control.advance(3601)
    said = await cleo.wait_for_message("C0HELP", lambda one: one["text"] == "good morning")
    assert (said["user"], float(said["ts"]) >= post_at) == (BOT_USER, True)
    assert (await rig.api("chat.scheduledMessages.list"))["scheduled_messages"] == []


async def test_a_scheduled_message_can_be_taken_back(rig: Rig) -> None:
    """Until a minute before; times in the past and beyond 120 days are refused."""
    now = int(time.time())
    made = await rig.api("chat.scheduleMessage", channel="C0HELP", text="never", post_at=now + 3600)
    id_ = made["scheduled_message_id"]
    assert (await rig.api("chat.deleteScheduledMessage", channel="C0HELP", scheduled_message_id=id_))["ok"]
    await control_of(rig).advance(4000)
    assert await rig.person("U0CLEO").messages("C0HELP") == []
    again = await rig.api("chat.deleteScheduledMessage", channel="C0HELP", scheduled_message_id=id_)
    assert again["error"] == "invalid_scheduled_message_id"
    for post_at, error in ((now - 10, "time_in_past"), (now + 121 * 86_400, "time_too_far")):
        refused = await rig.api("chat.scheduleMessage", channel="C0HELP", text="x", post_at=post_at)
        assert refused["error"] == error


async def test_a_scheduled_message_survives_a_restart(tmp_path: Path) -> None:
    """What an earlier process accepted is posted by the next one."""
    state_file = tmp_path / "workspace.sqlite"
    async with running(connect=False, state_file=state_file) as rig:
        post_at = int(time.time()) + 3600
        await rig.api("chat.scheduleMessage", channel="C0HELP", text="later", post_at=post_at)
    async with running(connect=False, state_file=state_file) as rig:
        await control_of(rig).advance(3601)
        await rig.person("U0CLEO").wait_for_message("C0HELP", lambda one: one["text"] == "later")


async def test_a_group_message_is_opened_once(rig: Rig) -> None:
    """conversations.open with several people makes an mpim; the second time it is there already."""
    first = await rig.api("conversations.open", users="U0ANN,U0BEN", return_im=True)
    second = await rig.api("conversations.open", users="U0BEN,U0ANN")
    assert first["channel"]["is_mpim"]
    assert second["channel"]["id"] == first["channel"]["id"]
    assert second["already_open"]
    channel = first["channel"]["id"]
    assert (await rig.api("chat.postMessage", channel=channel, text="you two"))["ok"]
    assert [one["text"] for one in await rig.person("U0BEN").messages(channel)] == ["you two"]
    assert channel not in [one["id"] for one in (await rig.person("U0CLEO").state())["channels"]]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "invalid_name_required"),
        ("x" * 81, "invalid_name_maxlength"),
        ("Not Good", "invalid_name_specials"),
        ("general", "name_taken"),
    ],
)
async def test_a_channel_needs_a_good_name(rig: Rig, name: str, error: str) -> None:
    """As Slack names channels."""
    assert (await rig.api("conversations.create", name=name))["error"] == error


async def test_a_channel_is_made_filled_and_left(rig: Rig) -> None:
    """create, invite, leave; who was invited can read and write there."""
    channel = (await rig.api("conversations.create", name="book-club", is_private=True))["channel"]["id"]
    invited = await rig.api("conversations.invite", channel=channel, users="U0CLEO")
    assert invited["channel"]["is_private"]
    assert (await rig.api("conversations.invite", channel=channel, users="U0CLEO"))[
        "error"
    ] == "already_in_channel"
    assert (await rig.api("conversations.invite", channel=channel, users=BOT_USER))[
        "error"
    ] == "cant_invite_self"
    await rig.person("U0CLEO").post(channel, "hello")
    assert (await rig.api("conversations.leave", channel=channel))["ok"]
    answer = await rig.api("chat.postMessage", channel=channel, text="gone")
    assert answer["error"] == "channel_not_found"


async def test_pins_are_kept_once(rig: Rig) -> None:
    """add, list, remove, with Slack's words for doing it twice."""
    said = await rig.api("chat.postMessage", channel="C0HELP", text="the rules")
    item = {"channel": "C0HELP", "timestamp": said["ts"]}
    assert (await rig.api("pins.add", **item))["ok"]
    assert (await rig.api("pins.add", **item))["error"] == "already_pinned"
    items = (await rig.api("pins.list", channel="C0HELP"))["items"]
    assert [(one["message"]["ts"], one["message"]["pinned_to"]) for one in items] == [
        (said["ts"], ["C0HELP"])
    ]
    assert (await rig.api("pins.remove", **item))["ok"]
    assert (await rig.api("pins.remove", **item))["error"] == "no_pin"
    assert (await rig.api("pins.list", channel="C0HELP"))["items"] == []


async def test_bookmarks_are_added_changed_and_removed(rig: Rig) -> None:
    """A bookmark belongs to its channel."""
    added = await rig.api(
        "bookmarks.add", channel_id="C0HELP", title="Handbook", type="link", link="https://example.org"
    )
    id_ = added["bookmark"]["id"]
    await rig.api("bookmarks.edit", channel_id="C0HELP", bookmark_id=id_, title="The handbook")
    listed = (await rig.api("bookmarks.list", channel_id="C0HELP"))["bookmarks"]
    assert [one["title"] for one in listed] == ["The handbook"]
    wrong = await rig.api("bookmarks.remove", channel_id="C0GENERAL", bookmark_id=id_)
    assert wrong["error"] == "not_found"
    assert (await rig.api("bookmarks.remove", channel_id="C0HELP", bookmark_id=id_))["ok"]
    assert (await rig.api("bookmarks.list", channel_id="C0HELP"))["bookmarks"] == []


async def test_the_admins_are_a_user_group(rig: Rig) -> None:
    """usergroups.list and usergroups.users.list agree."""
    group = (await rig.api("usergroups.list", include_users=True))["usergroups"][0]
    assert group["users"] == (await rig.api("usergroups.users.list", usergroup=group["id"]))["users"]
    assert "U0ANN" in group["users"]
    assert (await rig.api("usergroups.users.list", usergroup="S0X"))["error"] == "no_such_subteam"


async def test_files_are_listed_by_who_shared_them(rig: Rig) -> None:
    """files.list filters by person and channel."""
    cleo, control = rig.person("U0CLEO"), control_of(rig)
    ids = await cleo.upload("C0HELP", {"a.txt": b"a"})
    await control.advance(5)
    assert [one["id"] for one in (await rig.api("files.list", channel="C0HELP"))["files"]] == ids
    assert (await rig.api("files.list", user=BOT_USER))["files"] == []
    assert (await rig.api("files.delete", file=ids[0]))["error"] == "cant_delete_file"


@pytest.mark.parametrize("extra", [0, 3])
async def test_it_can_be_made_with_more_people(extra: int) -> None:
    """extra_people are in users.list and in the public channels."""
    async with running(connect=False, extra_people=extra) as rig:
        assert len((await rig.api("users.list"))["members"]) == 5 + extra
        assert len((await rig.api("conversations.members", channel="C0HELP"))["members"]) == 5 + extra


async def test_stopping_twice_frees_the_port() -> None:
    """A second stop is no error, and another workspace can have the port."""
    first = LocalWorkspace(port=0)
    await first.start()
    port = int(first.url.rsplit(":", 1)[1])
    await first.stop()
    await first.stop()
    second = LocalWorkspace(port=port)
    await second.start()
    await second.stop()
    assert second.url == first.url
