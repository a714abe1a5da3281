"""A real slack_bolt app lives in the local workspace as in Slack: events, acknowledgements, connections, trouble."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from workspace_rig import FEEDBACK, Json, finished, running, until

from bot.workspace import Fault
from bot.workspace.seed import BOT_USER


async def test_a_mention_is_heard_twice_and_answered_in_the_thread() -> None:
    """As in Slack, one mention gives app_mention and message; the bot's own answer is echoed to it."""
    async with running() as rig:
        cleo = rig.person("U0CLEO")
        ts = await cleo.post("C0HELP", "@apprentice what is <b> & who is @ann?")
        mention = (await until(lambda: rig.heard("app_mention")))[0]
        assert mention["text"] == f"<@{BOT_USER}> what is &lt;b&gt; &amp; who is <@U0ANN>?"
        [heard] = await until(lambda: rig.heard("message", ts=ts))
        assert heard["channel_type"] == "channel"
        said = await rig.client.chat_postMessage(channel="C0HELP", text="An answer", thread_ts=ts)
        answer = await cleo.wait_for_message("C0HELP", lambda one: one["user"] == BOT_USER, thread_ts=ts)
        assert (answer["text"], answer["thread_ts"], answer["bot_id"]) == ("An answer", ts, "B0APPRENTICE")
        echo = (await until(lambda: rig.heard("message", ts=said["ts"])))[0]
        assert echo["bot_id"] == "B0APPRENTICE"
        assert not rig.heard("app_mention", ts=said["ts"])
        root = (await cleo.messages("C0HELP"))[0]
        assert (root["reply_count"], root["latest_reply"], root["reply_users"]) == (1, said["ts"], [BOT_USER])


@pytest.mark.unshaken
async def test_the_bot_hears_only_where_it_is_a_member() -> None:
    """A direct message is heard as im; a mention there is no app_mention; edits, deletions and reactions are told."""
    async with running() as rig:
        cleo = rig.person("U0CLEO")
        ts = await cleo.post("D0CLEO", "hello @apprentice")
        await cleo.edit("D0CLEO", ts, "hello again")
        await cleo.react("D0CLEO", ts, "+1")
        await cleo.react("D0CLEO", ts, "+1", remove=True)
        await cleo.delete("D0CLEO", ts)
        await until(lambda: rig.heard("message", subtype="message_deleted"))
        first, changed, deleted = rig.heard("message")
        assert first["channel_type"] == "im"
        assert (changed["message"]["text"], changed["previous_message"]["ts"]) == ("hello again", ts)
        assert deleted["deleted_ts"] == ts
        assert rig.heard("reaction_added")[0]["item"] == {"type": "message", "channel": "D0CLEO", "ts": ts}
        assert rig.heard("reaction_removed")[0]["item_user"] == "U0CLEO"
        assert not rig.heard("app_mention")


async def test_a_deleted_root_with_replies_leaves_a_tombstone() -> None:
    """Slack does not send message_deleted for it, but message_changed with a tombstone."""
    async with running() as rig:
        cleo = rig.person("U0CLEO")
        ts = await cleo.post("C0HELP", "a question")
        await rig.client.chat_postMessage(channel="C0HELP", text="an answer", thread_ts=ts)
        await cleo.delete("C0HELP", ts)
        changed = (await until(lambda: rig.heard("message", subtype="message_changed")))[0]
        assert changed["message"]["subtype"] == "tombstone"
        assert not rig.heard("message", subtype="message_deleted")


async def test_an_event_is_sent_again_when_the_app_fails_before_acknowledging() -> None:
    """A crash in global middleware is no acknowledgement: the same event comes again, marked as a retry."""
    async with running(connect=False, listen=False, ack_timeout_s=0.2) as rig:
        seen: list[tuple[str, str]] = []

        @rig.app.use
        async def fail_twice(body: Json, request: Any, next: Callable[[], Awaitable[None]]) -> None:  # noqa: A002
            retry = request.headers.get("x-slack-retry-num", ["0"])[0]
            seen.append((body["event_id"], retry))
            if len(seen) <= 2:
                raise RuntimeError("the store is not there")
            await next()

        @rig.app.event("message")
        async def listen() -> None: ...

        await rig.connect()
        await rig.person("U0DAN").post("C0HELP", "is anybody there?")
        await until(lambda: len(seen) == 3)
        assert {event_id for event_id, _ in seen} == {seen[0][0]}
        assert [retry for _, retry in seen] == ["0", "1", "2"]


