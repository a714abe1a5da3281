"""The recorder that holds all tests to Slack's schemas: it sees what is wrong, names it, and lets nothing else through."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from slack_recorder import SlackRecorder, recorder_for
from slack_rules import GAPS, NEWER_ARGUMENTS, UNKNOWN_METHODS, SlackRules

from bot.workspace.web_api import ApiCall

Json = dict[str, Any]
HERE = Path(__file__).parent
BUTTON: Json = {"type": "button", "action_id": "go", "text": {"type": "plain_text", "text": "Go"}}


@pytest.fixture(scope="session")
def rules(shared_data: Path) -> SlackRules:
    return SlackRules(shared_data / "slack_schemas")


def told(rules: SlackRules, method: str, **args: Any) -> list[str]:
    return [str(complaint) for complaint in rules.request(method, args)]


@pytest.mark.parametrize(
    ("method", "args", "complaint"),
    [
        ("chat.postMessage", {"channel": "C1"}, "chat.postMessage request /: 'text' is a required property"),
        (
            "chat.postMessage",
            {"channel": "C1", "text": "x", "colour": "red"},
            "chat.postMessage request /: Additional properties are not allowed ('colour' was unexpected)",
        ),
        (
            "chat.postMessage",
            {"channel": "C1", "text": "x", "blocks": [{"type": "divider"}, {"type": "header"}]},
            "chat.postMessage request /blocks/1: 'text' is a required property",
        ),
        (
            "chat.postMessage",
            {
                "channel": "C1",
                "text": "x",
                "blocks": [{"type": "actions", "elements": [{**BUTTON, "style": "blue"}]}],
            },
            "chat.postMessage request /blocks/0/elements/0/style: 'blue' is not one of ['primary', 'danger']",
        ),
        (
            "chat.update",
            {"channel": "C1", "ts": "1.1", "text": "x", "blocks": [{"type": "hologram"}]},
            "chat.update request /blocks/0/type: 'hologram' is no block that block_kit.schema.json knows",
        ),
        (
            "views.open",
            {
                "trigger_id": "1",
                "view": {"type": "modal", "title": {"type": "plain_text", "text": "t" * 25}, "blocks": []},
            },
            f"views.open request /view/title/text: '{'t' * 25}' is too long",
        ),
        (
            "chat.appendStream",
            {
                "channel": "C1",
                "ts": "1.1",
                "chunks": [{"type": "task_update", "id": "1", "title": "x", "status": "late"}],
            },
            "chat.appendStream request /chunks/0/status: "
            "'late' is not one of ['pending', 'in_progress', 'complete', 'error']",
        ),
        (
            "conversations.history",
            {"channel": "C1", "limit": "many"},
            "conversations.history request /limit: 'many' is not of type 'number'",
        ),
        (
            "chat.teleport",
            {},
            "chat.teleport request /: the schema does not know this method, and no row of UNKNOWN_METHODS says why",
        ),
    ],
)
def test_a_wrong_request_is_named_with_its_place(
    rules: SlackRules, method: str, args: Json, complaint: str
) -> None:
    """The method, a JSON pointer, and what is wrong there: deep inside of blocks and views too."""
    assert complaint in told(rules, method, **args)


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("chat.postMessage", {"channel": "C1", "text": "x", "thread_ts": "1.1", "team_id": "T1"}),
        (
            "chat.postMessage",
            {"channel": "C1", "text": "x", "blocks": [{"type": "actions", "elements": [BUTTON]}]},
        ),
        (
            "conversations.replies",
            {"channel": "C1", "ts": "1.1", "limit": "200", "include_all_metadata": "1"},
        ),
        ("views.publish", {"user_id": "U1", "view": {"type": "home", "blocks": [{"type": "divider"}]}}),
        ("chat.postEphemeral", {"channel": "C1", "user": "U1", "text": "x", "thread_ts": None}),
        ("auth.test", {}),
    ],
)
def test_a_right_request_passes(rules: SlackRules, method: str, args: Json) -> None:
    """Also as a form carries it: numbers and yes as text, and what was not given."""
    assert told(rules, method, **args) == []


def test_a_wrong_answer_is_named_with_its_place(rules: SlackRules) -> None:
    """Missing keys, unknown keys, wrong types and wrong blocks in what the workspace says."""
    block = {"type": "section", "text": {"type": "mrkdwn", "text": ""}}
    message = {"type": "message", "text": 5, "user": "U1", "ts": "1.1", "blocks": [block]}
    answer = {"ok": True, "channel": "C1", "message": message, "mood": "fine"}
    assert {str(complaint) for complaint in rules.answer("chat.postMessage", answer)} == {
        "chat.postMessage answer /ts: is missing, and Slack's OpenAPI file requires it",
        "chat.postMessage answer /: Additional properties are not allowed ('mood' was unexpected)",
        "chat.postMessage answer /message/text: 5 is not of type 'string'",
        "chat.postMessage answer /message/blocks/0/text/text: '' should be non-empty",
    }


def test_no_row_lets_through_what_the_schemas_have(rules: SlackRules) -> None:
    """A row that is not needed any more has to go, and every row says why it is there."""
    assert [method for method in UNKNOWN_METHODS if method in rules.requests["methods"]] == []
    methods = rules.requests["methods"]
    for method, argument in NEWER_ARGUMENTS:
        taken = [one for one in methods if argument in rules._types(one)]
        assert method not in taken, (method, argument)
        assert len(taken) < len(methods)
    reasons = [*UNKNOWN_METHODS.values(), *NEWER_ARGUMENTS.values(), *(gap.reason for gap in GAPS)]
    assert all(len(reason) > 20 for reason in reasons)


def call(method: str, args: Json, answer: Json, *, injected: bool = False) -> ApiCall:
    return ApiCall(method, args, answer, status=200, injected=injected)


def test_what_is_judged_and_what_is_not(rules: SlackRules) -> None:
    """Requests even if refused or met by a fault; answers only if the workspace gave them and they are ok."""
    recorder = SlackRecorder(rules)
    recorder.hear(call("auth.test", {"who": "me"}, {"ok": False, "error": "invalid_auth"}))
    recorder.hear(call("auth.test", {"where": "here"}, {"ok": True}, injected=True))
    assert sorted(str(complaint) for complaint in recorder.judge(nonsense=False)) == [
        "auth.test request /: Additional properties are not allowed ('where' was unexpected)",
        "auth.test request /: Additional properties are not allowed ('who' was unexpected)",
    ]
    recorder.hear(call("auth.test", {"who": "me"}, {"ok": True}))
    assert {complaint.part for complaint in recorder.judge(nonsense=True)} == {"answer"}
    assert recorder.judge(nonsense=False) == []
    assert recorder.tally.requests == {"auth.test": 2}
    assert (recorder.tally.answers, recorder.tally.nonsense) == ({"auth.test": 1}, 1)


def test_a_call_is_judged_as_it_was(rules: SlackRules) -> None:
    """What the workspace keeps of it goes on changing."""
    recorder, args = SlackRecorder(rules), {"who": "me"}
    recorder.hear(call("auth.test", args, {"ok": False}))
    args.clear()
    assert len(recorder.judge(nonsense=False)) == 1


SUITE = """
import aiohttp
import pytest
from bot.workspace import LocalWorkspace

