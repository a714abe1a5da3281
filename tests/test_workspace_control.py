"""The control API: files, ephemerals, private buttons, suggestions, the clock, trouble, a fresh start, and live events."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from workspace_rig import Json, Rig, button_row, input_block, option, running, until

from bot.errors import PublicError
from bot.workspace import Fault, Workspace

CHART: Json = {
    "type": "data_visualization",
    "title": "Loss",
    "chart": {
        "type": "line",
        "series": [{"name": "train", "data": [{"label": "1", "value": 2}, {"label": "2", "value": 1}]}],
        "axis_config": {"categories": ["1", "2"]},
    },
}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running(share_delay_s=90.0) as rig:
        yield rig


def control_of(rig: Rig) -> Workspace:
    return Workspace(rig.workspace.url, rig.session)


async def test_a_person_uploads_files_and_the_app_can_read_them(rig: Rig) -> None:
    """A message of subtype file_share follows; the bytes are behind url_private for who has the bot's token."""
    cleo = rig.person("U0CLEO")
    root = await cleo.post("C0HELP", "see below")
    ids = await cleo.upload("C0HELP", {"faq.txt": b"Q and A", "b.bin": b"\0\1"}, "two files", root)
    await control_of(rig).advance(100)
    await until(lambda: rig.heard("message", subtype="file_share"), timeout_s=30)
    event = rig.heard("message", subtype="file_share")[0]
    assert [file["id"] for file in event["files"]] == ids
    assert (event["text"], event["thread_ts"], event["user"]) == ("two files", root, "U0CLEO")
    info = (await rig.api("files.info", file=ids[0]))["file"]
    assert info["shares"]["public"]["C0HELP"][0]["ts"] == event["ts"]
    headers = {"Authorization": "Bearer xoxb-local-apprentice"}
    async with rig.session.get(info["url_private"], headers=headers) as response:
        assert await response.read() == b"Q and A"
    with pytest.raises(PublicError, match="no_file"):
        await cleo.upload("C0HELP", {})


async def test_files_of_the_app_are_shared_later_or_never(rig: Rig) -> None:
    """complete answers at once; files.info has no shares before the message is there; a lost share stays lost."""
    control = control_of(rig)
    first = await uploaded(rig)
    assert "shares" not in first or not first["shares"]
    shared = await until_shared(rig, first["id"])
    assert list(shared["shares"]["public"]) == ["C0HELP"]
    await control.set_features(file_shares=False)
    lost = await uploaded(rig)
    await control.advance(600)
    assert (await rig.api("files.info", file=lost["id"]))["file"]["shares"] == {}
    assert (await rig.api("files.delete", file=lost["id"]))["ok"]
    assert (await rig.api("files.info", file=lost["id"]))["error"] == "file_not_found"


async def test_an_image_block_waits_for_its_file(rig: Rig) -> None:
    """invalid_blocks until the upload is processed, and for a file that nobody uploaded; by id and by address."""
    file = await uploaded(rig)
    for named in ({"id": file["id"]}, {"url": file["url_private"]}, {"id": "F0NOBODY"}):
        image = {"type": "image", "alt_text": "a chart", "slack_file": named}
        answer = await rig.api("chat.postMessage", channel="C0HELP", text="x", blocks=[image])
        assert answer["errors"] == ["invalid slack file [json-pointer:/blocks/0/slack_file]"]
    await control_of(rig).advance(100)
    image = {"type": "image", "alt_text": "a chart", "slack_file": {"id": file["id"]}}
    assert (await rig.api("chat.postMessage", channel="C0HELP", text="x", blocks=[image]))["ok"]


async def uploaded(rig: Rig) -> Json:
    """A file of the app, as files.info shows it right after the upload is complete."""
    expected = await rig.api("files.getUploadURLExternal", filename="report.csv", length=3)
    async with rig.session.post(expected["upload_url"], data=b"a,b") as response:
        assert response.status == 200
    done = await rig.api(
        "files.completeUploadExternal", files=[{"id": expected["file_id"]}], channel_id="C0HELP"
    )
    assert done["ok"]
    file: Json = (await rig.api("files.info", file=expected["file_id"]))["file"]
    return file