async def test_an_event_is_given_up_after_three_retries() -> None:
    """Four deliveries in all, then silence."""
    async with running(connect=False, listen=False, ack_timeout_s=0.05) as rig:
        seen: list[str] = []

        @rig.app.use
        async def never(body: Json) -> None:
            seen.append(body["event_id"])
            raise RuntimeError("never")

        await rig.connect()
        await rig.person("U0DAN").post("C0HELP", "first")
        await until(lambda: len(seen) == 4)
        await rig.person("U0DAN").post("C0HELP", "second")
        await until(lambda: len(seen) == 8)
        assert seen.count(seen[0]) == 4


async def test_what_happens_while_nothing_is_connected_is_not_sent() -> None:
    """Slack does not queue for an app that is away."""
    async with running(connect=False) as rig:
        await rig.person("U0DAN").post("C0HELP", "nobody listens")
        await rig.connect()
        heard = await rig.person("U0DAN").post("C0HELP", "somebody listens")
        await until(lambda: rig.heard("message", ts=heard))
        assert len(rig.heard("message")) == 1


async def test_a_restart_keeps_messages_and_sends_unacknowledged_events_again(tmp_path: Path) -> None:
    """Everything said is there after a restart, and the app hears once more what it never acknowledged."""
    state_file = tmp_path / "workspace.sqlite"
    async with running(state_file=state_file, listen=False, ack_timeout_s=30) as rig:
        stuck = asyncio.Event()

        @rig.app.use
        async def crash(body: Json) -> None:
            stuck.set()
            raise RuntimeError("killed while answering")

        cleo = rig.person("U0CLEO")
        ts = await cleo.post("C0HELP", "@apprentice remember me")
        await cleo.react("C0HELP", ts, "eyes")
        await asyncio.wait_for(stuck.wait(), 5)
    async with running(state_file=state_file) as rig:
        await until(lambda: rig.heard("app_mention", ts=ts) and rig.heard("reaction_added"))
        await until(lambda: rig.heard("message", ts=ts))
        (message,) = await rig.person("U0CLEO").messages("C0HELP")
        assert message["text"] == f"<@{BOT_USER}> remember me"
        assert message["reactions"] == [{"name": "eyes", "users": ["U0CLEO"], "count": 1}]
        later = await rig.person("U0CLEO").post("C0HELP", "and me")
        assert later > ts


async def test_a_rate_limit_is_obeyed_by_the_sdk() -> None:
    """429 with Retry-After makes the SDK wait and try again; the message is posted once."""
    async with running() as rig:
        rig.workspace.faults.add(Fault("chat.postMessage", status=429, retry_after=1))
        started = time.monotonic()
        await rig.client.chat_postMessage(channel="C0HELP", text="patient")
        assert time.monotonic() - started >= 1
        messages = await rig.person("U0CLEO").messages("C0HELP")
        assert [message["text"] for message in messages] == ["patient"]


async def test_faults_can_do_the_work_and_lose_the_answer() -> None:
    """Server errors, Slack errors and lost answers are given to order; a lost answer's work is done."""
    async with running(connect=False) as rig:
        await rig.control("fault", method="chat.postMessage", error="fatal_error")
        assert (await rig.api("chat.postMessage", channel="C0HELP", text="one"))["error"] == "fatal_error"
        await rig.control("fault", method="*", status=503, times=2)
        for _ in range(2):
            async with rig.session.post(f"{rig.workspace.url}/api/api.test") as response:
                assert response.status == 503
        await rig.control("fault", method="chat.postMessage", status=0, after_work=True)
        with pytest.raises(aiohttp.ClientError):
            await rig.api("chat.postMessage", channel="C0HELP", text="two")
        messages = await rig.person("U0CLEO").messages("C0HELP")
        assert [message["text"] for message in messages] == ["two"]


async def test_connections_are_renewed_without_losing_anything() -> None:
    """After `disconnect` the app comes again; after a cut it comes again and hears what it had not acknowledged."""
    async with running(ack_timeout_s=0.5) as rig:
        assert (await rig.control("disconnect"))["count"] == 1
        state = rig.person("U0ANN").state
        deadline = time.monotonic() + 10
        while (await state())["connected"] != 1:
            assert time.monotonic() < deadline
        first = await rig.person("U0ANN").post("C0HELP", "after the refresh")
        await until(lambda: rig.heard("message", ts=first))


