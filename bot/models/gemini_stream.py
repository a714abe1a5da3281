"""What a Gemini stream tells, and what the reasons mean for which it gives no answer. Pure.

It reads the SDK's values by name, so that a reason which this release of the SDK does not know is a word like any other.
"""

from dataclasses import dataclass
from typing import Any

from bot.errors import ModelUnavailable, Withheld
from bot.models.bills import Heard, Usage

STOP = "STOP"
_CUT = ("MAX_TOKENS", "CONTINUATION")
_WITHHELD = {
    "SAFETY": "it may touch on something harmful",
    "RECITATION": "it would have repeated a text that may be protected",
    "BLOCKLIST": "it holds a word from a list of blocked words",
    "PROHIBITED_CONTENT": "it may touch on prohibited content",
    "SPII": "it may hold personal data",
    "IMAGE_SAFETY": "it may hold a harmful picture",
    "JAILBREAK": "it looks like an attempt to get around the rules",
    "MODEL_ARMOR": "the organization's own filter stopped it",
    "ESCALATION": "a rule for sensitive questions stopped it",
}
_TOOLS = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS")


@dataclass
class GeminiHeard(Heard):
    """What a stream has told so far. `begun` is set by the first chunk, `blocked` says why the question was refused."""

    begun: bool = False
    finish: str = ""
    blocked: str = ""
    called_tool: bool = False

    def take(self, chunk: Any) -> str:
        """Remember a chunk; its new text, without thoughts, is returned."""
        self.begun = True
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason is not None:
            self.blocked = chunk.prompt_feedback.block_reason.name
        if chunk.usage_metadata is not None:
            self.usage = _usage(chunk.usage_metadata)
        if not chunk.candidates:
            return ""
        candidate = chunk.candidates[0]
        if candidate.finish_reason is not None:
            self.finish = candidate.finish_reason.name
        parts = (candidate.content.parts if candidate.content else None) or []
        self.called_tool = self.called_tool or any(part.function_call is not None for part in parts)
        self.thoughts += [part.text for part in parts if part.text and part.thought]
        piece = "".join(part.text for part in parts if part.text and not part.thought)
        if piece:
            self.pieces.append(piece)
        return piece

    @property
    def ended(self) -> bool:
        """Whether the stream came to its proper end."""
        return bool(self.finish or self.blocked)

    @property
    def cut(self) -> bool:
        """Whether the answer ended because it had become as long as it may."""
        return self.finish in _CUT

    def why_not(self, model: str, max_output_tokens: int) -> ModelUnavailable | None:
        """Why this is no answer; None if it is one."""
        if self.blocked:
            return _withheld(self.blocked, "your question")
        if self.finish in _WITHHELD:
            return _withheld(self.finish, "its answer")
        if self.finish in _TOOLS or self.called_tool:
            words = f"{model} wanted to call a tool instead of answering, and has none here."
            return ModelUnavailable(words, fault=False)
        if self.finish != STOP and not self.cut:
            return ModelUnavailable(f"{model} ended its answer for a reason of its own ({self.finish}).")
        if self.text:
            return None
        if self.cut:
            words = f"{model} spent all {max_output_tokens} tokens on thinking. Raise API_MAX_OUTPUT_TOKENS."
            return ModelUnavailable(words, fault=False)
        return ModelUnavailable(f"{model} gave an empty answer.")


def _withheld(reason: str, what: str) -> Withheld:
    why = _WITHHELD.get(reason, f"it gave {reason} as the reason")
    return Withheld(f"Gemini's safety filter stopped {what}: {why}. Asking in other words may help.")


def _usage(told: Any) -> Usage:
    """Results of tools are billed as input, thoughts as output."""
    thoughts = told.thoughts_token_count or 0
    return Usage(
        tokens_in=(told.prompt_token_count or 0) + (told.tool_use_prompt_token_count or 0),
        tokens_cached=told.cached_content_token_count or 0,
        tokens_out=(told.candidates_token_count or 0) + thoughts,
        tokens_reasoning=thoughts,
    )
