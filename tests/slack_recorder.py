"""Every Web API request that reaches a local workspace in the test suite, and every answer, is held to Slack's own schemas.

A pytest plugin (conftest.py registers it): the observer of `bot.workspace.web_api` writes calls down while a test runs, they
are judged when it has ended, and a violation fails the test that caused it. A test that sends nonsense on purpose says
so with `@pytest.mark.sends_nonsense("why")`: its requests are not judged, the answers it gets are. A workspace in another
process is judged by the calls it noted (`bot_process.lives_of_a_bot` tells them at its end). Without the shared material
nothing is judged, and the last lines of the run say so.
"""

import json
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from slack_rules import Complaint, SlackRules

from bot.workspace.web_api import ApiCall, WebApi

Json = dict[str, Any]
SCHEMAS: Final = Path(__file__).parents[2] / "shared" / "data" / "slack_schemas"
MARKER: Final = "sends_nonsense(why): its requests are broken on purpose and not held to Slack's schemas"
NAME: Final = "slack-recorder"


@dataclass
class Tally:
    """What was judged so far. `violations` are complaints with the test they belong to."""

    requests: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    nonsense: int = 0
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        return {**vars(self), "requests": dict(self.requests), "answers": dict(self.answers)}

    def add(self, other: Json) -> None:
        """Count what another process judged."""
        self.requests.update(other["requests"])
        self.answers.update(other["answers"])
        self.nonsense += other["nonsense"]
        self.violations += other["violations"]

    def sentence(self) -> str:
        """The line for the end of a run."""
        methods = sorted({*self.requests, *self.answers})
        aside = f" ({self.nonsense} broken on purpose not judged)" if self.nonsense else ""
        return (
            f"Slack's schemas: {self.requests.total()} requests{aside} and {self.answers.total()} answers of "
            f"{len(methods)} methods held to them, {len(self.violations)} violations: {', '.join(methods)}"
        )


class SlackRecorder:
    """The plugin. `rules` is None where the shared material is absent."""

    def __init__(self, rules: SlackRules | None) -> None:
        self.rules = rules
        self.tally = Tally()
        self._heard: list[str] = []

    def hear(self, call: ApiCall) -> None:
        """Write a call down as it is now; what it holds lives on and changes."""
        self._heard.append(json.dumps([call.method, call.args, None if call.injected else call.answer]))

    def judge(self, *, nonsense: bool) -> list[Complaint]:
        """What is wrong with the calls heard since the last time."""
        heard, self._heard = self._heard, []
        if self.rules is None:
            return []
        found: list[Complaint] = []
        for line in heard:
            method, args, answer = json.loads(line)
            if nonsense:
                self.tally.nonsense += 1
            else:
                self.tally.requests[method] += 1
                found += self.rules.request(method, args)
            if answer is not None and answer.get("ok"):
                self.tally.answers[method] += 1
                found += self.rules.answer(method, answer)
        return found

    def settle(self, item: pytest.Item) -> str:
        """Judge what a test has caused; the words to fail it with, "" if all is well."""
        mark = item.get_closest_marker("sends_nonsense")
        wrong = sorted({str(complaint) for complaint in self.judge(nonsense=mark is not None)})
        self.tally.violations += [f"{item.nodeid}: {complaint}" for complaint in wrong]
        return "\n".join(["Not as Slack's schemas have it:", *wrong]) if wrong else ""

    # --- pytest calls these ---

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", MARKER)
        WebApi.observers.append(self.hear)

    def pytest_unconfigure(self) -> None:
        WebApi.observers.remove(self.hear)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._nothing_empty_said(item)
        try:
            result = yield
        except BaseException as problem:
            if wrong := self.settle(item):
                problem.add_note(wrong)
            raise
        if wrong := self.settle(item):
            pytest.fail(wrong, pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        result = yield
        if wrong := self.settle(item):
            pytest.fail(wrong, pytrace=False)
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        told = getattr(
            session.config, "workeroutput", None
        )  # a worker of pytest-xdist tells the first process
        if told is not None:
            told[NAME] = self.tally.as_json()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.tally.add(getattr(node, "workeroutput", {}).get(NAME) or Tally().as_json())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.rules is None:
            terminalreporter.write_line(
                "Slack's schemas: not beside this checkout; no request and no answer was held to them."
            )
        elif self.tally.requests or self.tally.answers:
            terminalreporter.write_line(self.tally.sentence())

    def _nothing_empty_said(self, item: pytest.Item) -> None:
        mark = item.get_closest_marker("sends_nonsense")
        if mark is not None and not (mark.args and str(mark.args[0]).strip()):
            pytest.fail("sends_nonsense wants a reason: @pytest.mark.sends_nonsense('why')", pytrace=False)


def recorder_for(schemas: Path = SCHEMAS) -> SlackRecorder:
    """A recorder with the schemas of the shared material, or with none."""
    return SlackRecorder(SlackRules(schemas) if schemas.is_dir() else None)