async def test_an_event_in_flight_survives_a_cut_connection() -> None:
    """The connection dies under an event; the app's next connection gets it."""
    async with running(connect=False, ack_timeout_s=0.3) as rig:
        address = (await rig.api("apps.connections.open", token="xapp-local-apprentice"))["url"]
        deaf = await rig.session.ws_connect(address)
        assert (await deaf.receive_json())["type"] == "hello"
        ts = await rig.person("U0ANN").post("C0HELP", "did you hear me?")
        envelope = await deaf.receive_json()
        assert (envelope["type"], envelope["retry_attempt"]) == ("events_api", 0)
        await rig.control("disconnect", hard=True)
        await deaf.close()
        await rig.connect()
        await until(lambda: rig.heard("message", ts=ts))


async def test_pings_are_answered_with_their_own_payload() -> None:
    """The SDK measures its connection by control frames; a missing PONG makes it reconnect."""
    async with running(connect=False) as rig:
        handler = await rig.connect(ping_interval=0.2)
        client = handler.client
        started = time.time()
        await until(lambda: (client.last_ping_pong_time or 0) > started + 1)
        assert await client.is_connected()


async def test_envelopes_go_to_one_of_at_most_ten_connections() -> None:
    """Each envelope reaches exactly one connection; the eleventh is turned away."""
    async with running(connect=False) as rig:
        sockets = []
        for number in range(11):
            address = (await rig.api("apps.connections.open", token="xapp-local-apprentice"))["url"]
            socket = await rig.session.ws_connect(address)
            hello = await socket.receive_json()
            if number < 10:
                assert (hello["type"], hello["num_connections"]) == ("hello", number + 1)
                sockets.append(socket)
            else:
                assert (hello["type"], hello["reason"]) == ("disconnect", "too_many_websockets")
        received: list[str] = []

        async def drain(socket: Any) -> None:
            async for message in socket:
                frame = message.json()
                received.append(frame["payload"]["event"]["ts"])
                await socket.send_json({"envelope_id": frame["envelope_id"]})

        tasks = [asyncio.create_task(drain(socket)) for socket in sockets]
        sent = [await rig.person("U0DAN").post("C0HELP", f"message {number}") for number in range(30)]
        await until(lambda: len(received) >= 30)
        assert sorted(received) == sent
        for task in tasks:
            task.cancel()


async def test_a_rehearsal_has_room_for_tens_of_messages_a_second() -> None:
    """150 questions with 150 streamed answers, over the whole protocol, in well under ten seconds."""
    async with running(listen=False) as rig:

        @rig.app.event("app_mention")
        async def answer(say_stream: Any) -> None:
            stream = await say_stream()
            await stream.append(markdown_text="an answer")
            await stream.stop(blocks=FEEDBACK)

        @rig.app.event("message")
        async def ignore() -> None: ...

        cleo = rig.person("U0CLEO")
        started = time.monotonic()

        async def ask(number: int) -> None:
            ts = await cleo.post("C0HELP", f"@apprentice question {number}")
            await cleo.wait_for_message("C0HELP", finished("an answer"), thread_ts=ts)

        for first in range(0, 150, 10):
            await asyncio.gather(*(ask(number) for number in range(first, first + 10)))
        assert 300 / (time.monotonic() - started) > 10


@pytest.mark.parametrize("reason", ["warning", "refresh_requested", "link_disabled", "too_many_websockets"])
async def test_every_reason_to_disconnect_brings_the_sdk_back(reason: str) -> None:
    """The SDK connects again whatever Slack's reason is; what is said afterwards arrives once."""
    async with running() as rig:
        await rig.control("disconnect", reason=reason)
        connected = rig.workspace._running.services.hub  # type: ignore[union-attr]
        frames = rig.workspace._running.services.frames  # type: ignore[union-attr]
        await until(lambda: sum(one["kind"] == "hello" for one in frames.since(0)) == 2, timeout_s=30)
        await until(lambda: connected.count, timeout_s=30)
        await rig.person("U0CLEO").post("C0HELP", "still there?")
        await until(lambda: rig.heard("message", text="still there?"), timeout_s=30)
        assert len(rig.heard("message", text="still there?")) == 1


async def test_an_unknown_reason_to_disconnect_is_refused() -> None:
    """Only Slack's own."""
    async with running(connect=False) as rig:
        answer = await rig.control("disconnect", reason="bored")
        assert answer["error"] == "invalid_arguments"
