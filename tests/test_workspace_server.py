"""The local workspace as a program: who may talk to it, what it keeps, how it starts, how it says that it cannot."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
from workspace_rig import Json, Rig, running, until

from bot.errors import PublicError
from bot.workspace import LocalWorkspace, Person
from bot.workspace.text import Names, as_sent, rich_text

NAMES = Names({"ann": "U0ANN", "apprentice": "U0APPRENTICE"}, {"help-desk": "C0HELP"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8765"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
async def test_another_web_page_cannot_drive_the_workspace(headers: dict[str, str], status: int) -> None:
    """A page of another site, or a foreign name that resolves to this machine, is turned away."""
    async with running(connect=False) as rig:
        address = f"{rig.workspace.url}/_control/state?user=U0ANN"
        async with rig.session.get(address, headers=headers) as response:
            assert response.status == status
        if "Sec-Fetch-Site" not in headers:
            async with rig.session.post(f"{rig.workspace.url}/api/api.test", headers=headers) as response:
                assert response.status == status


async def test_its_own_page_may_use_it() -> None:
    """The Origin of the page that the workspace itself serves."""
    async with running(connect=False) as rig:
        headers = {"Origin": rig.workspace.url}
        body = {"user": "U0ANN", "channel": "C0HELP", "text": "hi"}
        async with rig.session.post(
            f"{rig.workspace.url}/_control/post", json=body, headers=headers
        ) as response:
            assert (await response.json())["ok"]


async def test_the_page_is_served_fresh_and_nothing_beside_it() -> None:
    """Content types, no caching, a policy against foreign scripts; no file outside the page's folder."""
    async with running(connect=False) as rig:
        async with rig.session.get(f"{rig.workspace.url}/") as response:
            assert response.content_type == "text/html"
            assert response.headers["Cache-Control"] == "no-store"
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            scripts = re.findall(r'src="(\S+?\.js)"', await response.text())
        async with rig.session.get(f"{rig.workspace.url}/{scripts[0]}") as response:
            assert response.content_type == "text/javascript"
        for path in ("%2e%2e/server.py", "..%2f..%2f..%2fpyproject.toml", "nothing.js", "seed.py"):
            async with rig.session.get(f"{rig.workspace.url}/{path}") as response:
                assert response.status == 404


@pytest.mark.parametrize(
    ("route", "body", "error"),
    [
        ("post", {"user": "U0NOBODY", "channel": "C0HELP", "text": "x"}, "user_not_found"),
        ("post", {"user": "U0CLEO", "channel": "C0ADMIN", "text": "x"}, "channel_not_found"),
        ("post", {"user": "U0CLEO", "channel": "D0ANN", "text": "x"}, "channel_not_found"),
        ("post", {"user": "U0CLEO", "channel": "C0HELP", "text": " \n"}, "no_text"),
        ("post", {"user": "U0CLEO", "channel": "C0HELP", "text": "x" * 100_000}, "msg_too_long"),
        ("post", {"user": ["U0CLEO"], "channel": {}, "text": 1}, "user_not_found"),
        ("react", {"user": "U0CLEO", "channel": "C0HELP", "ts": "1.1", "name": "x"}, "message_not_found"),
        ("action", {"user": "U0CLEO", "action_id": "x"}, "invalid_arguments"),
        ("action", {"user": "U0CLEO", "container": {"type": "view", "view_id": "V1"}}, "view_not_found"),
        ("submit", {"user": "U0CLEO", "view_id": "V1", "values": {}}, "view_not_found"),
        ("close", {"user": "U0CLEO", "view_id": "V1"}, "view_not_found"),
        ("fault", {"error": "x"}, "invalid_arguments"),
        ("fault", {"method": "*"}, "invalid_arguments"),
        ("fault", {"method": "*", "status": "soon"}, "invalid_arguments"),
    ],
)
async def test_control_refuses_what_a_client_could_not_do(route: str, body: Json, error: str) -> None:
    """With a code, never with a traceback."""
    async with running(connect=False) as rig:
        assert (await rig.control(route, **body))["error"] == error


