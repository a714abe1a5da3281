"""The inspector: the app's calls and the frames to and from it, live, to be filtered and looked into."""

import pytest
from browser import HELP, RATING, Desk, chromium_fixture, desk_fixture, on_the_page
from playwright.async_api import expect
from slack_sdk.errors import SlackApiError

chromium, desk = chromium_fixture, desk_fixture
pytestmark = on_the_page


async def test_calls_come_in_live_newest_first_and_failures_stand_out(desk: Desk) -> None:
    """What was called before is there, what is called now comes on top, and a refusal is marked with its code."""
    await desk.client.chat_postMessage(channel=HELP, text="before")
    await desk.visit("U0CLEO")
    await desk.see("open-inspector").click()
    rows = desk.see("call-row")
    await expect(rows.filter(has_text="chat.postMessage")).to_have_count(1)
    with pytest.raises(SlackApiError):
        await desk.client.chat_postMessage(channel="C0NOWHERE", text="lost")
    failed = rows.filter(has_text="channel_not_found")
    await expect(failed).to_have_attribute("data-failed", "")
    await expect(rows.filter(has_text="chat.postMessage").first).to_contain_text("channel_not_found")
    await failed.locator("summary").first.click()
    await expect(failed).to_contain_text("C0NOWHERE")
    await desk.see("inspector-filter").fill("auth.test")
    await expect(rows.filter(visible=True).first).to_contain_text("auth.test")
    await expect(rows.filter(visible=True, has_text="postMessage")).to_have_count(0)
    await desk.page.keyboard.press("Escape")
    await expect(desk.see("inspector")).to_be_hidden()
    await expect(desk.see("open-inspector")).to_be_focused()


async def test_a_press_of_a_button_is_seen_as_frames(desk: Desk) -> None:
    """Out goes the interaction, in comes its acknowledgement; a frame unfolds to its JSON."""
    await desk.client.chat_postMessage(channel=HELP, text="An answer", blocks=[RATING])
    await desk.visit("U0CLEO")
    await desk.see("open-inspector").click()
    await desk.see("inspector-frames").click()
    await expect(desk.see("inspector-frames")).to_have_attribute("aria-selected", "true")
    await desk.see("feedback-positive").click()
    press = desk.see("frame-row").filter(has_text="block_actions · rate")
    await expect(press).to_have_count(1)
    await expect(desk.see("frame-row").first).to_contain_text("ack")
    await press.locator("summary").first.click()
    await expect(press).to_contain_text("envelope_id")
    await desk.see("inspector-clear").click()
    await expect(desk.see("frame-row")).to_have_count(0)
