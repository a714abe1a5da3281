"""The page of the local workspace in a real browser, against the real workspace and a real, tiny Bolt app."""

from pathlib import Path

from browser import (
    ADMIN,
    HELP,
    PROMOTE,
    RATING,
    Desk,
    Json,
    chromium_fixture,
    desk_fixture,
    mrkdwn,
    on_the_page,
    opened,
    plain,
)
from playwright.async_api import Browser, Request, expect

chromium, desk = chromium_fixture, desk_fixture
pytestmark = on_the_page


async def test_the_page_says_that_it_is_not_slack_and_when_nobody_answers(desk: Desk) -> None:
    """The banner is there in every place, and an app without a socket is called offline."""
    await desk.visit("U0CLEO")
    await expect(desk.see("banner")).to_contain_text("Local workspace, not Slack")
    await expect(desk.see("open-sidebar")).to_be_hidden()
    await expect(desk.see("offline")).to_have_count(0)
    await desk.socket.close_async()
    await expect(desk.see("offline")).to_contain_text("apprentice is offline")
    await desk.see("channel-apprentice").click()
    await expect(desk.see("banner")).to_be_visible()


ATTACK = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
HOSTILE: list[Json] = [
    {
        "type": "markdown",
        "text": f"{ATTACK} **{ATTACK}** `{ATTACK}` [here](javascript:window.hacked=1) "
        f"![look](https://evil.invalid/x.png?secret) <a href='javascript:1'>x</a>\n\n| {ATTACK} | b |\n|--|--|\n| 1 | 2 |",
    },
    {
        "type": "section",
        "text": mrkdwn(f"{ATTACK} *{ATTACK}* <javascript:window.hacked=1|click> <data:text/html,x|y>"),
    },
    {"type": "header", "text": plain(ATTACK)},
    {"type": "context", "elements": [mrkdwn(ATTACK), plain(ATTACK)]},
    {
        "type": "rich_text",
        "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": ATTACK}]}],
    },
    {"type": "image", "image_url": "https://evil.invalid/y.png", "alt_text": ATTACK},
    {
        "type": "actions",
        "elements": [{"type": "button", "action_id": "a", "text": plain(ATTACK), "value": "1"}],
    },
    {
        "type": "table",
        "rows": [[{"type": "raw_text", "text": ATTACK}], [{"type": "raw_text", "text": ATTACK}]],
    },
]


async def test_what_people_and_models_write_never_becomes_markup_or_a_request(desk: Desk) -> None:
    """HTML is shown as text, a javascript link is words, and a picture elsewhere is not fetched."""
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    desk.page.on("request", note)
    await desk.person("U0DAN").post(HELP, ATTACK)
    await desk.client.chat_postMessage(channel=HELP, text=ATTACK, blocks=HOSTILE)
    page = await desk.visit("U0CLEO")
    await expect(desk.see("message")).to_have_count(2)
    await expect(desk.see("message").first).to_contain_text(ATTACK)
    for kind in ("markdown", "section", "header", "context", "rich_text", "actions", "table"):
        await expect(page.locator(f".block-{kind}").first).to_contain_text(ATTACK)
    assert await page.evaluate("window.hacked") is None
    assert await page.locator("#channel :is(img, script, iframe)").count() == 0
    schemes = await page.eval_on_selector_all("#channel a", "links => links.map(a => a.protocol)")
    assert set(schemes) <= {"http:", "https:", "mailto:"}
    assert [url for url in asked if not url.startswith(desk.workspace.url)] == []


