"""The log tells what happened and never what people wrote or what opens a door."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from terminal import logging_as_it_was

from bot import logs

SECRETS = [
    "xoxb-1234-5678-abcdEFGH",
    "xapp-1-A012-345-deadbeef",
    "sk-proj-abcdefgh12345678",
    "AIzaSyA1234567890abcdefghijklmno",
    "hf_abcdefghijklmnop",
]


@pytest.fixture(autouse=True)
def _afterwards_as_before() -> Iterator[None]:
    with logging_as_it_was():
        yield


def test_our_lines_and_the_libraries_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, on stderr; stdout belongs to results."""
    logs.set_up("INFO", "auto")
    structlog.get_logger("bot.test").info("run advanced", run=3, tokens_in=12)
    logging.getLogger("some.library").warning("missed by %s", "2 s")
    logging.getLogger("bot.test").debug("too much")
    printed = capsys.readouterr()
    assert printed.out == ""
    ours, theirs = (json.loads(line) for line in printed.err.splitlines())
    assert (ours["event"], ours["run"], ours["tokens_in"], ours["level"]) == ("run advanced", 3, 12, "info")
    assert (theirs["event"], theirs["logger"]) == ("missed by 2 s", "some.library")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("fmt", ["json", "text"])
def test_a_secret_is_struck_out_wherever_it_stands(secret: str, fmt: str) -> None:
    """In a value, in a library's sentence, in a traceback, in a nested mapping, under a telling name."""
    out = io.StringIO()
    logs.set_up("DEBUG", fmt, out)
    log = structlog.get_logger("bot.test")
    log.info(
        "called", url=f"postgresql://ann:{secret}@host/db", headers={"Authorization": f"Bearer {secret}"}
    )
    log.info("called", slack_token=secret, values=[secret, (secret,)])
    logging.getLogger("somebody").error("refused %s", secret)
    try:
        raise ValueError(f"bad key {secret}")
    except ValueError:
        log.exception("failed")
    said = out.getvalue()
    assert secret not in said
    assert said.count("***") >= 6
    assert "postgresql://***@host/db" in said


def test_what_people_wrote_is_left_out() -> None:
    """Only its length is told; and SQL errors do not quote the row."""
    out = io.StringIO()
    logs.set_up("INFO", "json", out)
    log = structlog.get_logger("bot.test")
    log.info("asked", text="my salary", question="q_1", messages=[{"content": "my salary"}])
    log.warning(
        "failed", error="UNIQUE constraint failed\n[parameters: ('q_1', 'my salary')]\n(Background on ...)"
    )
    assert "my salary" not in out.getvalue()
    assert "(9 characters)" in out.getvalue()
    assert "q_1" in out.getvalue()


def test_libraries_that_log_payloads_are_kept_from_it() -> None:
    """slack_bolt writes whole events at DEBUG, with what people said, and gives its loggers a level of their own."""
    out = io.StringIO()
    logs.set_up("DEBUG", "json", out)
    for name in ("slack_bolt.AsyncApp", "slack_sdk.web", "openai._base_client", "httpx"):
        library = logging.getLogger(name)
        library.setLevel(logging.DEBUG)
        library.debug("event: %s", {"text": "my salary"})
        library.warning("something is wrong")
    assert "my salary" not in out.getvalue()
    assert out.getvalue().count("something is wrong") == 4
