"""Modals on the page: every input, options from the app, files, errors in their place, and views upon views."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from browser import HELP, Desk, Json, chromium_fixture, mrkdwn, on_the_page, opened, plain
from playwright.async_api import Browser, expect
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

chromium = chromium_fixture
pytestmark = on_the_page


def option(value: str) -> Json:
    return {"text": plain(value.title()), "value": value}


def asked(kind: str, *, optional: bool = True, **more: Any) -> Json:
    """An input block of one element, named after its type."""
    element = {"type": kind, "action_id": kind, **more}
    label = plain(kind.replace("_", " "))
    return {"type": "input", "block_id": kind, "label": label, "element": element, "optional": optional}


def offered(*values: str) -> list[Json]:
    return [option(value) for value in values]


FORM: Json = {
    "type": "modal",
    "callback_id": "form",
    "title": plain("Every input"),
    "submit": plain("Send"),
    "blocks": [
        {
            "type": "actions",
            "elements": [{"type": "button", "action_id": "deeper", "text": plain("Deeper")}],
        },
        asked("plain_text_input", optional=False),
        asked("number_input", is_decimal_allowed=False, max_value="9"),
        asked("email_text_input"),
        asked("url_text_input"),
        asked("checkboxes", options=offered("one", "two")),
        asked("radio_buttons", options=offered("left", "right")),
        asked("static_select", options=offered("red", "blue")),
        asked("multi_static_select", options=offered("sweet", "sour"), max_selected_items=1),
        asked("users_select"),
        asked("multi_conversations_select"),
        asked("channels_select"),
        asked("external_select", min_query_length=2),
        asked("datepicker"),
        asked("timepicker"),
        asked("datetimepicker"),
        asked("file_input"),
        asked("rich_text_input"),
    ],
}
DEEPER: Json = {
    "type": "modal",
    "callback_id": "deeper",
    "title": plain("Deeper"),
    "blocks": [{"type": "section", "text": mrkdwn("The second view")}],
}
OPEN: list[Json] = [
    {"type": "actions", "elements": [{"type": "button", "action_id": "open", "text": plain("Open")}]}
]


def form_app(client: AsyncWebClient, told: list[Json]) -> AsyncApp:
    """Opens the form, offers options, refuses "no", takes the rest."""
    app = AsyncApp(client=client)

    @app.action("open")
    async def opens(ack: Any, body: Json, client: AsyncWebClient) -> None:
        await ack()
        await client.views_open(trigger_id=body["trigger_id"], view=FORM)

    @app.action("deeper")
    async def pushes(ack: Any, body: Json, client: AsyncWebClient) -> None:
        await ack()
        await client.views_push(trigger_id=body["trigger_id"], view=DEEPER)

    @app.options("external_select")
    async def offers(ack: Any, payload: Json) -> None:
        await ack(options=offered(*(f"{payload['value']}-{number}" for number in range(3))))

    @app.view("form")
    async def taken(ack: Any, view: Json) -> None:
        values = {name: held[name] for name, held in view["state"]["values"].items()}
        if values["plain_text_input"]["value"] == "no":
            await ack(response_action="errors", errors={"plain_text_input": "No is not an answer."})
            return
        await ack()
        told.append(values)

    @app.action(re.compile(".*"))
    @app.event("message")
    async def heard(ack: Any) -> None:
        await ack()

    return app


@pytest_asyncio.fixture(loop_scope="module")
async def desk(chromium: Browser) -> AsyncIterator[Desk]:
    async with opened(chromium, app=form_app, timezone_id="UTC") as ready:
        await ready.client.chat_postMessage(channel=HELP, text="A form", blocks=OPEN)
        await ready.visit("U0CLEO")
        await ready.see("button-open").click()
        await expect(ready.see("modal")).to_be_visible()
        yield ready


async def test_every_input_reaches_the_app_as_slack_sends_it(desk: Desk) -> None:
    """What is typed, ticked, picked, searched and attached arrives with the keys that Slack gives it."""
    see = desk.see
    await see("input-plain_text_input").fill("words")
    await see("input-number_input").fill("7")
    await see("input-email_text_input").fill("cleo@example.org")
    await see("input-url_text_input").fill("https://example.org")
    await see("option-two").check()
    await see("option-left").check()
    await see("input-static_select").select_option("blue")
    await see("input-multi_static_select").locator("summary").click()
    await see("option-sour").check()
    await expect(see("option-sweet")).to_be_disabled()
    await see("input-users_select").select_option("U0BEN")
    await see("input-multi_conversations_select").locator("summary").click()
    await see(f"option-{HELP}").check()
    await see("input-channels_select").select_option(HELP)
    await see("input-datepicker").fill("2026-02-03")
    await see("input-timepicker").fill("14:30")
    await see("input-datetimepicker").fill("2026-02-03T14:30")
    await see("input-file_input").set_input_files(
        [{"name": "notes.txt", "mimeType": "text/plain", "buffer": b"abc"}]
    )
    await expect(see("chosen-file")).to_contain_text("notes.txt")
    await see("input-rich_text_input").fill("a line")
    await see("input-external_select").fill("ab")
    await expect(see("option-ab-1")).to_be_visible()
    await desk.page.keyboard.press("ArrowDown")
    await desk.page.keyboard.press("Enter")
    await expect(see("chosen-ab-1")).to_be_visible()
    await see("modal-submit").click()
    await expect(see("modal")).to_be_hidden()
    [values] = desk.told
    assert values["plain_text_input"]["value"] == "words"
    assert values["number_input"]["value"] == "7"
    assert values["email_text_input"]["value"] == "cleo@example.org"
    assert values["url_text_input"]["value"] == "https://example.org"
    assert [one["value"] for one in values["checkboxes"]["selected_options"]] == ["two"]
    assert values["radio_buttons"]["selected_option"]["value"] == "left"
    assert values["static_select"]["selected_option"]["value"] == "blue"
    assert [one["value"] for one in values["multi_static_select"]["selected_options"]] == ["sour"]
    assert values["users_select"]["selected_user"] == "U0BEN"
    assert values["multi_conversations_select"]["selected_conversations"] == [HELP]
    assert values["channels_select"]["selected_channel"] == HELP
    assert values["external_select"]["selected_option"]["value"] == "ab-1"
    assert values["datepicker"]["selected_date"] == "2026-02-03"
    assert values["timepicker"]["selected_time"] == "14:30"
    assert values["datetimepicker"]["selected_date_time"] == 1770129000
    assert values["file_input"]["files"][0]["name"] == "notes.txt"
    [section] = values["rich_text_input"]["rich_text_value"]["elements"]
    assert section["elements"][0]["text"] == "a line"


async def test_what_the_app_refuses_stands_at_its_block(desk: Desk) -> None:
    """The page checks what Slack's client checks; the app's own words stand under their input, which has the keyboard."""
    await desk.see("input-number_input").fill("12")
    await desk.see("modal-submit").click()
    await expect(desk.see("error-number_input")).to_contain_text("9 or less")
    await expect(desk.see("error-plain_text_input")).to_contain_text("required")
    await desk.see("input-number_input").fill("")
    await desk.see("input-plain_text_input").fill("no")
    await desk.see("modal-submit").click()
    await expect(desk.see("error-plain_text_input")).to_have_text("No is not an answer.")
    await expect(desk.see("input-plain_text_input")).to_be_focused()
    await expect(desk.see("error-number_input")).to_have_count(0)
    assert desk.told == []


async def test_views_stand_upon_views(desk: Desk) -> None:
    """A pushed view covers the first, Back uncovers it with what was typed, and Tab never leaves the window."""
    await desk.see("input-plain_text_input").fill("kept")
    await desk.see("button-deeper").click()
    await expect(desk.see("modal")).to_contain_text("The second view")
    await desk.see("modal-back").click()
    await expect(desk.see("input-plain_text_input")).to_have_value("kept")
    for _ in range(40):
        await desk.page.keyboard.press("Tab")
        assert await desk.page.evaluate(
            "document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))"
        )
    await desk.see("modal-dismiss").click()
    await expect(desk.see("modal")).to_be_hidden()
    await expect(desk.see("button-open")).to_be_focused()
