"""Markdown and mrkdwn as the page reads them: case by case, and in no text slow."""

from browser import Desk, chromium_fixture, desk_fixture, on_the_page

chromium, desk = chromium_fixture, desk_fixture
pytestmark = on_the_page


MARKDOWN = [
    ("**b** *i* ~~s~~ `c`", "<p><strong>b</strong> <em>i</em> <s>s</s> <code>c</code></p>"),
    ("snake_case_name and 2*3*4", "<p>snake_case_name and 2<em>3</em>4</p>"),
    ("# One", "<h3>One</h3>"),
    ("- a\n- b\n  1. c", "<ul><li>a</li><li>b<ol><li>c</li></ol></li></ul>"),
    ("> q\n> r\n\ntext", "<blockquote><p>q<br>r</p></blockquote><p>text</p>"),
    (
        "```py\n**x** <b>\n",
        "<div><span>py</span><pre><code>**x** &lt;b&gt;\n</code></pre></div>",
    ),
    ("[a](https://x.invalid/b_c)", '<p><a href="https://x.invalid/b_c">a</a></p>'),
    ("a \\*b\\* &lt;", "<p>a *b* &lt;</p>"),
    ("**open", "<p>**open</p>"),
    ("<!channel>", "<p>&lt;!channel&gt;</p>"),
]
MRKDWN = [
    ("*b* _i_ ~s~ `c`", "<p><strong>b</strong> <em>i</em> <s>s</s> <code>c</code></p>"),
    ("2*3*4 a_b_c", "<p>2*3*4 a_b_c</p>"),
    ("&gt; q\nt", "<blockquote><p>q</p></blockquote><p>t</p>"),
    ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
    ("```\n*x* &lt;b&gt;\n```", "<div><pre><code>*x* &lt;b&gt;</code></pre></div>"),
    ("<https://x.invalid/?a=1&amp;b=2|l>", '<p><a href="https://x.invalid/?a=1&amp;b=2">l</a></p>'),
    ("<@U0BEN> <#C0HELP|x> <!here>", "<p><span>@ben</span> <span>#x</span> <span>@here</span></p>"),
    ("&lt;b&gt; &amp;amp;", "<p>&lt;b&gt; &amp;amp;</p>"),
]
RENDER = """async ([dialect, text]) => {
  const read = (await import(`/${dialect}.js`))[dialect];
  const store = { me: null, user: (id) => ({ U0BEN: { name: "ben" } })[id], channel: () => undefined };
  const frame = document.createElement("div");
  frame.append(...read(text, store));
  for (const node of frame.querySelectorAll("*"))
    for (const { name } of [...node.attributes]) if (name !== "href") node.removeAttribute(name);
  return frame.innerHTML;
}"""


async def test_both_dialects_are_read_as_people_expect(desk: Desk) -> None:
    """Markdown and Slack's mrkdwn, case by case; what is not markup stays as it was written."""
    page = await desk.visit("U0CLEO")
    cases = [("markdown", *case) for case in MARKDOWN] + [("mrkdwn", *case) for case in MRKDWN]
    seen = [(dialect, text, await page.evaluate(RENDER, [dialect, text])) for dialect, text, _ in cases]
    assert seen == cases


async def test_a_hundred_thousand_characters_are_read_at_once(desk: Desk) -> None:
    """No text makes the reader slow: hostile repetitions take no more than others (seconds, not minutes)."""
    page = await desk.visit("U0CLEO")
    for piece in ("*a ", "[a](", "`", "> ", "**a**", "![", "<", "_a", "- ", "~~x ", "| a "):
        text = (piece * (100_000 // len(piece)))[:100_000]
        for dialect in ("markdown", "mrkdwn"):
            seconds = await page.evaluate(
                """async ([dialect, text]) => {
                  const read = (await import(`/${dialect}.js`))[dialect];
                  const store = { user: () => undefined, channel: () => undefined };
                  const from = performance.now();
                  read(text, store);
                  return (performance.now() - from) / 1000;
                }""",
                [dialect, text],
            )
            assert seconds < 10, (dialect, piece)
