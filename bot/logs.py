"""The log: structlog for our own lines and the libraries' alike, on stderr, as JSON or as text.

It holds ids, counts and states. What people wrote is left out by name; keys, tokens and personal data are struck out
wherever they stand, in tracebacks too, by the rules of the store (`storage.redaction`) and by shorter shapes that only a log
need fear; and the libraries that would log whole payloads are kept from it.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from storage.redaction import redact

PRIVATE = frozenset(
    {
        *("text", "question_text", "answer", "answer_text", "content", "messages", "prompt", "completion"),
        *("body", "payload", "blocks", "report"),
    }
)
SECRET_NAMES = re.compile(r"token|secret|password|api_?key|authorization|cookie", re.IGNORECASE)
COUNTS = frozenset({"tokens_in", "tokens_out", "tokens_cached", "max_new_tokens", "tokens_per_s"})
SECRETS = re.compile(
    r"""xox[a-z]-[\w-]+ | xapp-[\w-]+ | xoxe[.\w-]+ | \bsk-[\w-]{8,} | \bAIza[\w-]{20,} | \bhf_\w{10,}
    | (?<=://)[^/\s:@]+:[^/\s@]+(?=@) | (?<=Bearer\ )\S+""",
    re.VERBOSE,
)
PARAMETERS = re.compile(r"\[parameters: .*?\]$", re.DOTALL | re.MULTILINE)
STRUCK = "***"
OURS = frozenset({"timestamp", "level", "logger"})
TALKATIVE = frozenset(
    {
        "slack_bolt",
        "slack_sdk",
        "openai",
        "httpx",
        "httpcore",
        "google_genai",
        "aiohttp",
        "aiosqlite",
        "alembic",
        "asyncio",
        "psycopg",
        "sqlalchemy",
    }
)

Event = MutableMapping[str, Any]


def set_up(level: str, fmt: str, stream: TextIO | None = None) -> None:
    """Send every log line to `stream`, else to stderr. `fmt` is "json", "text", or "auto": text on a terminal."""
    out = stream or sys.stderr
    as_json = fmt == "json" or (fmt == "auto" and not out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        without_private,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    _send_everything_to(out, level, shared, renderer)


def _send_everything_to(out: TextIO, level: str, shared: list[Any], renderer: Any) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_worth_keeping)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)


def _worth_keeping(record: logging.LogRecord) -> bool:
    # On the handler, because slack_bolt gives its own loggers the level of the root, and logs whole payloads at DEBUG.
    return record.levelno >= logging.WARNING or record.name.split(".")[0] not in TALKATIVE


def without_private(_logger: Any, _method: str, event: Event) -> Event:
    """A log line without anybody's words and without secrets."""
    for name, value in list(event.items()):
        if name.startswith("_") or name in OURS:
            continue
        if name in PRIVATE:
            event[name] = f"({len(value)} characters)" if isinstance(value, str) else "(left out)"
        elif SECRET_NAMES.search(name) and name not in COUNTS:
            event[name] = STRUCK
        else:
            event[name] = struck_out(value)
    return event


def struck_out(value: Any) -> Any:
    """A value without keys, tokens, passwords and personal data; SQL errors lose the row they quote."""
    if isinstance(value, str):
        return redact(PARAMETERS.sub("[parameters left out]", SECRETS.sub(STRUCK, value))).text
    if isinstance(value, Mapping):
        return {
            name: STRUCK if SECRET_NAMES.search(str(name)) and name not in COUNTS else struck_out(each)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [struck_out(each) for each in value]
    return value if value is None or isinstance(value, int | float) else struck_out(str(value))
