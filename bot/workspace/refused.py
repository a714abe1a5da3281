"""How the workspace says no: Slack's error code, and what Slack sends along with it."""

from typing import Any


class Refused(Exception):
    """`code` is Slack's error (`channel_not_found`); `more` are further keys of the answer (`errors`, `detail`)."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code = code
        self.more = more


def refused_for(code: str, problems: list[str]) -> Refused:
    """With the reasons, where Slack puts them."""
    messages = [f"[ERROR] {sentence}" for sentence in problems]
    return Refused(code, errors=problems, response_metadata={"messages": messages})
