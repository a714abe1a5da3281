"""What people do with the app comes to a real slack_bolt app as in Slack: commands, buttons, modals, streams, files."""

from typing import Any

import pytest
from slack_sdk.errors import SlackApiError
from workspace_rig import FEEDBACK, Json, button_row, corrections_modal, finished, option, running, until

from bot.workspace.seed import BOT_USER


async def test_a_command_is_acknowledged_to_the_person_alone() -> None:
    """The acknowledgement's text is an ephemeral of the person who typed it; a later respond() reaches them too."""
    async with running() as rig:

        @rig.app.command("/train")
        async def train(ack: Any, command: Json, respond: Any) -> None:
            await ack(f"Training {command['text']} for {command['user_name']} in {command['channel_name']}")
            await respond("Started.")
            await respond("For all.", response_type="in_channel")

        ann = rig.person("U0ANN")
        shown = await ann.command("C0HELP", "/train", "now & then")
        assert shown["text"] == "Training now & then for ann in help-desk"
        started = await ann.wait_for_ephemeral("C0HELP", lambda one: one["text"] == "Started.")
        assert started["ephemeral"] is True
        await rig.person("U0CLEO").wait_for_message("C0HELP", lambda one: one["text"] == "For all.")
        assert len(await rig.person("U0CLEO").messages("C0HELP")) == 1


async def test_a_command_that_nobody_acknowledges_fails_as_in_slack() -> None:
    """dispatch_failed without a connection, operation_timeout without an answer, and a notice to the person."""
    async with running(connect=False, listen=False, ack_timeout_s=0.1) as rig:
        ann = rig.person("U0ANN")
        answer = await rig.control("command", user="U0ANN", channel="C0HELP", command="/train", text="")
        assert answer == {"ok": False, "error": "dispatch_failed"}

        @rig.app.command("/train")
        async def slow(ack: Any) -> None: ...

        await rig.connect()
        answer = await rig.control("command", user="U0ANN", channel="C0HELP", command="/train", text="")
        assert answer["error"] == "operation_timeout"
        answer = await rig.control("command", user="U0ANN", channel="C0HELP", command="/nope", text="")
        assert answer["error"] == "unknown_command"
        assert await ann.messages("C0HELP") == []


async def test_a_rating_opens_a_modal_and_comes_back_filled_in() -> None:
    """Feedback buttons, the modal's required inputs, the app's own complaint, and the submitted values."""
    async with running() as rig:
        submitted: list[Json] = []
        clicked: list[Json] = []

        @rig.app.action("rate")
        async def rate(ack: Any, body: Json, client: Any) -> None:
            await ack()
            clicked.append(body)
            await client.views_open(trigger_id=body["trigger_id"], view=corrections_modal())

        @rig.app.view("correct")
        async def correct(ack: Any, view: Json, body: Json) -> None:
            if not submitted:
                submitted.append(view)
                await ack(response_action="errors", errors={"better-block": "Say it differently."})
                return
            submitted.append(view)
            await ack()

        posted = await rig.client.chat_postMessage(channel="C0HELP", text="An answer", blocks=FEEDBACK)
        ben = rig.person("U0BEN")
        await ben.click("C0HELP", posted["ts"], "rate", "down-1")
        view = await ben.wait_for_view()
        assert clicked[0]["actions"][0]["type"] == "feedback_buttons"
        assert clicked[0]["actions"][0]["value"] == "down-1"
        assert clicked[0]["message"]["ts"] == posted["ts"]
        refused = await ben.submit(view["id"], {"better": "abc"})
        assert set(refused["errors"]) == {"why-block", "better-block"}
        assert not submitted, "the client does not send what is incomplete"
        filled = {"why": "outdated", "better": "Ask at the desk.", "topic": "it", "consent": ["train"]}
        assert await ben.submit(view["id"], filled) == {"errors": {"better-block": "Say it differently."}}
        assert await ben.submit(view["id"], filled) == {"ok": True}
        values = submitted[1]["state"]["values"]
        assert values["why-block"]["why"]["selected_option"]["value"] == "outdated"
        assert values["better-block"]["better"] == {"type": "plain_text_input", "value": "Ask at the desk."}
        assert [one["value"] for one in values["consent-block"]["consent"]["selected_options"]] == ["train"]
        assert submitted[1]["private_metadata"] == "answer-1"
        assert await ben.views() == []


