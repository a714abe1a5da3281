"""The Web API's other answers: refusals in Slack's words, arguments in every form, pages of lists."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from workspace_rig import Json, Rig, running

from bot.workspace.seed import APP_TOKEN, BOT_USER

TOO_LONG = "x" * 40_001
DIVIDER = [{"type": "divider"}]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(connect=False) as made:
        yield made


@pytest.mark.parametrize(
    ("method", "args", "error"),
    [
        ("chat.postMessage", {"channel": "C0NOWHERE", "text": "x"}, "channel_not_found"),
        ("chat.postMessage", {"text": "x"}, "channel_not_found"),
        ("chat.postMessage", {"channel": "C0HELP"}, "no_text"),
        ("chat.postMessage", {"channel": "C0HELP", "text": TOO_LONG}, "msg_too_long"),
        ("chat.postMessage", {"channel": "C0HELP", "markdown_text": "x" * 12_001}, "msg_too_long"),
        (
            "chat.postMessage",
            {"channel": "C0HELP", "markdown_text": "x", "text": "x"},
            "markdown_text_conflict",
        ),
        ("chat.postMessage", {"channel": "C0HELP", "blocks": "[{"}, "invalid_arguments"),
        ("chat.update", {"channel": "C0HELP", "ts": "1.1", "text": "x"}, "message_not_found"),
        ("chat.update", {"channel": "C0HELP", "text": "x"}, "invalid_arguments"),
        ("chat.delete", {"channel": "C0HELP", "ts": "1.1"}, "message_not_found"),
        ("chat.postEphemeral", {"channel": "C0ADMIN", "user": "U0CLEO", "text": "x"}, "user_not_in_channel"),
        ("chat.getPermalink", {"channel": "C0HELP", "message_ts": "1.1"}, "message_not_found"),
        ("chat.appendStream", {"channel": "C0HELP", "ts": "1.1", "markdown_text": "x"}, "message_not_found"),
        ("reactions.add", {"channel": "C0HELP", "timestamp": "yesterday", "name": "eyes"}, "bad_timestamp"),
        ("reactions.add", {"name": "eyes"}, "no_item_specified"),
        ("users.info", {"user": "U0NOBODY"}, "user_not_found"),
        ("users.lookupByEmail", {"email": "a@b.c"}, "users_not_found"),
        ("bots.info", {"bot": "B0NOBODY"}, "bot_not_found"),
        ("conversations.info", {"channel": "C0NOWHERE"}, "channel_not_found"),
        ("conversations.replies", {"channel": "C0HELP", "ts": "1.1"}, "thread_not_found"),
        ("conversations.history", {"channel": "C0HELP", "limit": 5000}, "invalid_limit"),
        ("conversations.history", {"channel": "C0HELP", "limit": "many"}, "invalid_arguments"),
        ("conversations.list", {"cursor": "?"}, "invalid_cursor"),
        ("conversations.open", {}, "users_list_not_supplied"),
        ("conversations.open", {"users": ",".join(["U0ANN"] * 9)}, "too_many_users"),
        ("views.open", {"trigger_id": "1.2.3", "view": {"type": "modal"}}, "invalid_arguments"),
        ("views.update", {"view": {}}, "invalid_arguments"),
        ("views.publish", {"user_id": "U0NOBODY", "view": {"type": "home", "blocks": []}}, "user_not_found"),
        ("views.publish", {"user_id": "U0ANN", "view": {"type": "modal"}}, "invalid_arguments"),
        ("files.info", {"file": "F0NOTHING"}, "file_not_found"),
        ("files.completeUploadExternal", {"files": [{"id": "F0NOTHING"}]}, "file_not_found"),
        ("files.getUploadURLExternal", {"filename": "a", "length": 10**9}, "file_upload_size_restricted"),
        (
            "assistant.threads.setSuggestedPrompts",
            {"channel_id": "D0ANN", "prompts": []},
            "invalid_arguments",
        ),
        ("chat.teleport", {}, "unknown_method"),
    ],
)
@pytest.mark.sends_nonsense("what Slack refuses")
async def test_what_slack_refuses_is_refused_in_its_words(
    rig: Rig, method: str, args: Json, error: str
) -> None:
    """The error code an app would branch on is the one it gets here."""
    answer = await rig.api(method, **args)
    assert (answer["ok"], answer["error"]) == (False, error)


@pytest.mark.parametrize(
    ("method", "token", "error"),
    [
        ("auth.test", None, "not_authed"),
        ("auth.test", "xoxb-wrong", "invalid_auth"),
        ("auth.test", APP_TOKEN, "not_allowed_token_type"),
        ("apps.connections.open", "xoxb-local-apprentice", "not_allowed_token_type"),
    ],
)
async def test_tokens_are_checked(rig: Rig, method: str, token: str | None, error: str) -> None:
    """Missing, wrong and mixed-up tokens are told apart."""
    assert (await rig.api(method, token=token))["error"] == error


@pytest.mark.sends_nonsense("blocks that Slack refuses")
async def test_invalid_blocks_say_what_and_where(rig: Rig) -> None:
    """`errors` and `response_metadata.messages`, as Slack has them."""
    answer = await rig.api("chat.postMessage", channel="C0HELP", blocks=[{"type": "header"}])
    sentence = "missing required field: text [json-pointer:/blocks/0]"
    assert answer["error"] == "invalid_blocks"
    assert answer["errors"] == [sentence]
    assert answer["response_metadata"] == {"messages": [f"[ERROR] {sentence}"]}
    assert (await rig.api("blocks.validate", blocks=DIVIDER))["ok"]


@pytest.mark.sends_nonsense("broken JSON")
async def test_arguments_may_come_as_query_form_or_json(rig: Rig) -> None:
    """Slack's SDKs use all three; nested values may be JSON text."""
    address = f"{rig.workspace.url}/api/chat.postMessage"
    auth = {"Authorization": "Bearer xoxb-local-apprentice"}
    form = {"channel": "C0HELP", "text": "form", "blocks": '[{"type": "divider"}]'}
    async with rig.session.post(address, data=form, headers=auth) as response:
        assert (await response.json())["message"]["blocks"][0]["type"] == "divider"
    async with rig.session.get(
        address, params={"channel": "#help-desk", "text": "query"}, headers=auth
    ) as response:
        assert (await response.json())["channel"] == "C0HELP"
    for body, error in (("{", "invalid_json"), ("[]", "json_not_object")):
        async with rig.session.post(
            address, data=body, headers={**auth, "Content-Type": "application/json"}
        ) as response:
            assert (await response.json())["error"] == error