async def test_a_correction_is_refused_corrected_and_taken(desk: Desk) -> None:
    """The modal keeps what was written, says what is wrong under the input, and gives the keyboard back."""
    await desk.client.chat_postMessage(channel=HELP, text="An answer", blocks=[RATING])
    page = await desk.visit("U0CLEO")
    await desk.see("feedback-negative").click()
    await expect(desk.see("modal")).to_be_visible()
    await desk.see("modal-submit").click()
    await expect(desk.see("error-why")).to_contain_text("required")
    await desk.see("option-old").check()
    await desk.see("input-better").fill("something worse")
    await desk.see("modal-submit").click()
    await expect(desk.see("error-fix")).to_contain_text("not better")
    await expect(desk.see("error-why")).to_have_count(0)
    await expect(desk.see("input-better")).to_have_value("something worse")
    await desk.see("input-better").fill("Restart the <worker>, twice.")
    await desk.see("modal-submit").click()
    await expect(desk.see("modal")).to_be_hidden()
    assert desk.told[-1]["reason"] == "old"
    assert desk.told[-1]["value"] == "Restart the <worker>, twice."
    await expect(page.locator(":focus")).to_have_attribute("data-testid", "feedback-negative")


async def test_escape_closes_a_modal_and_nothing_is_sent(desk: Desk) -> None:
    """Esc is Cancel; the rating that opened the modal stays."""
    await desk.client.chat_postMessage(channel=HELP, text="An answer", blocks=[RATING])
    page = await desk.visit("U0CLEO")
    await desk.see("feedback-negative").press("Enter")
    await expect(desk.see("modal")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(desk.see("modal")).to_be_hidden()
    assert desk.told == [{"rated": "down", "by": "U0CLEO"}]


async def test_an_answer_grows_while_it_is_written(desk: Desk) -> None:
    """Each piece is seen before the next one is sent; the buttons come with the end."""
    root = await desk.person("U0CLEO").post(HELP, "@apprentice how do I rate?")
    await desk.visit("U0CLEO")
    await desk.client.assistant_threads_setStatus(channel_id=HELP, thread_ts=root, status="is thinking...")
    await desk.see("message").first.hover()  # the buttons beside a message show where the mouse is
    await desk.see("message-reply").first.click()
    await expect(desk.see("status")).to_contain_text("apprentice is thinking...")
    stream = await desk.client.chat_startStream(
        channel=HELP, thread_ts=root, recipient_team_id="T0LOCAL", recipient_user_id="U0CLEO"
    )
    answer = desk.see("thread-pane").get_by_test_id("message").nth(1)
    for piece, seen in (
        ("Press **the", "Press **the"),
        (" thumb** and", "Press the thumb and"),
        (" go", "and go"),
    ):
        await desk.client.chat_appendStream(channel=HELP, ts=str(stream["ts"]), markdown_text=piece)
        await expect(answer).to_contain_text(seen)
        await expect(answer).to_have_attribute("aria-busy", "true")
    await expect(desk.see("feedback-positive")).to_have_count(0)
    await desk.client.chat_stopStream(channel=HELP, ts=str(stream["ts"]), blocks=[RATING])
    await expect(answer.get_by_test_id("feedback-positive")).to_be_visible()
    await expect(answer).not_to_have_attribute("aria-busy", "true")
    await expect(desk.see("thread-link")).to_contain_text("1 reply")
    await expect(desk.see("status")).to_have_count(0)


async def test_a_thumb_shows_what_this_person_chose_last(desk: Desk) -> None:
    """Each person sees their own choice, the last one, after a reload too."""
    await desk.client.chat_postMessage(channel=HELP, text="An answer", blocks=[RATING])
    await desk.visit("U0CLEO")
    good, bad = desk.see("feedback-positive"), desk.see("feedback-negative")
    await good.click()
    await expect(good).to_have_attribute("aria-pressed", "true")
    await desk.see("person-switch").select_option("U0DAN")
    await expect(good).to_have_attribute("aria-pressed", "false")
    await bad.click()
    await desk.see("modal-close").click()
    await expect(bad).to_have_attribute("aria-pressed", "true")
    await desk.visit("U0CLEO")
    await expect(good).to_have_attribute("aria-pressed", "true")
    await expect(bad).to_have_attribute("aria-pressed", "false")
    assert [rating["by"] for rating in desk.told] == ["U0CLEO", "U0DAN"]


async def test_who_is_quick_ends_where_they_went_last(desk: Desk) -> None:
    """A channel is chosen while the page still becomes somebody else."""
    page = await desk.visit("U0CLEO")
    for _ in range(3):
        await desk.see("person-switch").select_option("U0ANN")
        await page.evaluate("location.hash = '#U0ANN/C0ADMIN'")
        await expect(desk.see("composer")).to_have_attribute("aria-label", "Message #apprentice-admin")
        await page.wait_for_timeout(300)
        await expect(desk.see("composer")).to_have_attribute("aria-label", "Message #apprentice-admin")
        await desk.see("person-switch").select_option("U0CLEO")
        await page.evaluate("location.hash = '#U0CLEO/C0GENERAL'")
        await expect(desk.see("composer")).to_have_attribute("aria-label", "Message #general")


async def test_what_somebody_began_to_write_is_theirs(desk: Desk) -> None:
    """Another person's box is empty; who comes back goes on where they were."""
    await desk.visit("U0ANN")
    await desk.see("composer").fill("a draft of Ann")
    await desk.see("person-switch").select_option("U0CLEO")
    await expect(desk.see("channel-apprentice-admin")).to_have_count(0)
    await expect(desk.see("composer")).to_have_value("")
    await desk.see("composer").fill("and one of Cleo")
    await desk.see("person-switch").select_option("U0ANN")
    await expect(desk.see("channel-apprentice-admin")).to_be_visible()
    await expect(desk.see("composer")).to_have_value("a draft of Ann")


async def test_another_person_sees_their_own_workspace(desk: Desk) -> None:
    """Private channels and whispers belong to whom they belong, and news is marked until it was read."""
    await desk.visit("U0ANN")
    await desk.client.chat_postEphemeral(channel=HELP, user="U0ANN", text="Only for Ann")
    await expect(desk.see("ephemeral")).to_contain_text("Only visible to you")
    await expect(desk.see("channel-apprentice-admin")).to_be_visible()
    await desk.client.chat_postMessage(channel=ADMIN, text="A report")
    await expect(desk.see("channel-apprentice-admin").get_by_label("unread")).to_be_visible()
    await desk.see("channel-apprentice-admin").click()
    await expect(desk.see("message")).to_contain_text("A report")
    await expect(desk.see("channel-apprentice-admin").get_by_label("unread")).to_have_count(0)
    await desk.see("person-switch").select_option("U0CLEO")
    await expect(desk.see("channel-apprentice-admin")).to_have_count(0)
    await expect(desk.see("channel-help-desk")).to_have_attribute("aria-current", "page")
    await expect(desk.see("ephemeral")).to_have_count(0)
    await desk.see("composer").fill("hello from Cleo")
    await desk.see("composer").press("Enter")
    await expect(desk.see("message")).to_contain_text("Cleo Asker")


async def test_a_slash_offers_the_commands_with_their_usage(desk: Desk) -> None:
    """Typing narrows the list, Enter takes the first, the hint stays, and the answer is a whisper."""
    page = await desk.visit("U0ANN")
    await desk.see("composer").press_sequentially("/")
    await expect(desk.see("completion").get_by_role("option")).to_have_count(3)
    await page.keyboard.type("tr")
    await expect(desk.see("completion-/train")).to_contain_text(
        "[status | cancel | schedule nightly at 03:00 | help]"
    )
    await page.keyboard.press("Enter")
    await expect(desk.see("composer")).to_have_value("/train ")
    await expect(desk.see("command-hint")).to_contain_text(
        "[status | cancel | schedule nightly at 03:00 | help]"
    )
    await page.keyboard.type("status")
    await page.keyboard.press("Enter")
    await expect(desk.see("ephemeral")).to_contain_text("Asked for: status")
    await expect(desk.see("composer")).to_have_value("")
    await desk.see("composer").fill("/nothing")
    await desk.see("composer").press("Enter")
    await expect(desk.see("notice")).to_contain_text("/nothing is not a command here")
    await expect(desk.see("composer")).to_have_value("/nothing")


async def test_a_mention_is_completed_and_several_lines_are_one_message(desk: Desk) -> None:
    """@ offers people, Shift+Enter breaks a line, Enter sends."""
    page = await desk.visit("U0CLEO")
    await desk.see("composer").press_sequentially("@appr")
    await page.keyboard.press("Tab")
    await page.keyboard.type("one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    await page.keyboard.press("Enter")
    await expect(desk.see("message").locator(".mention")).to_have_text("@apprentice")
    [message] = await desk.person("U0CLEO").messages(HELP)
    assert message["text"] == "<@U0APPRENTICE> one\ntwo"


async def test_a_dangerous_button_asks_first(desk: Desk) -> None:
    """No means that the app hears nothing; yes reaches it once."""
    await desk.client.chat_postMessage(channel=ADMIN, text="A report", blocks=[PROMOTE])
    await desk.visit("U0ANN", ADMIN)
    await desk.see("button-promote").click()
    await desk.see("confirm-cancel").click()
    await expect(desk.see("confirm")).to_have_count(0)
    await desk.see("button-promote").click()
    await desk.see("confirm-ok").click()
    await expect(desk.see("ephemeral")).to_contain_text("Promoted.")
    await expect(desk.see("button-promote")).to_be_enabled()
    assert desk.told == [{"promoted": "14"}]


async def test_own_messages_can_be_changed_and_taken_back(desk: Desk) -> None:
    """The menu of one's own message edits and deletes; a reaction is given and taken by the same chip."""
    await desk.visit("U0CLEO")
    ts = await desk.person("U0CLEO").post(HELP, "ask @ben")
    message = desk.page.locator(f'[data-ts="{ts}"]')
    await message.hover()
    await desk.see("message-menu").click()
    await desk.see("message-edit").click()
    await expect(desk.see("edit-box")).to_have_value("ask @ben")
    await desk.see("edit-box").fill("ask @dan")
    await desk.see("edit-box").press("Enter")
    await expect(message).to_contain_text("ask @dan (edited)")
    await message.hover()
    await desk.see("message-react").click()
    await desk.see("emoji-tada").click()
    await expect(desk.see("reaction-tada")).to_have_attribute("aria-pressed", "true")
    await desk.see("reaction-tada").click()
    await expect(desk.see("reaction-tada")).to_have_count(0)
    await message.hover()
    await desk.see("message-menu").click()
    await desk.see("message-delete").click()
    await desk.see("confirm-ok").click()
    await expect(message).to_have_count(0)


async def test_a_phone_shows_one_thing_at_a_time(chromium: Browser) -> None:
    """Nothing is wider than the screen; channels come from the left, a thread covers the channel."""
    async with opened(chromium, viewport={"width": 390, "height": 800}) as desk:
        root = await desk.person("U0DAN").post(HELP, "a question")
        await desk.person("U0DAN").post(HELP, "a reply", thread_ts=root)
        page = await desk.visit("U0CLEO")
        await expect(desk.see("channel-general")).not_to_be_in_viewport()
        await desk.see("open-sidebar").click()
        await expect(desk.see("channel-general")).to_be_in_viewport()
        await desk.see("channel-help-desk").click()
        await desk.see("thread-link").click()
        await expect(desk.see("thread-composer")).to_be_in_viewport()
        assert await page.evaluate("document.documentElement.scrollWidth") == 390


async def test_the_page_is_self_contained() -> None:
    """No file of the page names another host, and nothing in it can parse HTML."""
    folder = Path(__file__).parent.parent / "bot" / "workspace" / "page"
    for file in sorted(folder.iterdir()):
        source = file.read_text(encoding="utf-8")
        assert "innerHTML" not in source, file.name
        assert "insertAdjacentHTML" not in source, file.name
        assert "document.write" not in source, file.name
        external = (
            source.replace("http://www.w3.org/2000/svg", "").replace("https?:", "").replace("http://${", "")
        )
        assert "http://" not in external, file.name
        assert "https://" not in external, file.name