async def until_shared(rig: Rig, file_id: str) -> Json:
    await control_of(rig).advance(100)
    file: Json = (await rig.api("files.info", file=file_id))["file"]
    return file


async def test_a_dismissed_ephemeral_is_gone_for_good(rig: Rig) -> None:
    """For that person and after a reload; others never saw it; a public message cannot be dismissed."""
    cleo = rig.person("U0CLEO")
    said = await rig.api("chat.postEphemeral", channel="C0HELP", user="U0CLEO", text="psst")
    public = await rig.api("chat.postMessage", channel="C0HELP", text="hello")
    assert [one["text"] for one in await rig.person("U0DAN").messages("C0HELP")] == ["hello"]
    await cleo.dismiss("C0HELP", said["message_ts"])
    assert [one["text"] for one in await cleo.messages("C0HELP")] == ["hello"]
    with pytest.raises(PublicError, match="message_not_found"):
        await cleo.dismiss("C0HELP", public["ts"])


async def test_private_buttons_are_seen_and_pressed_only_by_whom_they_are_for(rig: Rig) -> None:
    """visible_to_user_ids: others neither get the button, in lists and live, nor can press it."""
    pressed: list[str] = []

    @rig.app.action("go")
    async def go(ack: Any, body: Json) -> None:
        pressed.append(body["user"]["id"])
        await ack()

    blocks = button_row("go")
    blocks[0]["elements"][0]["visible_to_user_ids"] = ["U0ANN"]
    blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": "all"}})
    async with live(rig, "U0DAN") as dan_hears, live(rig, "U0ANN") as ann_hears:
        said = await rig.api("chat.postMessage", channel="C0HELP", text="x", blocks=blocks)
        seen_by_dan = (await dan_hears("message"))["message"]
        seen_by_ann = (await ann_hears("message"))["message"]
    assert [block["type"] for block in seen_by_dan["blocks"]] == ["section"]
    assert [block["type"] for block in seen_by_ann["blocks"]] == ["actions", "section"]
    listed = (await rig.person("U0DAN").messages("C0HELP"))[0]
    assert [block["type"] for block in listed["blocks"]] == ["section"]
    with pytest.raises(PublicError, match="action_not_found"):
        await rig.person("U0DAN").click("C0HELP", said["ts"], "go")
    await rig.person("U0ANN").click("C0HELP", said["ts"], "go")
    assert pressed == ["U0ANN"]


def live(rig: Rig, user: str, **query: str) -> "Live":
    return Live(rig, {"user": user, **query})


class Live:
    """A page's web socket; calling it waits for the next change of one type."""

    def __init__(self, rig: Rig, query: dict[str, str]) -> None:
        self._opening = rig.session.ws_connect(f"{rig.workspace.url}/_control/ws", params=query)
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def __aenter__(self) -> "Live":
        self._socket = await self._opening
        assert (await self("connected"))["type"] == "connected"
        return self

    async def __aexit__(self, *problem: object) -> None:
        assert self._socket is not None
        await self._socket.close()

    async def __call__(self, kind: str) -> Json:
        assert self._socket is not None
        while True:
            change: Json = json.loads(await self._socket.receive_str(timeout=30))
            if change["type"] == kind:
                return change


