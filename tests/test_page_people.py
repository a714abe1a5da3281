"""What people do on the page without a mouse, with files, in the dark, and with links to a message."""

from browser import HELP, Desk, chromium_fixture, desk_fixture, on_the_page, opened
from playwright.async_api import Browser, FilePayload, expect

chromium, desk = chromium_fixture, desk_fixture
pytestmark = on_the_page

GIVE_FILE = """([testid, kind]) => {
  const area = document.querySelector(`[data-testid=${testid}]`);
  const data = new DataTransfer();
  data.items.add(new File(["a,b"], `${kind}.csv`, { type: "text/csv" }));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  area.dispatchEvent(event);
}"""
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63606060f80f0001040100a6d9a4"
    "500000000049454e44ae426082"
)


async def test_control_k_goes_to_a_channel_by_a_few_letters(desk: Desk) -> None:
    """The list narrows, arrows choose, Enter goes there, Esc goes back to where one was."""
    page = await desk.visit("U0CLEO")
    await page.keyboard.press("Control+k")
    await expect(desk.see("switcher-field")).to_be_focused()
    await page.keyboard.type("gen")
    await expect(desk.see("switcher").get_by_role("option")).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(desk.see("channel-general")).to_have_attribute("aria-current", "page")
    await expect(desk.see("composer")).to_be_focused()
    await page.keyboard.press("Control+k")
    await page.keyboard.press("Escape")
    await expect(desk.see("switcher")).to_be_hidden()
    await expect(desk.see("composer")).to_be_focused()