async def test_a_feedback_button_that_is_not_there_is_refused() -> None:
    """Only what the message offers can be clicked."""
    async with running() as rig:
        posted = await rig.client.chat_postMessage(channel="C0HELP", text="An answer", blocks=FEEDBACK)
        container = {"type": "message", "channel": "C0HELP", "ts": posted["ts"]}
        for action_id, value, error in (
            ("rate", "forged", "invalid_value"),
            ("other", None, "action_not_found"),
        ):
            answer = await rig.control(
                "action", user="U0BEN", container=container, action_id=action_id, value=value
            )
            assert answer["error"] == error


async def test_views_are_pushed_updated_and_closed_as_in_slack() -> None:
    """Three on the stack at most, an outdated hash conflicts, view_closed only where it was asked for."""
    async with running() as rig:
        bodies: list[Json] = []
        closed: list[Json] = []

        @rig.app.action("open")
        async def open_(ack: Any, body: Json) -> None:
            await ack()
            bodies.append(body)

        @rig.app.view_closed("correct")
        async def gone(ack: Any, body: Json) -> None:
            await ack()
            closed.append(body)

        button = {"type": "button", "action_id": "open", "text": {"type": "plain_text", "text": "Open"}}
        posted = await rig.client.chat_postMessage(
            channel="C0HELP", text="x", blocks=[{"type": "actions", "elements": [button]}]
        )
        cleo = rig.person("U0CLEO")

        async def trigger() -> str:
            await cleo.click("C0HELP", posted["ts"], "open")
            trigger_id: str = (await until(lambda: bodies)).pop()["trigger_id"]
            return trigger_id

        first = (await rig.client.views_open(trigger_id=await trigger(), view=corrections_modal()))["view"]
        pushed = [
            (
                await rig.client.views_push(
                    trigger_id=await trigger(), view=corrections_modal(notify_on_close=True)
                )
            )["view"]
            for _ in range(2)
        ]
        assert [pushed[1]["previous_view_id"], pushed[1]["root_view_id"]] == [pushed[0]["id"], first["id"]]
        assert (await rig.api("views.push", trigger_id=await trigger(), view=corrections_modal()))[
            "error"
        ] == "push_limit_reached"
        updated = (
            await rig.client.views_update(view_id=first["id"], hash=first["hash"], view=corrections_modal())
        )["view"]
        assert updated["id"] == first["id"]
        stale = await rig.api(
            "views.update", view_id=first["id"], hash=first["hash"], view=corrections_modal()
        )
        assert stale["error"] == "hash_conflict"
        await cleo.close_view(pushed[1]["id"])
        assert (await until(lambda: closed))[0]["view"]["id"] == pushed[1]["id"]
        assert [view["id"] for view in await cleo.views()] == [first["id"], pushed[0]["id"]]


@pytest.mark.parametrize(
    ("life_s", "errors"),
    [(3.0, [None, "exchanged_trigger_id"]), (0.0, ["expired_trigger_id", "expired_trigger_id"])],
)
async def test_a_trigger_works_once_and_not_for_long(life_s: float, errors: list[str | None]) -> None:
    """exchanged_trigger_id the second time, expired_trigger_id after its time."""
    async with running(trigger_ttl_s=life_s) as rig:
        triggers: list[str] = []

        @rig.app.command("/train")
        async def train(ack: Any, body: Json) -> None:
            await ack()
            triggers.append(body["trigger_id"])

        await rig.person("U0ANN").command("C0HELP", "/train")
        answers = [
            await rig.api("views.open", trigger_id=triggers[0], view=corrections_modal()) for _ in range(2)
        ]
        assert [answer.get("error") for answer in answers] == errors


