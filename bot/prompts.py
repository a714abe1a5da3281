"""What a model is given to read. Pure.

The local model sees exactly what it is trained on: the operator's system prompt, if there is one, and the conversation.
An API model has not learned the team's answers, so it is also shown the nearest verified ones.
"""

from collections.abc import Sequence

from storage.values import Message

DEFAULT_API_PROMPT = (
    "You answer the questions of a team in their chat. Be correct, short and kind. Answer in the language of the question. "
    "Where the verified answers below fit, follow them; where you do not know, say so plainly."
)


def for_local(turns: Sequence[Message], *, system: str, instructions: str = "") -> list[Message]:
    """The conversation for the local model; `instructions` are what an admin wrote for the channel."""
    system = _together(system, instructions)
    return [Message("system", system), *turns] if system else list(turns)


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
