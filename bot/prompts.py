"""What a model is given to read. Pure.

The local model sees what it is trained on: the operator's system prompt, if there is one, and the conversation. Before it,
as earlier turns, stand a few verified answers where the operator wants them; they are the first to go where its context is
full. An API model has not learned the team's answers, so it is shown the nearest verified ones in its system prompt.
"""

from collections.abc import Sequence

from storage.values import Message

DEFAULT_API_PROMPT = (
    "You answer the questions of a team in their chat. Be correct, short and kind. Answer in the language of the question. "
    "Where the verified answers below fit, follow them; where you do not know, say so plainly."
)


def for_local(
    turns: Sequence[Message], *, system: str, verified: Sequence[tuple[str, str]] = (), instructions: str = ""
) -> list[Message]:
    """The conversation for the local model; `instructions` are what an admin wrote for the channel.

    Of the `verified` questions and answers (the nearest first) the nearest stands last, next to the question.
    """
    system = _together(system, instructions)
    return with_examples([*([Message("system", system)] if system else []), *turns], verified)


def with_examples(messages: Sequence[Message], verified: Sequence[tuple[str, str]]) -> list[Message]:
    """The conversation with verified answers before its first turn."""
    shown = [
        message
        for question, answer in reversed(verified)
        for message in (Message("user", question, True), Message("assistant", answer, True))
    ]
    first = next((place for place, message in enumerate(messages) if message.role != "system"), len(messages))
    return [*messages[:first], *shown, *messages[first:]]


def for_api(
    turns: Sequence[Message], *, system: str, verified: Sequence[tuple[str, str]], instructions: str = ""
) -> list[Message]:
    """The conversation for an API model, with the channel's instructions and the nearest verified questions and answers."""
    text = _together(system or DEFAULT_API_PROMPT, instructions)
    if verified:
        known = "\n\n".join(
            f"Question: {question}\nVerified answer: {answer}" for question, answer in verified
        )
        text = f"{text}\n\nVerified questions and answers of this team:\n\n{known}"
    return [Message("system", text), *turns]


def _together(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())
