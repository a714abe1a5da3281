"""The page's line to the workspace: it breaks and comes back, many tabs have one each, and many messages stay quick."""

import asyncio

from browser import HELP, Desk, chromium_fixture, desk_fixture, on_the_page
from playwright.async_api import expect

from bot.workspace import LocalWorkspace

chromium, desk = chromium_fixture, desk_fixture
pytestmark = on_the_page

TABS = 7
MANY = 320
NO_WEB_SOCKET = """
window.WebSocket = class {
  constructor() { setTimeout(() => this.onclose?.()); }
  close() {}
};
"""


async def test_a_page_that_lost_the_workspace_says_so_and_catches_up(desk: Desk) -> None:
    """The line is tried again until the workspace is back; then everything is read anew."""
    await desk.visit("U0CLEO")
    port = int(desk.workspace.url.rsplit(":", 1)[1])
    await desk.workspace.stop()
    await expect(desk.see("lost")).to_contain_text("Reconnecting")
    again = LocalWorkspace(port=port)
    await again.start()
    try:
        await desk.person("U0DAN").post(HELP, "written meanwhile")
        await expect(desk.see("lost")).to_have_count(0)
        await expect(desk.see("message")).to_contain_text("written meanwhile")
        await desk.person("U0DAN").post(HELP, "written after")
        await expect(desk.see("message").last).to_contain_text("written after")
    finally:
        await again.stop()


async def test_eight_tabs_hear_the_same_message(desk: Desk) -> None:
    """A browser's six connections to one host are not the limit."""
    await desk.visit("U0CLEO")
    tabs = [await desk.page.context.new_page() for _ in range(TABS)]
    await asyncio.gather(*(tab.goto(f"{desk.workspace.url}/#U0BEN/{HELP}") for tab in tabs))
    for tab in tabs:
        await expect(tab.get_by_test_id("channel-help-desk")).to_have_attribute("aria-current", "page")
    await desk.person("U0DAN").post(HELP, "for everybody")
    for tab in (desk.page, *tabs):
        await expect(tab.get_by_test_id("message")).to_contain_text("for everybody")


async def test_without_web_sockets_the_page_follows_the_event_stream(desk: Desk) -> None:
    """Where nothing but plain HTTP comes through, news still arrives."""
    await desk.page.add_init_script(NO_WEB_SOCKET)
    await desk.visit("U0CLEO")
    await expect(desk.see("channel-help-desk")).to_be_visible()
    await desk.person("U0DAN").post(HELP, "over the stream")
    await expect(desk.see("message")).to_contain_text("over the stream")
    await expect(desk.see("lost")).to_have_count(0)


async def test_a_long_channel_shows_its_end_and_more_on_the_way_up(desk: Desk) -> None:
    """Only the newest part is drawn; scrolling up adds to it; a new message redraws no other."""
    dan = desk.person("U0DAN")
    for number in range(MANY):
        await dan.post(HELP, f"message {number}")
    page = await desk.visit("U0CLEO")
    messages = desk.see("message")
    await expect(messages.last).to_contain_text(f"message {MANY - 1}")
    await expect(messages.last).to_be_in_viewport()
    drawn = await messages.count()
    assert drawn < MANY
    await messages.nth(drawn - 2).evaluate("node => { node.kept = true; }")
    await dan.post(HELP, "the newest")
    await expect(messages.last).to_contain_text("the newest")
    assert await page.evaluate("[...document.querySelectorAll('#channel .message')].some(node => node.kept)")
    scroller = page.locator("#channel .scroller")
    while await messages.count() <= MANY:
        before = await messages.count()
        await scroller.evaluate("node => { node.scrollTop = 0; }")
        await expect(messages).not_to_have_count(before)
    await expect(messages.first).to_contain_text("message 0")
    await dan.post(HELP, "one more")
    await desk.see("newer").click()
    await expect(messages.last).to_contain_text("one more")
    await expect(messages.last).to_be_in_viewport()