async def test_the_home_tab_is_published_and_used() -> None:
    """app_home_opened with the tab, views.publish, a click on the Home tab."""
    async with running() as rig:
        clicked: list[Json] = []

        @rig.app.action("consent")
        async def consent(ack: Any, body: Json) -> None:
            await ack()
            clicked.append(body)

        cleo = rig.person("U0CLEO")
        await cleo.open_home()
        await until(lambda: rig.heard("app_home_opened", tab="home", user="U0CLEO", channel="D0CLEO"))
        boxes = {"type": "checkboxes", "action_id": "consent", "options": [option("train")]}
        blocks = [{"type": "actions", "block_id": "privacy", "elements": [boxes]}]
        await rig.client.views_publish(user_id="U0CLEO", view={"type": "home", "blocks": blocks})
        home = await cleo.wait_for_home()
        await cleo.click_view(home["id"], "consent", ["train"])
        body = (await until(lambda: clicked))[0]
        assert body["view"]["state"]["values"]["privacy"]["consent"]["selected_options"] == [option("train")]
        assert body["container"] == {"type": "view", "view_id": home["id"]}
        await cleo.open_home()
        await until(lambda: len(rig.heard("app_home_opened")) == 2)
        assert rig.heard("app_home_opened")[1]["view"]["id"] == home["id"]


async def test_a_message_shortcut_carries_the_message() -> None:
    """message_action has the message, the channel and a trigger that opens a modal."""
    async with running() as rig:

        @rig.app.shortcut("train_add")
        async def add(ack: Any, body: Json, client: Any) -> None:
            await ack()
            note = body["message"]["text"]
            await client.views_open(
                trigger_id=body["trigger_id"], view=corrections_modal(private_metadata=note)
            )

        dan = rig.person("U0DAN")
        ts = await dan.post("C0HELP", "The door code is 1234")
        await dan.shortcut("C0HELP", ts, "train_add")
        assert (await dan.wait_for_view())["private_metadata"] == "The door code is 1234"


async def test_a_stream_grows_ends_and_dies_of_age() -> None:
    """Appends show at once, stop finishes, and after its time a stream is over while chat.update still works."""
    async with running(stream_ttl_s=0.3) as rig:
        cleo = rig.person("U0CLEO")
        ts = await cleo.post("D0CLEO", "a question")
        stream = await rig.client.chat_startStream(channel="D0CLEO", thread_ts=ts)
        await rig.client.chat_appendStream(channel="D0CLEO", ts=stream["ts"], markdown_text="**Hello")
        growing = await cleo.wait_for_message("D0CLEO", lambda one: one["text"] == "**Hello", thread_ts=ts)
        assert growing["streaming"] is True
        with pytest.raises(SlackApiError, match="streaming_state_conflict"):
            await rig.client.chat_update(channel="D0CLEO", ts=stream["ts"], text="too early")
        await rig.client.chat_stopStream(
            channel="D0CLEO", ts=stream["ts"], markdown_text=" there**", blocks=FEEDBACK
        )
        done = await cleo.wait_for_message(
            "D0CLEO", lambda one: "streaming" not in one and one["user"] == BOT_USER, thread_ts=ts
        )
        assert (done["text"], [block["type"] for block in done["blocks"]]) == (
            "**Hello there**",
            ["markdown", "context_actions"],
        )
        late = (await rig.client.chat_startStream(channel="D0CLEO", thread_ts=ts, markdown_text="slow"))["ts"]
        await cleo.wait_for_message(
            "D0CLEO", lambda one: one["ts"] == late and "streaming" not in one, thread_ts=ts
        )
        for method in ("chat.appendStream", "chat.stopStream"):
            answer = await rig.api(method, channel="D0CLEO", ts=late, markdown_text=" model")
            assert answer["error"] == "message_not_in_streaming_state"
        await rig.client.chat_update(channel="D0CLEO", ts=late, text="slow model")
        assert (await cleo.messages("D0CLEO", ts))[-1]["text"] == "slow model"