async def test_only_own_messages_can_be_changed(rig: Rig) -> None:
    """cant_update_message and cant_delete_message for what a person wrote, and the same the other way round."""
    cleo = rig.person("U0CLEO")
    ts = await cleo.post("C0HELP", "mine")
    assert (await rig.api("chat.update", channel="C0HELP", ts=ts, text="yours"))[
        "error"
    ] == "cant_update_message"
    assert (await rig.api("chat.delete", channel="C0HELP", ts=ts))["error"] == "cant_delete_message"
    bots = (await rig.api("chat.postMessage", channel="C0HELP", text="the bot's"))["ts"]
    for route, error in (("edit", "cant_update_message"), ("delete", "cant_delete_message")):
        answer = await rig.control(route, user="U0CLEO", channel="C0HELP", ts=bots, text="x")
        assert answer["error"] == error


async def test_an_update_replaces_blocks_and_keeps_them_as_slack_does(rig: Rig) -> None:
    """New text without blocks removes the blocks; over 4,000 characters are too many; blocks are not marked edited."""
    ts = (await rig.api("chat.postMessage", channel="C0HELP", text="x", blocks=DIVIDER))["ts"]
    with_blocks = await rig.api("chat.update", channel="C0HELP", ts=ts, text="y", blocks=DIVIDER)
    assert "edited" not in with_blocks["message"]
    only_text = await rig.api("chat.update", channel="C0HELP", ts=ts, text="z")
    assert "blocks" not in only_text["message"]
    assert only_text["message"]["edited"]["user"] == BOT_USER
    assert (await rig.api("chat.update", channel="C0HELP", ts=ts, text="z" * 4001))["error"] == "msg_too_long"