@pytest.fixture
async def post():
    workspace = LocalWorkspace(port=0)
    await workspace.start()
    async def post(**args):
        async with aiohttp.ClientSession() as http:
            headers = {"Authorization": "Bearer xoxb-local-apprentice"}
            async with http.post(f"{workspace.url}/api/chat.postMessage", json=args, headers=headers) as answer:
                return await answer.json()
    yield post
    await workspace.stop()

async def test_right(post):
    assert (await post(channel="C0HELP", text="x"))["ok"]

async def test_wrong(post):
    await post(channel="C0HELP", text="x", colour="red")

@pytest.mark.sends_nonsense("to see that it is let through")
async def test_wrong_on_purpose(post):
    await post(channel="C0HELP", text="x", colour="red")

@pytest.mark.sends_nonsense
async def test_without_a_reason(post):
    pass
"""


def test_a_violation_fails_the_test_that_caused_it(rules: SlackRules, tmp_path: Path) -> None:
    """In a run of pytest of its own, with pytest-xdist: one test fails with the complaint, the last lines count."""
    ended = _suite(tmp_path, ["-n", "1"], schemas=rules.folder)
    assert (
        "chat.postMessage request /: Additional properties are not allowed ('colour' was unexpected)" in ended
    )
    failed = sorted(line.split(" - ")[0] for line in ended.splitlines() if line.startswith("FAILED"))
    assert [line.rpartition("::")[2] for line in failed] == ["test_without_a_reason", "test_wrong"]
    assert "Slack's schemas: 2 requests (1 broken on purpose not judged) and 3 answers of 1 methods" in ended
    assert "1 violations: chat.postMessage" in ended


def test_without_the_shared_material_the_run_says_so(tmp_path: Path) -> None:
    """A stranger's clone: nothing is held to the schemas, and nobody believes that it was."""
    ended = _suite(tmp_path, [], schemas=tmp_path / "nowhere")
    assert "Slack's schemas: not beside this checkout; no request and no answer was held to them." in ended
    assert "3 passed" in ended
    assert recorder_for(tmp_path / "nowhere").rules is None


def _suite(folder: Path, options: list[str], *, schemas: Path) -> str:
    """What pytest prints about a small suite with the recorder."""
    (folder / "test_it.py").write_text(SUITE, encoding="utf-8")
    register = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {json.dumps(str(HERE))})
        from slack_recorder import NAME, recorder_for

        def pytest_configure(config):
            config.pluginmanager.register(recorder_for(Path({json.dumps(str(schemas))})), NAME)
    """
    conftest = "\n".join(
        line.strip() if "config." not in line else "    " + line.strip() for line in register.splitlines()
    )
    (folder / "conftest.py").write_text(conftest, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200)
    return ended.stdout + ended.stderr