async def test_the_sdk_streams_an_answer_to_a_mention() -> None:
    """bolt's say_stream finds thread and recipient by itself; in a channel the recipient is demanded."""
    async with running(listen=False) as rig:

        @rig.app.event("app_mention")
        async def answer(say_stream: Any, set_status: Any) -> None:
            await set_status("is thinking", loading_messages=["Reading", "Writing"])
            stream = await say_stream(buffer_size=4)
            for word in ("one ", "two ", "three"):
                await stream.append(markdown_text=word)
            await stream.stop(blocks=FEEDBACK)

        @rig.app.event("message")
        async def ignore() -> None: ...

        cleo = rig.person("U0CLEO")
        ts = await cleo.post("C0HELP", "@apprentice count")
        done = await cleo.wait_for_message("C0HELP", finished("one two three"), thread_ts=ts)
        assert done["user"] == BOT_USER
        missing = await rig.api("chat.startStream", channel="C0HELP", thread_ts=ts)
        assert missing["error"] == "missing_recipient_team_id"
        assert (await cleo.state())["statuses"] == []


async def test_ephemerals_are_replaced_and_deleted_by_response_url() -> None:
    """A click on an ephemeral can replace or delete it; the sixth answer and a late one are refused."""
    async with running() as rig:
        urls: list[str] = []

        @rig.app.action("go")
        async def go(ack: Any, body: Json, respond: Any) -> None:
            await ack()
            assert "message" not in body
            assert body["container"]["is_ephemeral"] is True
            urls.append(body["response_url"])
            await respond(text="Changed", replace_original=True)

        blocks = button_row("go")
        ephemeral = await rig.client.chat_postEphemeral(
            channel="C0HELP", user="U0DAN", text="Only you", blocks=blocks
        )
        dan = rig.person("U0DAN")
        assert await rig.person("U0CLEO").messages("C0HELP") == []
        await dan.click("C0HELP", ephemeral["message_ts"], "go")
        changed = await dan.wait_for_ephemeral("C0HELP", lambda one: one["text"] == "Changed")
        assert changed["ts"] == ephemeral["message_ts"]
        for _ in range(3):
            async with rig.session.post(urls[0], json={"text": "more"}) as response:
                assert response.status == 200
        async with rig.session.post(urls[0], json={"delete_original": True}) as response:
            assert response.status == 200
        async with rig.session.post(urls[0], json={"text": "one too many"}) as response:
            assert (response.status, (await response.json())["error"]) == (404, "used_url")
        assert [message["text"] for message in await dan.messages("C0HELP")] == ["more"] * 3


async def test_a_file_is_uploaded_shared_and_downloaded() -> None:
    """The v2 upload works with the SDK; the bytes come back, only with the token, and files.info names the share."""
    async with running() as rig:
        ts = await rig.person("U0ANN").post("C0ADMIN", "report, please")
        await rig.client.files_upload_v2(
            channel="C0ADMIN", thread_ts=ts, filename="r.csv", content="a,b\n1,2\n", title="Report"
        )
        message = await rig.person("U0ANN").wait_for_message(
            "C0ADMIN", lambda one: bool(one.get("files")), thread_ts=ts
        )
        file = message["files"][0]
        assert (file["title"], file["size"], file["mimetype"]) == ("Report", 8, "text/csv")
        info = (await rig.client.files_info(file=file["id"]))["file"]
        assert info["shares"]["private"]["C0ADMIN"][0]["ts"] == message["ts"]
        async with rig.session.get(file["url_private"]) as response:
            assert response.status == 403
        async with rig.session.get(
            file["url_private"], headers={"Authorization": f"Bearer {rig.client.token}"}
        ) as response:
            assert await response.text() == "a,b\n1,2\n"
