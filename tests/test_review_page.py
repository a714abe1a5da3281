"""Review on the page, with the keyboard alone: what somebody sees who goes through candidates quickly."""

from pathlib import Path

import pytest
from bot_process import bot_in_here
from browser import BROWSER_ARGS, CHROMIUM, HELP, PATIENCE_MS, needs_chromium
from playwright.async_api import async_playwright, expect
from review_rig import agreed, rated

pytestmark = [pytest.mark.browser, needs_chromium]


async def test_candidates_are_gone_through_with_the_keyboard_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question has the keyboard at once, Enter approves, the next one stands there with the keyboard in it again."""
    monkeypatch.setattr("bot.app.has_local_model", lambda _settings: False)
    expect.set_options(timeout=PATIENCE_MS)
    async with bot_in_here(tmp_path / "data") as (bot, _team), async_playwright() as playwright:
        store, team = bot.workshop.store, bot.workshop.team
        await agreed(store, team)
        for question in ("Where are the drills?", "Where are the saws?", "Where are the ladders?"):
            await rated(store, team, question, "In the shed.")
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_ARGS)
        try:
            page = await browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(PATIENCE_MS)
            see = page.get_by_test_id
            await page.goto(f"{bot.url}/#U0ANN/{HELP}")
            await see("composer").fill("/apprentice review")
            await page.keyboard.press("Escape")
            await page.keyboard.press("Enter")
            await expect(see("input-question")).to_be_focused()
            await expect(see("input-question")).to_have_value("Where are the ladders?")
            await page.keyboard.press("Enter")
            await expect(see("modal")).to_contain_text("2 of 3")
            await expect(see("input-question")).to_be_focused()
            await expect(see("input-question")).to_have_value("Where are the saws?")
            await page.keyboard.press("Tab")
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await expect(see("modal")).to_contain_text("3 of 3")
            await page.keyboard.press("Tab")
            await page.keyboard.press("Control+a")
            await page.keyboard.type("In the blue shed.")
            await page.keyboard.press("Control+Enter")
            await expect(see("modal")).to_contain_text("nothing left to review")
            await page.keyboard.press("Escape")
            await expect(see("modal")).to_be_hidden()
        finally:
            await browser.close()
        decided = [(row.state, row.answer) async for rows in store.reviews(team) for row in rows]
        assert sorted(decided) == [("approved", ""), ("edited", "In the blue shed."), ("rejected", "")]