async def test_a_person_sees_only_their_own_places() -> None:
    """Private channels and direct messages are not listed, read or heard by others; Person says why in words."""
    async with running(connect=False, extra_people=2) as rig:
        cleo = rig.person("U0CLEO")
        channels = {channel["id"] for channel in (await cleo.state())["channels"]}
        assert channels == {"C0GENERAL", "C0HELP", "D0CLEO"}
        with pytest.raises(PublicError, match="refused U0CLEO's messages: channel_not_found"):
            await cleo.messages("C0ADMIN")
        waiting = asyncio.create_task(cleo.wait_for_message("C0HELP", lambda one: True))
        await rig.person("U0ANN").post("C0ADMIN", "secret")
        await rig.person("U1001").post("C0HELP", "public")
        assert (await waiting)["text"] == "public"
        with pytest.raises(TimeoutError, match="U0CLEO waited"):
            await cleo.wait_for_message("C0HELP", lambda one: False, timeout_s=0.05)


async def test_pages_hear_everything_that_concerns_them() -> None:
    """Messages, changes, reactions, status, ephemerals, the Home tab and the app's connections, in order."""
    async with running(connect=False) as rig:
        heard: list[Json] = []

        async def listen() -> None:
            async with rig.session.get(f"{rig.workspace.url}/_control/events?user=U0CLEO") as response:
                assert response.content_type == "text/event-stream"
                async for line in response.content:
                    if line.startswith(b"data: "):
                        heard.append(json.loads(line[6:]))

        listening = asyncio.create_task(listen())
        await until(lambda: heard)
        await rig.connect()
        cleo = rig.person("U0CLEO")
        ts = await cleo.post("C0HELP", "x")
        await cleo.react("C0HELP", ts, "eyes")
        await rig.api("assistant.threads.setStatus", channel_id="C0HELP", thread_ts=ts, status="is thinking")
        await rig.api("chat.postEphemeral", channel="C0HELP", user="U0CLEO", text="psst")
        await rig.api("views.publish", user_id="U0CLEO", view={"type": "home", "blocks": []})
        await cleo.delete("C0HELP", ts)
        await until(lambda: heard[-1]["type"] == "message_deleted")
        kinds = [one["type"] for one in heard]
        assert kinds == [
            "connected",
            "connected",
            "message",
            "reactions",
            "status",
            "ephemeral",
            "home",
            "message_deleted",
        ]
        assert [one["count"] for one in heard[:2]] == [0, 1]
        listening.cancel()