async def test_the_bot_cannot_write_where_it_is_not(rig: Rig) -> None:
    """not_in_channel in a public channel, channel_not_found in a private one; a person's id means their IM."""
    state = rig.workspace._running.services.state  # type: ignore[union-attr]
    for channel_id, error in (("C0GENERAL", "not_in_channel"), ("C0ADMIN", "channel_not_found")):
        state.channels[channel_id].members = ["U0ANN"]
        answer = await rig.api("chat.postMessage", channel=channel_id, text="x")
        assert answer["error"] == error
    assert (await rig.api("conversations.join", channel="C0GENERAL"))["ok"]
    assert (await rig.api("chat.postMessage", channel="C0GENERAL", text="x"))["ok"]
    assert (await rig.api("chat.postMessage", channel="U0DAN", text="x"))["channel"] == "D0DAN"


async def test_a_reply_belongs_to_the_root_and_to_the_channel_when_the_root_is_gone(rig: Rig) -> None:
    """A reply to a reply joins its thread; a reply to a deleted message is un-threaded without an error."""
    cleo = rig.person("U0CLEO")
    root = await cleo.post("C0HELP", "root")
    reply = await cleo.post("C0HELP", "reply", thread_ts=root)
    nested = await rig.api("chat.postMessage", channel="C0HELP", text="x", thread_ts=reply)
    assert nested["message"]["thread_ts"] == root
    lone = await cleo.post("C0HELP", "soon gone")
    await cleo.delete("C0HELP", lone)
    assert (
        "thread_ts"
        not in (await rig.api("chat.postMessage", channel="C0HELP", text="x", thread_ts=lone))["message"]
    )
    refused = await rig.control("post", user="U0CLEO", channel="C0HELP", text="x", thread_ts=lone)
    assert refused["error"] == "thread_not_found"


@pytest.mark.sends_nonsense("one set of arguments for three methods")
async def test_reactions_are_counted_once_per_person(rig: Rig) -> None:
    """already_reacted and no_reaction; users and count as Slack lists them."""
    ts = await rig.person("U0CLEO").post("C0HELP", "x")
    args: Json = {"channel": "C0HELP", "timestamp": ts, "name": "+1"}
    assert (await rig.api("reactions.add", **args))["ok"]
    assert (await rig.api("reactions.add", **args))["error"] == "already_reacted"
    await rig.person("U0DAN").react("C0HELP", ts, ":+1:")
    message = (await rig.api("reactions.get", **args))["message"]
    assert message["reactions"] == [{"name": "+1", "users": [BOT_USER, "U0DAN"], "count": 2}]
    assert (await rig.api("reactions.remove", **args))["ok"]
    assert (await rig.api("reactions.remove", **args))["error"] == "no_reaction"


async def test_lists_come_in_pages(rig: Rig) -> None:
    """A cursor leads through history, newest first, and through replies, oldest first; nothing twice, nothing missing."""
    cleo = rig.person("U0CLEO")
    roots = [await cleo.post("C0HELP", f"root {number}") for number in range(5)]
    replies = [await cleo.post("C0HELP", f"reply {number}", thread_ts=roots[0]) for number in range(3)]
    assert await _pages(rig, "conversations.history", channel="C0HELP", limit=2) == roots[::-1]
    assert await _pages(rig, "conversations.replies", channel="C0HELP", ts=roots[0], limit=2) == [
        roots[0],
        *replies,
    ]
    between: Json = {"oldest": roots[1], "latest": roots[3]}
    assert await _pages(rig, "conversations.history", channel="C0HELP", **between) == [roots[2]]
    assert (
        await _pages(rig, "conversations.history", channel="C0HELP", inclusive=True, **between)
        == roots[3:0:-1]
    )