async def test_messages_are_reached_and_changed_with_keys(desk: Desk) -> None:
    """Up in an empty box edits the last own message; arrows walk; e edits, t opens the thread, Esc closes it."""
    await desk.person("U0CLEO").post(HELP, "first of mine")
    await desk.person("U0DAN").post(HELP, "of Dan")
    page = await desk.visit("U0CLEO")
    await expect(desk.see("message")).to_have_count(2)
    await desk.see("composer").focus()
    await page.keyboard.press("ArrowUp")
    await expect(desk.see("edit-box")).to_be_focused()
    await desk.see("edit-box").fill("changed with keys")
    await page.keyboard.press("Enter")
    await expect(desk.see("message").first).to_contain_text("changed with keys (edited)")
    await expect(desk.see("composer")).to_be_focused()
    await page.locator("#channel .scroller").focus()
    await page.keyboard.press("ArrowUp")
    await expect(desk.see("message").last).to_be_focused()
    await page.keyboard.press("ArrowUp")
    await expect(desk.see("message").first).to_be_focused()
    await page.keyboard.press("e")
    await expect(desk.see("edit-box")).to_have_value("changed with keys")
    await expect(desk.see("edit-box")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(desk.see("edit-box")).to_have_count(0)
    await desk.see("message").last.focus()
    await page.keyboard.press("t")
    await expect(desk.see("thread-composer")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(desk.see("thread-pane")).to_be_hidden()


async def test_files_are_chosen_pasted_and_dropped(desk: Desk) -> None:
    """What waits can be taken away again; what is sent is a card, a picture is shown."""
    page = await desk.visit("U0CLEO")
    picture = FilePayload(name="dot.png", mimeType="image/png", buffer=PIXEL)
    await page.locator("#channel").get_by_test_id("file-field").set_input_files([picture])
    await page.evaluate(GIVE_FILE, ["composer", "paste"])
    await page.evaluate(GIVE_FILE, ["composer", "drop"])
    await expect(desk.see("attachment")).to_have_count(3)
    await desk.see("attachment").filter(has_text="paste.csv").get_by_role("button").click()
    await desk.see("composer").fill("two files")
    await desk.see("composer").press("Enter")
    message = desk.see("message")
    await expect(message).to_contain_text("two files")
    await expect(message.get_by_test_id("file")).to_have_count(2)
    await expect(message.get_by_test_id("file").nth(1)).to_contain_text("drop.csv")
    await expect(desk.see("attachment")).to_have_count(0)
    await expect(message.locator("img")).to_have_js_property("naturalWidth", 1)


async def test_a_dismissed_whisper_stays_away(desk: Desk) -> None:
    """Dismiss takes an "only visible to you" message off, after a reload too."""
    await desk.client.chat_postEphemeral(channel=HELP, user="U0CLEO", text="Only for Cleo")
    page = await desk.visit("U0CLEO")
    await expect(desk.see("ephemeral")).to_contain_text("Only for Cleo")
    await desk.see("dismiss").click()
    await expect(desk.see("ephemeral")).to_have_count(0)
    await desk.person("U0DAN").post(HELP, "later")
    await page.reload()
    await expect(desk.see("message")).to_contain_text("later")
    await expect(desk.see("ephemeral")).to_have_count(0)


async def test_a_copied_link_leads_to_its_message(desk: Desk) -> None:
    """The menu's link is chat.getPermalink's; opening it shows the channel and marks the message."""
    await desk.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ts = await desk.person("U0DAN").post(HELP, "the one that is linked")
    page = await desk.visit("U0CLEO")
    await desk.see("message").hover()
    await desk.see("message-menu").click()
    await desk.see("message-link").click()
    told = await desk.client.chat_getPermalink(channel=HELP, message_ts=ts)
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied.endswith(str(told["permalink"]).partition("/archives/")[2])
    await desk.see("channel-general").click()
    await page.goto(copied)
    await expect(page.locator(f'[data-ts="{ts}"].found')).to_be_in_viewport()
    await expect(desk.see("channel-help-desk")).to_have_attribute("aria-current", "page")


async def test_what_is_new_since_the_last_visit_is_marked(desk: Desk) -> None:
    """A line stands before the first unread message, and the sidebar's mark outlives a reload."""
    page = await desk.visit("U0CLEO")
    await desk.person("U0DAN").post(HELP, "seen")
    await expect(desk.see("message")).to_have_count(1)
    await desk.see("channel-general").click()
    await desk.person("U0DAN").post(HELP, "unseen")
    unread = desk.see("channel-help-desk").get_by_label("unread")
    await expect(unread).to_be_visible()
    await page.reload()
    await expect(unread).to_be_visible()
    await desk.see("channel-help-desk").click()
    await expect(desk.see("new-mark")).to_be_visible()
    after = page.locator("[data-testid=new-mark] ~ [data-testid=message]")
    await expect(after).to_have_count(1)
    await expect(after).to_contain_text("unseen")


async def test_colours_follow_the_system_until_one_is_chosen(chromium: Browser) -> None:
    """The button goes from the system's choice to light and dark, and a reload keeps what was chosen."""
    async with opened(chromium, color_scheme="dark") as desk:
        page = await desk.visit("U0CLEO")

        async def is_dark() -> bool:
            colour = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            return sum(int(part) for part in colour[4:-1].split(",")[:3]) < 3 * 128

        assert await is_dark()
        await desk.see("theme").click()
        assert not await is_dark()
        await page.reload()
        await expect(desk.see("composer")).to_be_visible()
        assert not await is_dark()
        await desk.see("theme").click()
        assert await is_dark()


async def test_answers_are_read_aloud_once(desk: Desk) -> None:
    """A screen reader hears the status and, at its end, a streamed answer; not every piece of it."""
    ts = await desk.person("U0CLEO").post(HELP, "a question")
    page = await desk.visit("U0CLEO", f"{HELP}/{ts}")
    await expect(desk.see("thread-composer")).to_be_visible()
    await page.evaluate(
        """() => {
          window.aloud = [];
          const hear = (records) => records.forEach((record) =>
            record.addedNodes.forEach((node) => window.aloud.push(node.textContent)));
          new MutationObserver(hear).observe(document.getElementById("announcer"), { childList: true });
        }"""
    )
    await desk.client.assistant_threads_setStatus(channel_id=HELP, thread_ts=ts, status="is thinking...")
    await expect(page.locator("#thread [aria-live=polite].unseen")).to_contain_text("is thinking")
    stream = await desk.client.chat_startStream(
        channel=HELP, thread_ts=ts, recipient_team_id="T0LOCAL", recipient_user_id="U0CLEO"
    )
    for piece in ("Restart ", "the ", "worker."):
        await desk.client.chat_appendStream(channel=HELP, ts=str(stream["ts"]), markdown_text=piece)
    await desk.client.chat_stopStream(channel=HELP, ts=str(stream["ts"]))
    await page.wait_for_function("() => window.aloud.some((words) => words.includes('Restart the worker.'))")
    heard = [words for words in await page.evaluate("window.aloud") if "Restart" in words]
    assert heard == ["Apprentice: Restart the worker."]
