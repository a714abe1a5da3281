"""The story of README's first page, in a real browser: what a new user sees and presses, from question to better answer."""

import re
from pathlib import Path

import pytest
from bot_process import ADMIN_CHANNEL, HELP, bot_in_here, write_faq
from browser import BROWSER_ARGS, CHROMIUM, needs_chromium
from playwright.async_api import Page, async_playwright, expect

from bot.app import Bot
from training.formats.reading import read_faq

pytestmark = [pytest.mark.browser, pytest.mark.training, needs_chromium]

PATIENCE_MS = 30_000
RUN_MS = 150_000
QUESTION = "@apprentice Do you sell nails?"
CHANNELS = {"help-desk": HELP, "apprentice-admin": ADMIN_CHANNEL}
BETTER = "No, we only lend tools."


async def test_a_new_user_walks_the_loop_in_the_browser(tmp_path: Path) -> None:
    """Ask, rate, correct, /train, watch the report, Promote, ask again: all of it on the page."""
    async with bot_in_here(tmp_path / "data") as (bot, _team), async_playwright() as playwright:
        faq = read_faq(write_faq(tmp_path / "tools.jsonl"))
        await bot.workshop.store.add_entries(bot.workshop.team, faq.entries)
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGS)
        try:
            page = await browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(PATIENCE_MS)
            expect.set_options(timeout=PATIENCE_MS)
            await page.goto(bot.url)
            await expect(page.get_by_test_id("banner")).to_contain_text("not Slack")
            await cleo_asks_and_agrees(page)
            await cleo_corrects(page)
            await ann_trains(page)
            await ann_promotes(page, bot)
            await cleo_asks_again(page)
        finally:
            await browser.close()


async def act_as(page: Page, person: str, channel: str) -> None:
    """Become somebody else and open a channel; what is typed before it is open would be for the one before."""
    shown = page.locator("body")
    await page.get_by_test_id("person-switch").select_option(person)
    await expect(shown).to_have_attribute("data-shown", re.compile(f"^#{person}/"))
    await page.get_by_test_id(f"channel-{channel}").click()
    await expect(shown).to_have_attribute("data-shown", f"#{person}/{CHANNELS[channel]}")


async def say(page: Page, words: str) -> None:
    """Type into the channel's composer and send."""
    await page.get_by_test_id("composer").fill(words)
    await page.keyboard.press("Escape")
    await page.get_by_test_id("composer-send").click()


async def open_newest_thread(page: Page, *, of: int) -> None:
    """Open the thread of the newest question once each of the `of` questions has its answer."""
    links = page.get_by_test_id("thread-link")
    await expect(links).to_have_count(of)
    await links.last.click()


async def cleo_asks_and_agrees(page: Page) -> None:
    """The answer comes in a thread, says who gave it, and training is asked about once."""
    await act_as(page, "U0CLEO", "help-desk")
    await say(page, QUESTION)
    await open_newest_thread(page, of=1)
    pane = page.get_by_test_id("thread-pane")
    await expect(pane).to_contain_text("starter (demo model)")
    agree = page.get_by_test_id("button-consent_yes")
    await agree.last.click()
    await expect(page.get_by_text("may be used for training from now on").last).to_be_visible()


async def cleo_corrects(page: Page) -> None:
    """Thumbs-down opens the window; the better answer is what the next asker gets."""
    await page.get_by_test_id("thread-pane").get_by_test_id("feedback-negative").last.click()
    window = page.get_by_test_id("modal")
    await expect(window).to_contain_text("Do you sell nails?")
    await window.get_by_test_id("input-better").fill(BETTER)
    box = window.get_by_role("checkbox")
    await expect(box).to_be_checked()  # she agreed a moment ago
    await window.get_by_test_id("modal-submit").click()
    await expect(window).to_be_hidden()
    await act_as(page, "U0DAN", "help-desk")
    await say(page, QUESTION)
    await open_newest_thread(page, of=2)
    await expect(page.get_by_test_id("thread-pane")).to_contain_text("verified answer")


async def ann_trains(page: Page) -> None:
    """/train starts a run whose one report grows in the admin channel until it has a verdict and buttons."""
    await act_as(page, "U0ANN", "apprentice-admin")
    await say(page, "/train quantization=none epochs=4")
    report = page.get_by_test_id("message").filter(has_text="Training run #1")
    await expect(report).to_have_count(1)
    await expect(page.get_by_test_id("button-promote")).to_be_visible(timeout=RUN_MS)
    for seen in ("Verdict", "Token F1", "Base", "Challenger", "Memory", "interval", "held out"):
        await expect(report).to_contain_text(seen)
    await expect(report).to_have_count(1)


async def ann_promotes(page: Page, bot: Bot) -> None:
    """Promote asks back, then says who pressed; the buttons are gone and the new model serves."""
    await page.get_by_test_id("button-promote").click()
    await page.get_by_test_id("confirm-ok").click()
    report = page.get_by_test_id("message").filter(has_text="Training run #1")
    await expect(report).to_contain_text("Promoted by")
    await expect(page.get_by_test_id("button-promote")).to_have_count(0)
    current = await bot.workshop.store.current(bot.workshop.team)
    assert current is not None
    assert current.name == "local-1"


async def cleo_asks_again(page: Page) -> None:
    """Something that memory does not know is now answered by what was learned, and the answer says so."""
    await act_as(page, "U0CLEO", "help-desk")
    await say(page, "@apprentice Tell me about the colour of your favourite umbrella")
    await open_newest_thread(page, of=3)
    await expect(page.get_by_test_id("thread-pane")).to_contain_text("local-1")