async def _pages(rig: Rig, method: str, **args: Any) -> list[str]:
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await rig.api(method, cursor=cursor, **args)
        seen += [message["ts"] for message in answer["messages"]]
        cursor = answer.get("response_metadata", {}).get("next_cursor", "")
        assert answer["has_more"] == bool(cursor)
        if not cursor:
            return seen


async def test_metadata_is_shown_only_when_asked_for(rig: Rig) -> None:
    """include_all_metadata, as in Slack."""
    metadata = {"event_type": "answer", "event_payload": {"id": "a1"}}
    ts = (await rig.api("chat.postMessage", channel="C0HELP", text="x", metadata=metadata))["ts"]
    plain = await rig.api("conversations.replies", channel="C0HELP", ts=ts)
    full = await rig.api("conversations.replies", channel="C0HELP", ts=ts, include_all_metadata=True)
    assert "metadata" not in plain["messages"][0]
    assert full["messages"][0]["metadata"] == metadata


@pytest.mark.sends_nonsense("chunks that Slack refuses")
async def test_a_stream_shows_tasks_and_refuses_nonsense_whole(rig: Rig) -> None:
    """A plan with its tasks by id, latest state wins; a bad chunk leaves the stream as it was."""
    ts = await rig.person("U0CLEO").post("D0CLEO", "run it")
    stream = (await rig.api("chat.startStream", channel="D0CLEO", thread_ts=ts))["ts"]
    task = {"type": "task_update", "id": "t1", "title": "collect", "status": "in_progress"}
    chunks = [{"type": "plan_update", "title": "The run"}, task, {**task, "status": "complete"}]
    assert (await rig.api("chat.appendStream", channel="D0CLEO", ts=stream, chunks=chunks))["ok"]
    bad = [{"type": "markdown_text", "text": "never seen"}, {"type": "riddle"}]
    assert (await rig.api("chat.appendStream", channel="D0CLEO", ts=stream, chunks=bad))[
        "error"
    ] == "invalid_chunks"
    assert (await rig.api("chat.delete", channel="D0CLEO", ts=stream))["error"] == "cant_delete_message"
    message = (await rig.api("chat.stopStream", channel="D0CLEO", ts=stream, markdown_text="Done."))[
        "message"
    ]
    plan, words = message["blocks"]
    assert (plan["title"], plan["tasks"][0]["status"]) == ("The run", "complete")
    assert (words["text"], message["text"]) == ("Done.", "Done.")


async def test_a_status_is_shown_and_ends_with_the_answer(rig: Rig) -> None:
    """`is thinking` until the bot writes into the thread."""
    cleo = rig.person("U0CLEO")
    ts = await cleo.post("C0HELP", "x")
    await rig.api("assistant.threads.setStatus", channel_id="C0HELP", thread_ts=ts, status="is thinking")
    assert [one["status"] for one in (await cleo.state())["statuses"]] == ["is thinking"]
    await rig.api("chat.postMessage", channel="C0HELP", thread_ts=ts, text="done")
    assert (await cleo.state())["statuses"] == []


@pytest.mark.sends_nonsense("a method that Slack does not have")
async def test_the_inspector_shows_every_call(rig: Rig) -> None:
    """Method, arguments, answer; tokens are never shown."""
    await rig.api("chat.postMessage", channel="C0HELP", text="x")
    await rig.api("chat.teleport")
    async with rig.session.get(f"{rig.workspace.url}/_control/calls", params={"since": "0"}) as response:
        calls = (await response.json())["calls"]
    assert [(call["method"], call["answer"]["ok"]) for call in calls] == [
        ("chat.postMessage", True),
        ("chat.teleport", False),
    ]
    assert "xoxb" not in str(calls)
