"""Agents in the local workspace: sessions and Stop, streams and statuses that end, what Slack refuses to stream."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from test_workspace_app import MANIFEST, with_value
from workspace_rig import Json, Rig, running, until

from bot.errors import PublicError
from bot.workspace import Workspace
from bot.workspace.seed import BOT_USER


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running() as rig:
        yield rig


def control_of(rig: Rig) -> Workspace:
    return Workspace(rig.workspace.url, rig.session)


async def session_status(rig: Rig, thread_ts: str, status: str, **more: Any) -> Json:
    return await rig.api(
        "agents.sessions.setStatus", channel_id="D0CLEO", thread_ts=thread_ts, status=status, **more
    )


async def test_stop_ends_the_stream_and_tells_the_app_which(rig: Rig) -> None:
    """Slack closes the streams of the thread, keeps what was written, and leaves the session to the app."""
    heard: list[Json] = []

    @rig.app.event("agent_session_stopped")
    async def stopped(event: Json) -> None:
        heard.append(event)

    cleo = rig.person("U0CLEO")
    asked = await cleo.post("D0CLEO", "a long question")
    assert "warning" not in await session_status(rig, asked, "processing", title="A long question")
    assert (await cleo.state())["sessions"] == [
        {"channel": "D0CLEO", "thread_ts": asked, "status": "processing", "title": "A long question"}
    ]
    stream = await rig.api("chat.startStream", channel="D0CLEO", thread_ts=asked, markdown_text="The first ")
    await cleo.stop("D0CLEO", asked)
    await until(lambda: heard, timeout_s=30)
    assert heard[0]["streaming_message_ts"] == [stream["ts"]]
    assert (heard[0]["channel"], heard[0]["thread_ts"], heard[0]["user"]) == ("D0CLEO", asked, "U0CLEO")
    for method in ("chat.appendStream", "chat.stopStream"):
        refused = await rig.api(method, channel="D0CLEO", ts=stream["ts"], markdown_text="more")
        assert refused["error"] == "message_not_in_streaming_state"
    kept = (await cleo.messages("D0CLEO", asked))[1]
    assert (kept["text"], kept["streaming_state"], "streaming" in kept) == ("The first ", "completed", False)
    assert (await cleo.state())["sessions"][0]["status"] == "processing"
    assert (await session_status(rig, asked, "active"))["ok"]
    with pytest.raises(PublicError, match="not_processing"):
        await cleo.stop("D0CLEO", asked)


async def test_a_stream_can_end_its_session(rig: Rig) -> None:
    """chat.stopStream(session_status) moves the session in the same call; a status Slack does not know is refused."""
    cleo = rig.person("U0CLEO")
    asked = await cleo.post("D0CLEO", "hello")
    await session_status(rig, asked, "processing")
    stream = await rig.api("chat.startStream", channel="D0CLEO", thread_ts=asked, markdown_text="Hi")
    done = await rig.api("chat.stopStream", channel="D0CLEO", ts=stream["ts"], session_status="active")
    assert done["ok"]
    assert (await cleo.state())["sessions"][0]["status"] == "active"
    assert (await session_status(rig, asked, "thinking"))["error"] == "invalid_arguments"


async def test_sessions_are_renamed_and_titles_have_a_length(rig: Rig) -> None:
    """A title has 200 characters at most; only a session that exists can be renamed; a later title does not rename."""
    cleo = rig.person("U0CLEO")
    asked = await cleo.post("D0CLEO", "hello")
    thread = {"channel_id": "D0CLEO", "thread_ts": asked}
    assert (await rig.api("agents.sessions.rename", title="x", **thread))["error"] == "session_not_found"
    await session_status(rig, asked, "active", title="First")
    await session_status(rig, asked, "active", title="Second")
    assert (await cleo.state())["sessions"][0]["title"] == "First"
    assert (await rig.api("agents.sessions.rename", title="x" * 201, **thread))[
        "error"
    ] == "invalid_arguments"
    assert (await rig.api("agents.sessions.rename", title="Third", **thread))["ok"]
    assert (await cleo.state())["sessions"][0]["title"] == "Third"
    assert (await rig.person("U0DAN").state())["sessions"] == []


async def test_without_the_subscription_there_is_a_warning_and_no_stop() -> None:
    """missing_agent_session_stopped_event_subscription comes with ok; people cannot press Stop."""
    events = with_value(MANIFEST, "oauth_config.scopes.bot", ["chat:write", "commands", "im:history"])
    async with running(manifest=events, connect=False) as rig:
        cleo = rig.person("U0CLEO")
        asked = await cleo.post("D0CLEO", "hello")
        answer = await session_status(rig, asked, "processing")
        assert answer["ok"]
        assert answer["warning"] == "missing_agent_session_stopped_event_subscription"
        with pytest.raises(PublicError, match="did not subscribe"):
            await cleo.stop("D0CLEO", asked)


async def test_a_stream_ends_with_the_clock_and_the_answer_can_still_be_finished(rig: Rig) -> None:
    """After five minutes append and stop are refused; chat.update puts the whole answer in its place."""
    cleo, control = rig.person("U0CLEO"), control_of(rig)
    asked = await cleo.post("D0CLEO", "hello")
    stream = await rig.api("chat.startStream", channel="D0CLEO", thread_ts=asked, markdown_text="One ")
    await control.advance(200)
    assert (await rig.api("chat.appendStream", channel="D0CLEO", ts=stream["ts"], markdown_text="two "))["ok"]
    await control.advance(101)
    refused = await rig.api("chat.appendStream", channel="D0CLEO", ts=stream["ts"], markdown_text="three")
    assert refused["error"] == "message_not_in_streaming_state"
    refused = await rig.api("chat.stopStream", channel="D0CLEO", ts=stream["ts"])
    assert refused["error"] == "message_not_in_streaming_state"
    whole = await rig.api("chat.update", channel="D0CLEO", ts=stream["ts"], markdown_text="One two three")
    assert whole["ok"]
    assert (await cleo.messages("D0CLEO", asked))[1]["text"] == "One two three"


async def test_a_status_ends_after_two_minutes_unless_it_is_renewed(rig: Rig) -> None:
    """The clock decides; a renewed status lives two minutes more."""
    cleo, control = rig.person("U0CLEO"), control_of(rig)
    asked = await cleo.post("D0CLEO", "hello")
    thinking = {"channel_id": "D0CLEO", "thread_ts": asked, "status": "is thinking"}
    for seconds, shown in ((80, 1), (121, 0)):
        await rig.api("assistant.threads.setStatus", **thinking)
        await control.advance(60)
        await rig.api("assistant.threads.setStatus", **thinking)
        await control.advance(seconds)
        assert len((await cleo.state())["statuses"]) == shown


@pytest.mark.parametrize(
    ("recipient", "error"),
    [
        ({}, "missing_recipient_team_id"),
        ({"recipient_team_id": "T0LOCAL"}, "missing_recipient_user_id"),
        ({"recipient_team_id": "T0LOCAL", "recipient_user_id": "U0NOBODY"}, "user_not_found"),
        ({"recipient_team_id": "T0LOCAL", "recipient_user_id": "U0DAN"}, "user_not_found"),
    ],
)
async def test_streams_in_channels_need_a_recipient_of_this_team(
    rig: Rig, recipient: Json, error: str
) -> None:
    """Slack Connect guests (here: dan) get no stream, and in channels the recipient must be named."""
    await control_of(rig).set_features(outsiders=["U0DAN"])
    asked = await rig.person("U0DAN").post("C0HELP", "@apprentice hello")
    answer = await rig.api("chat.startStream", channel="C0HELP", thread_ts=asked, **recipient)
    assert answer["error"] == error
    assert (await rig.api("chat.postMessage", channel="C0HELP", thread_ts=asked, text="Hello"))["ok"]


async def test_the_app_hears_what_a_person_looks_at(rig: Rig) -> None:
    """app_context_changed names the channel beside the agent; looking at nothing is an empty context."""
    heard: list[Json] = []

    @rig.app.event("app_context_changed")
    async def changed(event: Json) -> None:
        heard.append(event)

    cleo = rig.person("U0CLEO")
    await cleo.look_at("C0HELP")
    await until(lambda: heard, timeout_s=30)
    entity = {"type": "slack#/types/channel_id", "value": "C0HELP", "team_id": "T0LOCAL"}
    assert heard[0]["context"] == {"entities": [entity]}
    assert (heard[0]["user"], heard[0]["channel"]) == ("U0CLEO", "D0CLEO")
    await cleo.look_at(None)
    await until(lambda: len(heard) == 2, timeout_s=30)
    assert heard[1]["context"] == {}
    with pytest.raises(PublicError, match="channel_not_found"):
        await cleo.look_at("C0ADMIN")


async def test_prompts_and_mentions_use_the_bots_own_user(rig: Rig) -> None:
    """What the bot streams is its own message, with a state that the page can show."""
    cleo = rig.person("U0CLEO")
    asked = await cleo.post("D0CLEO", "hello")
    stream = await rig.api("chat.startStream", channel="D0CLEO", thread_ts=asked, markdown_text="Hi")
    message = (await cleo.messages("D0CLEO", asked))[1]
    assert (message["user"], message["streaming_state"], message["ts"]) == (
        BOT_USER,
        "in_progress",
        stream["ts"],
    )
