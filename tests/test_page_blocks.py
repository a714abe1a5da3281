"""Every block on the page: shown as what it is, tables that sort and turn, charts with their numbers, no crash on news."""

from browser import HELP, Desk, Json, chromium_fixture, desk_fixture, mrkdwn, on_the_page, plain
from playwright.async_api import expect

chromium, desk = chromium_fixture, desk_fixture
pytestmark = on_the_page


def said(text: str) -> Json:
    section = {"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}
    return {"type": "rich_text", "elements": [section]}


def cells(*values: str | int) -> list[Json]:
    return [
        {"type": "raw_text", "text": value}
        if isinstance(value, str)
        else {"type": "raw_number", "value": value, "text": str(value)}
        for value in values
    ]


def chart(kind: str) -> Json:
    points = [{"label": label, "value": value} for label, value in (("one", 1), ("two", 3))]
    if kind == "pie":
        return {"type": "pie", "segments": points}
    axes = {"categories": ["one", "two"], "x_label": "epoch", "y_label": "loss"}
    return {"type": kind, "series": [{"name": "train", "data": points}], "axis_config": axes}


BUTTON: Json = {"type": "button", "action_id": "go", "text": plain("Go"), "value": "1"}
MARKDOWN = """# Head
1. one
   - nested
- [x] done

| a | b |
|--|--:|
| 1 | 2 |

```py
x = 1
```"""
GALLERY: list[tuple[str, Json, str]] = [
    (
        "section",
        {"text": mrkdwn("*Hello*"), "fields": [mrkdwn("a"), mrkdwn("b")], "accessory": BUTTON},
        "Hello",
    ),
    ("header", {"text": plain("A header")}, "A header"),
    ("divider", {}, ""),
    ("context", {"elements": [mrkdwn("3.2 s"), plain("sources")]}, "sources"),
    ("actions", {"elements": [BUTTON]}, "Go"),
    ("markdown", {"text": MARKDOWN}, "nested"),
    ("rich_text", {"elements": said("Rich")["elements"]}, "Rich"),
    ("image", {"image_url": "https://example.org/a.png", "alt_text": "A picture"}, "A picture"),
    ("table", {"rows": [cells("Name", "Score"), cells("base", 7)]}, "base"),
    ("task_card", {"task_id": "t", "title": "Reading", "status": "complete"}, "Reading"),
    ("plan", {"title": "Run", "tasks": [{"task_id": "a", "title": "Train", "status": "error"}]}, "Train"),
    ("card", {"title": mrkdwn("A card"), "body": mrkdwn("Body"), "actions": [BUTTON]}, "Body"),
    ("carousel", {"elements": [{"type": "card", "title": mrkdwn("First"), "actions": [BUTTON]}]}, "First"),
    (
        "container",
        {
            "title": plain("Box"),
            "is_collapsible": True,
            "child_blocks": [{"type": "section", "text": plain("In it")}],
        },
        "In it",
    ),
    (
        "video",
        {
            "alt_text": "v",
            "title": plain("How to"),
            "title_url": "https://example.org/v",
            "video_url": "https://example.org/v",
            "thumbnail_url": "https://example.org/t.png",
        },
        "How to",
    ),
]


async def test_every_block_of_a_message_is_shown(desk: Desk) -> None:
    """Each type has a picture of its own, with its words in it; nothing falls back to JSON."""
    blocks = [{"type": kind, **block} for kind, block, _ in GALLERY]
    await desk.client.chat_postMessage(channel=HELP, text="Everything", blocks=blocks)
    page = await desk.visit("U0CLEO")
    for kind, _, words in GALLERY:
        await expect(page.locator(f"#channel .block-{kind}").first).to_contain_text(words)
    await expect(page.locator("#channel .not-shown")).to_have_count(0)
    markdown = page.locator(".block-markdown")
    for inside in ("ol > li > ul > li", "input:checked", "td.align-right", "pre > code"):
        await expect(markdown.locator(inside)).to_have_count(1)


async def test_code_is_copied_as_it_is(desk: Desk) -> None:
    """The button of a code block puts the code, and nothing else, on the clipboard."""
    await desk.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    code = [{"type": "markdown", "text": "```py\nx = '<b>'\n  y\n```"}]
    await desk.client.chat_postMessage(channel=HELP, text="Code", blocks=code)
    page = await desk.visit("U0CLEO")
    await page.locator(".code-frame").hover()
    await desk.see("code-copy").click()
    await expect(desk.see("code-copy")).to_have_attribute("title", "Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == "x = '<b>'\n  y"


async def test_a_data_table_sorts_and_turns_its_pages(desk: Desk) -> None:
    """Five rows a page, numbers sorted as numbers, the head says how, and it stays so when the message changes."""
    rows = [cells("Metric", "Score"), *(cells(f"m{number}", number * 3) for number in range(8))]
    block = {"type": "data_table", "caption": "Scores", "page_size": 5, "rows": rows}
    posted = await desk.client.chat_postMessage(channel=HELP, text="Scores", blocks=[block])
    await desk.visit("U0CLEO")
    table = desk.see("data-table")
    body = table.locator("tbody tr")
    await expect(table).to_contain_text("Page 1 of 2")
    await desk.see("page-next").click()
    await expect(body).to_have_count(3)
    await desk.see("sort-1").click()
    await desk.see("sort-1").click()
    await expect(body.first).to_contain_text("m7")
    await expect(table.locator("th[aria-sort=descending]")).to_contain_text("Score")
    changed = {**block, "rows": [*rows, cells("m9", 99)]}
    await desk.client.chat_update(channel=HELP, ts=str(posted["ts"]), text="Scores", blocks=[changed])
    await expect(body.first).to_contain_text("m9")


SHAPES = {"line": "path.line", "bar": "rect.bar", "area": "path.area", "pie": "path.slice"}


async def test_a_chart_is_drawn_and_its_numbers_can_be_read(desk: Desk) -> None:
    """Shapes with their values on hover, and the same numbers as a table for those who cannot see them."""
    for kind in SHAPES:
        block = {"type": "data_visualization", "title": "Loss", "chart": chart(kind)}
        await desk.client.chat_postMessage(channel=HELP, text="Loss", blocks=[block])
    await desk.visit("U0CLEO")
    for at, (kind, shape) in enumerate(SHAPES.items()):
        shown = desk.see("chart").nth(at)
        await expect(shown.locator(shape).first).to_be_attached()
        await expect(shown.locator("svg")).to_have_attribute("aria-label", f"Loss, {kind} chart")
        assert "two: 3" in " ".join(await shown.locator("title").all_text_contents())
        await shown.get_by_text("Show the numbers").click()
        await expect(shown.locator("tbody")).to_contain_text("two")


DRAW = """async (blocks) => {
  const { renderBlocks } = await import("/blocks.js");
  const store = { me: { id: "U0CLEO" }, user: () => undefined, channel: () => undefined, remembered: (_, x) => x };
  const frame = document.createElement("div");
  frame.append(...renderBlocks(blocks, { store, kind: "message", key: "x" }));
  return frame.innerText || frame.textContent;
}"""


UNKNOWN: list[tuple[Json, str]] = [
    ({"type": "hologram", "text": "new"}, "no picture of this block yet: hologram"),
    ({"type": "actions"}, "could not show this block"),
    ({"type": "data_visualization", "title": "x", "chart": {"type": "radar"}}, "could not show this block"),
    ({"type": "call", "call": {"v1": {"name": "Standup", "join_url": "https://example.org"}}}, "Standup"),
    (
        {
            "type": "actions",
            "elements": [
                {**BUTTON, "text": plain("Yours"), "visible_to_user_ids": ["U0CLEO"]},
                {**BUTTON, "text": plain("Theirs"), "visible_to_user_ids": ["U0DAN"]},
            ],
        },
        "Yours",
    ),
]


async def test_what_the_page_does_not_know_says_so(desk: Desk) -> None:
    """An unknown or broken block is a line of its own with its JSON; another person's button is not there."""
    page = await desk.visit("U0CLEO")
    for block, words in UNKNOWN:
        shown = await page.evaluate(DRAW, [block, {"type": "section", "text": plain("After it")}])
        assert words in shown
        assert "After it" in shown
        assert "Theirs" not in shown