async def test_inspectors_see_frames_and_calls_as_they_happen(rig: Rig) -> None:
    """With inspect=1 the socket tells every envelope, acknowledgement and Web API call; without it none."""
    cleo = rig.person("U0CLEO")
    async with live(rig, "U0ANN", inspect="1") as inspector, live(rig, "U0ANN") as page:
        await cleo.post("C0HELP", "hello")
        out = await inspector("frame")
        acked = await inspector("frame")
        assert (out["direction"], out["kind"], out["transport"]) == ("out", "events_api", "socket")
        assert (acked["direction"], acked["kind"]) == ("in", "ack")
        assert acked["envelope_id"] == out["envelope_id"]
        await rig.api("api.test")
        assert (await inspector("call"))["method"]
        await cleo.post("C0HELP", "goodbye")
        assert (await page("message"))["message"]["text"] == "hello"
        assert (await page("message"))["message"]["text"] == "goodbye"
    frames = await control_of(rig).frames()
    assert [frame["n"] for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[0]["kind"] == "hello"
    assert await control_of(rig).frames(since=frames[-1]["n"]) == []


async def test_an_unknown_person_cannot_listen(rig: Rig) -> None:
    """The web socket is refused by name."""
    async with rig.session.get(f"{rig.workspace.url}/_control/ws?user=U0X") as response:
        assert (await response.json())["error"] == "user_not_found"


async def test_an_external_select_asks_the_app(rig: Rig) -> None:
    """block_suggestion carries what was typed; what the app offers comes back; too short a query never leaves."""
    asked: list[Json] = []

    @rig.app.options("topic")
    async def topics(ack: Any, body: Json) -> None:
        asked.append(body)
        await ack(options=[option("holidays")] if body["value"] == "hol" else [{"text": "no"}])

    select = {"type": "external_select", "action_id": "topic", "min_query_length": 2}
    blocks = [{"type": "actions", "block_id": "row", "elements": [select]}]
    said = await rig.api("chat.postMessage", channel="C0HELP", text="x", blocks=blocks)
    cleo = rig.person("U0CLEO")
    assert await cleo.suggest("topic", "hol", channel="C0HELP", ts=said["ts"]) == {
        "options": [option("holidays")]
    }
    assert (asked[0]["block_id"], asked[0]["container"]["message_ts"]) == ("row", said["ts"])
    with pytest.raises(PublicError, match="query_too_short"):
        await cleo.suggest("topic", "h", channel="C0HELP", ts=said["ts"])
    with pytest.raises(PublicError, match="invalid_options"):
        await cleo.suggest("topic", "bad", channel="C0HELP", ts=said["ts"])


async def test_an_external_select_of_a_modal_asks_the_app(rig: Rig) -> None:
    """As in a message; the container is the view, and the choice comes with the submission."""
    chosen: list[Json] = []

    @rig.app.command("/train")
    async def train(ack: Any, body: Json, client: Any) -> None:
        await ack()
        select = {"type": "external_select", "min_query_length": 0}
        title = {"type": "plain_text", "text": "Pick"}
        view = {"type": "modal", "title": title, "submit": title, "callback_id": "pick"}
        await client.views_open(
            trigger_id=body["trigger_id"], view={**view, "blocks": [input_block("topic", select)]}
        )

    @rig.app.options("topic")
    async def topics(ack: Any) -> None:
        await ack(option_groups=[{"label": option("x")["text"], "options": [option("tea")]}])

    @rig.app.view("pick")
    async def picked(ack: Any, view: Json) -> None:
        chosen.append(view["state"]["values"]["topic-block"]["topic"]["selected_option"])
        await ack()

    cleo = rig.person("U0CLEO")
    await cleo.command("C0HELP", "/train")
    view = await cleo.wait_for_view(timeout_s=30)
    offered = await cleo.suggest("topic", "", view_id=view["id"])
    tea = offered["option_groups"][0]["options"][0]
    assert await cleo.submit(view["id"], {"topic": tea}) == {"ok": True}
    assert chosen == [option("tea")]


async def test_an_uninstalled_app_is_told_and_shut_out(rig: Rig) -> None:
    """app_uninstalled and tokens_revoked arrive; the bot token is refused; a reset installs it again."""
    heard: list[Json] = []
    for kind in ("app_uninstalled", "tokens_revoked"):

        @rig.app.event(kind)
        async def gone(event: Json) -> None:
            heard.append(event)

    control = control_of(rig)
    await control.uninstall()
    await until(lambda: len(heard) == 2, timeout_s=30)
    assert {event["type"] for event in heard} == {"app_uninstalled", "tokens_revoked"}
    revoked = next(event for event in heard if event["type"] == "tokens_revoked")
    assert revoked["tokens"] == {"oauth": [], "bot": ["U0APPRENTICE"]}
    refused = await rig.api("chat.postMessage", channel="C0HELP", text="still here?")
    assert refused["error"] == "account_inactive"
    assert not (await rig.person("U0CLEO").state())["installed"]
    await control.reset()
    assert (await rig.api("chat.postMessage", channel="C0HELP", text="back"))["ok"]


async def test_a_reset_leaves_a_fresh_workspace(rig: Rig) -> None:
    """Messages, channels, homes, faults, features and the clock are as at the start; the app stays connected."""
    cleo, control = rig.person("U0CLEO"), control_of(rig)
    await cleo.post("C0HELP", "hello")
    await rig.api("chat.postEphemeral", channel="C0HELP", user="U0CLEO", text="psst")
    made = await rig.api("conversations.create", name="new-room")
    await rig.api("views.publish", user_id="U0CLEO", view={"type": "home", "blocks": []})
    await rig.api("chat.scheduleMessage", channel="C0HELP", text="later", post_at=4102444800 - 10**9)
    await control.inject_fault(Fault("chat.postMessage", error="fatal_error"))
    await control.set_features(data_visualization=False)
    await control.advance(3600)
    async with live(rig, "U0CLEO") as hears:
        await control.reset()
        await hears("reset")
    assert await cleo.messages("C0HELP") == []
    assert await cleo.home() is None
    assert made["channel"]["id"] not in [one["id"] for one in (await cleo.state())["channels"]]
    assert (await rig.api("chat.postMessage", channel="C0HELP", text="x", blocks=[CHART]))["ok"]
    assert await control.calls("chat.postEphemeral") == []
    rig.events.clear()
    again = await cleo.post("C0HELP", "again")
    assert float(again) < time.time() + 60
    await until(lambda: rig.heard("message", text="again"), timeout_s=30)


async def test_charts_can_be_missing(rig: Rig) -> None:
    """Where data_visualization is not rolled out, Slack answers invalid_blocks and says where."""
    control = control_of(rig)
    await control.set_features(data_visualization=False)
    answer = await rig.api("chat.postMessage", channel="C0HELP", text="x", blocks=[CHART])
    assert answer["error"] == "invalid_blocks"
    assert answer["errors"] == ["unsupported type: data_visualization [json-pointer:/blocks/0/type]"]
    with pytest.raises(PublicError, match="no feature telepathy"):
        await control.set_features(telepathy=True)


async def test_the_clock_only_goes_forward(rig: Rig) -> None:
    """It says how far it was moved; a step back is refused. Message times follow it."""
    control = control_of(rig)
    before = await rig.api("chat.postMessage", channel="C0HELP", text="now")
    await control.advance(3600)
    after = await rig.api("chat.postMessage", channel="C0HELP", text="in an hour")
    assert float(after["ts"]) - float(before["ts"]) >= 3600
    with pytest.raises(PublicError, match="0 or more"):
        await control.advance(-1)


async def test_a_response_url_ends_after_five_uses_or_half_an_hour(rig: Rig) -> None:
    """used_url and expired_url, by the workspace's clock."""
    urls: list[str] = []

    @rig.app.command("/train")
    async def train(ack: Any, body: Json) -> None:
        urls.append(body["response_url"])
        await ack()

    async def respond(url: str) -> int:
        async with rig.session.post(url, json={"text": "hello"}) as response:
            return response.status

    cleo = rig.person("U0CLEO")
    await cleo.command("C0HELP", "/train")
    await cleo.command("C0HELP", "/train")
    assert [await respond(urls[0]) for _ in range(6)] == [200] * 5 + [404]
    assert await respond(urls[1]) == 200
    await control_of(rig).advance(31 * 60)
    assert await respond(urls[1]) == 404


async def test_the_control_client_finds_calls_and_messages() -> None:
    """wait_for_call and wait_for_message look at what was and at what comes."""
    async with running(listen=False) as rig:
        await _find_calls_and_messages(rig, control_of(rig))


async def _find_calls_and_messages(rig: Rig, control: Workspace) -> None:

    @rig.app.event("app_mention")
    async def answer(event: Json, client: Any) -> None:
        await client.chat_postMessage(channel=event["channel"], thread_ts=event["ts"], text="Here")

    asked = await rig.person("U0CLEO").post("C0HELP", "@apprentice?")
    call = await control.wait_for_call("chat.postMessage", lambda one: one["args"]["thread_ts"] == asked)
    assert call["answer"]["ok"]
    message = await control.wait_for_message("C0HELP", lambda one: one["text"] == "Here", thread_ts=asked)
    assert message["ts"] == call["answer"]["ts"]
    with pytest.raises(TimeoutError, match=r"did not call files\.info"):
        await control.wait_for_call("files.info", timeout_s=0.2)
