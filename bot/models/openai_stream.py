"""What a Chat Completions stream tells, in every dialect that we know of. Pure.

Servers differ: usage at the end, in every chunk or never; choices that are null; reasoning beside the answer; other words
for why it ended; one whole answer instead of a stream.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.models.bills import Heard, Usage

LENGTH, FILTER, TOOL, BROKEN, STOP = "length", "content_filter", "tool", "broken", "stop"
_ENDS = {
    "length": LENGTH,
    "max_tokens": LENGTH,
    "model_length": LENGTH,
    "content_filter": FILTER,
    "safety": FILTER,
    "tool_calls": TOOL,
    "function_call": TOOL,
    "tool_use": TOOL,
    "error": BROKEN,
    "abort": BROKEN,
    "cancelled": BROKEN,
    "insufficient_system_resource": BROKEN,
}
"""Other words, such as "stop", "eos", "end_turn" or "stop_sequence", mean that the model had said everything."""


class ToldInStream(Exception):
    """An error that came as a chunk of a stream that had begun well."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__(str(body.get("message") or body))
        self.body = body


@dataclass
class OpenAIHeard(Heard):
    """What a stream has told so far; `end` is None until it says why it ended."""

    logprobs: list[float] = field(default_factory=list)
    refusal: str = ""
    end: str | None = None

    def take(self, chunk: object) -> str:
        """Remember a chunk, or a whole answer; its new text is returned.

        Raises ValueError for what is neither, `ToldInStream` for an error.
        """
        if not isinstance(chunk, dict):
            raise ValueError(f"a chunk is {type(chunk).__name__}")
        if chunk.get("error") or chunk.get("object") == "error":
            raise ToldInStream(_object(chunk.get("error")) or chunk)
        self._count(chunk.get("usage"))
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices:
            return ""
        return self._take_choice(_object(choices[0]))

    def _take_choice(self, choice: Mapping[str, Any]) -> str:
        told = _object(choice.get("delta") or choice.get("message"))
        reason = choice.get("finish_reason")
        if reason:
            self.end = _ENDS.get(str(reason).lower(), STOP)
        self.refusal += _text(told.get("refusal"))
        self.thoughts.append(_text(told.get("reasoning_content")) or _text(told.get("reasoning")))
        for token in _rows(_object(choice.get("logprobs")).get("content")):
            if isinstance(token.get("logprob"), int | float):
                self.logprobs.append(float(token["logprob"]))
        piece = _text(told.get("content"))
        if piece:
            self.pieces.append(piece)
        return piece

    def _count(self, told: object) -> None:
        if not isinstance(told, dict):
            return
        read, written = (
            _object(told.get("prompt_tokens_details")),
            _object(told.get("completion_tokens_details")),
        )
        tokens_in = _tokens(told.get("prompt_tokens"))
        reasoning = _tokens(written.get("reasoning_tokens"))
        # Some servers leave the thinking out of completion_tokens; the total has it everywhere.
        tokens_out = max(
            _tokens(told.get("completion_tokens")), _tokens(told.get("total_tokens")) - tokens_in
        )
        self.usage = Usage(
            tokens_in=tokens_in,
            tokens_cached=_tokens(read.get("cached_tokens")),
            tokens_cache_written=_tokens(read.get("cache_write_tokens")),
            tokens_out=tokens_out,
            tokens_reasoning=min(
                tokens_out, max(reasoning, tokens_out - _tokens(told.get("completion_tokens")))
            ),
        )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    """Text, or the text in a list of parts."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in _rows(value))
    return value if isinstance(value, str) else ""


def _tokens(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