async def test_a_port_in_use_is_said_in_words() -> None:
    """The sentence names the setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PublicError, match=rf"Port {port} is already in use. Set WORKSPACE_PORT="):
            await LocalWorkspace(port=port).start()


async def test_a_damaged_or_shared_state_file_is_said_in_words(tmp_path: Path) -> None:
    """Neither a traceback nor an empty workspace that overwrites it."""
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"not a database, but long enough to look like a file" * 50)
    with pytest.raises(PublicError, match=r"damaged\.sqlite cannot be read .* Move it away"):
        await LocalWorkspace(port=0, state_file=damaged).start()
    shared = tmp_path / "shared.sqlite"
    async with running(connect=False, state_file=shared):
        with pytest.raises(PublicError, match=r"shared\.sqlite is in use by another program"):
            await LocalWorkspace(port=0, state_file=shared).start()


async def test_it_starts_again_on_the_same_port_with_everything(tmp_path: Path) -> None:
    """Threads, reactions, files, the Home tab, members and people are there after a restart; ephemerals are not."""
    state_file = tmp_path / "kept" / "workspace.sqlite"
    async with running(connect=False, state_file=state_file, extra_people=1) as rig:
        port = int(rig.workspace.url.rpartition(":")[2])
        root = await rig.person("U1000").post("C0HELP", "root")
        reply = await rig.person("U0BEN").post("C0HELP", "reply", thread_ts=root)
        await rig.api("chat.postEphemeral", channel="C0HELP", user="U0BEN", text="psst")
        await rig.api(
            "views.publish", user_id="U0BEN", view={"type": "home", "blocks": [{"type": "divider"}]}
        )
        await rig.control("invite", user="U0ANN", channel="C0ADMIN", invited="U0CLEO")
    async with running(connect=False, state_file=state_file, port=port) as rig:
        (message,) = await rig.person("U0BEN").messages("C0HELP")
        assert (message["ts"], message["reply_count"], message["user"]) == (root, 1, "U1000")
        assert [one["ts"] for one in await rig.person("U0CLEO").messages("C0HELP", root)] == [root, reply]
        assert (await rig.person("U0BEN").wait_for_home())["blocks"][0]["type"] == "divider"
        assert await rig.person("U0CLEO").messages("C0ADMIN") == []


async def test_the_program_alone_survives_kill_9(tmp_path: Path) -> None:
    """`apprentice workspace`: what was said before SIGKILL is there after the next start; SIGTERM ends it with 0."""
    state_file = tmp_path / "workspace.sqlite"
    first, url = await _program(state_file)
    async with aiohttp.ClientSession() as session:
        sent = [
            await Person(url, "U0CLEO", session).post("C0HELP", f"message {number}") for number in range(20)
        ]
    first.kill()
    await first.wait()
    second, url = await _program(state_file)
    async with aiohttp.ClientSession() as session:
        kept = [message["ts"] for message in await Person(url, "U0CLEO", session).messages("C0HELP")]
    second.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(second.wait(), 10) == 0
    assert kept == sent


async def _program(state_file: Path) -> tuple[asyncio.subprocess.Process, str]:
    command = [sys.executable, "-m", "bot.cli", "workspace", "--port", "0", "--state", str(state_file)]
    here = Path(__file__).parent.parent
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=here,
        env=dict(os.environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
    return process, line.rsplit(" ", 1)[1].strip()


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("hi @Ann, see #help-desk.", "hi <@U0ANN>, see <#C0HELP|help-desk>."),
        ("@apprentice.", "<@U0APPRENTICE>."),
        ("mail ann@ann.example & @nobody", "mail ann@ann.example &amp; @nobody"),
        ("<@U0ANN> <@U0NOBODY> <script>", "<@U0ANN> &lt;@U0NOBODY&gt; &lt;script&gt;"),
        ("see https://a.example/x?b=1&c=2#help-desk.", "see <https://a.example/x?b=1&amp;c=2#help-desk>."),
        ("@here now", "<!here> now"),
        ("a\n```\nx < y\n```", "a\n```\nx &lt; y\n```"),
    ],
)
def test_typed_text_becomes_what_slack_stores(typed: str, sent: str) -> None:
    """Mentions, channels and links get their brackets, everything else is escaped."""
    assert as_sent(typed, NAMES) == sent


def test_rich_text_has_the_styles_of_the_client() -> None:
    """Bold, code, links, mentions, emoji and preformatted text as elements."""
    block = rich_text(
        "*b* `a &lt; b` <https://x.example> <@U0ANN> :wave: snake_case_name\n```code```", block_id="b"
    )
    section, code = block["elements"]
    kinds = [(one["type"], one.get("style")) for one in section["elements"] if one.get("text") != " "]
    assert kinds[:2] == [("text", {"bold": True}), ("text", {"code": True})]
    assert [kind for kind, _ in kinds[2:]] == ["link", "user", "emoji", "text"]
    assert section["elements"][2]["text"] == "a < b"
    assert "snake_case_name" in section["elements"][-1]["text"]
    assert code["elements"] == [{"type": "text", "text": "code"}]


def test_it_is_bound_to_the_loopback_interface_only() -> None:
    """Nobody else on the network can reach it."""

    async def address() -> str:
        async with running(connect=False) as rig:
            return _bound_to(rig)

    assert asyncio.run(address()) == "127.0.0.1"


def _bound_to(rig: Rig) -> str:
    running_ = rig.workspace._running
    assert running_ is not None
    return str(running_.runner.addresses[0][0])
