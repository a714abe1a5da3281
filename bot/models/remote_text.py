"""What a server is asked to read of a conversation, and what its refusals mean in words for the operator. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bot.errors import ModelUnavailable, PublicError
from bot.models.local_text import without_oldest
from storage.values import Message

FLAGS = "--enable-lora --max-lora-rank 64 and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's --max-lora-rank takes

_TURN_TOKENS, _TEMPLATE_TOKENS = 16, 64  # at most, of what a chat template writes around words
_BYTES_PER_TOKEN = 3  # of text, where the server does not count
_RANK = re.compile(r"rank (\d+) is greater than max_lora_rank\D*(\d+)", re.IGNORECASE)


class Complaint(Exception):
    """The server answered with an error; `status` is HTTP's, 0 where it came in the middle of a stream."""

    def __init__(self, status: int, said: str, param: str | None = None) -> None:
        super().__init__(said)
        self.status = status
        self.said = said
        self.param = param


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """Where adapters lie: for us `here`, and for the server `there`."""

    here: Path = Path("/")
    there: str = "/"

    def seen(self, path: Path) -> str:
        """The path of one of them as the server knows it; one that lies elsewhere keeps its path."""
        whole, here = path.absolute(), self.here.absolute()
        if not whole.is_relative_to(here):
            return str(whole)
        return str(PurePosixPath(self.there, *whole.relative_to(here).parts))


@dataclass(frozen=True, slots=True)
class Cut:
    """As much of a conversation as fits, and the most tokens that the answer may take."""

    messages: Sequence[Message]
    max_tokens: int


def shorter_and_shorter(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """The conversation, then without its oldest turns one after the other; system and last message always stay."""
    system = [message for message in messages[:-1] if message.role == "system"]
    turns = [message for message in messages[:-1] if message.role != "system"]
    shorter: list[Sequence[Message]] = [messages]
    while turns:
        turns = without_oldest(turns)
        shorter.append([*system, *turns, messages[-1]])
    return shorter


def tokens_at_most(messages: Sequence[Message]) -> int:
    """Tokens that a conversation has at most: no tokenizer makes more than one of a byte."""
    return _bytes(messages) + _TURN_TOKENS * len(messages) + _TEMPLATE_TOKENS


def tokens_about(messages: Sequence[Message]) -> int:
    """Tokens that it has roughly."""
    return _bytes(messages) // _BYTES_PER_TOKEN + _TURN_TOKENS * len(messages)


def _bytes(messages: Sequence[Message]) -> int:
    return sum(len(message.content.encode()) for message in messages)


def refused(server: str, complaint: Complaint) -> ModelUnavailable:
    """Why a question was not answered, and what to do about it."""
    if complaint.status in (401, 403):
        return ModelUnavailable(
            f"{server} refuses the key. Set LOCAL_ENGINE_KEY to the one that it was started with (--api-key)."
        )
    if complaint.status == 404:
        return ModelUnavailable(
            f"{server} has no such address ({complaint.said[:100]}). LOCAL_ENGINE_URL usually ends with /v1."
        )
    if complaint.status == 429:
        return ModelUnavailable(f"{server} limits how fast it may be asked.")
    if complaint.status == 0 or complaint.status >= 500:
        return ModelUnavailable(f"{server} is out of order: {complaint.said[:200]}")
    return ModelUnavailable(f"{server} does not accept the question: {complaint.said[:200]}", fault=False)


def not_loaded(server: str, complaint: Complaint, where: str) -> PublicError | ModelUnavailable:
    """Why an adapter was not loaded: with the remedy, or where the server itself is the trouble, as for a question."""
    said = complaint.said
    if complaint.status in (401, 403, 429) or "EngineCore" in said:
        return refused(server, complaint)
    if "not enabled" in said:
        return PublicError(
            f"{server} was started without LoRA, so no tuned version can answer there. Start it with {FLAGS}."
        )
    if (rank := _RANK.search(said)) is not None:
        return PublicError(
            f"The adapter {where} has rank {rank[1]}, and {server[0].lower()}{server[1:]} takes at most {rank[2]}. "
            f"Start it with --max-lora-rank {_enough(int(rank[1]))}."
        )
    if "No adapter found" in said or "No such file" in said:
        return PublicError(
            f"{server} finds no adapter at {where}. Let it see our DATA_DIR/models, and set LOCAL_ADAPTERS_PATH to "
            "where it sees that folder."
        )
    if complaint.status in (404, 405, 501):
        return PublicError(
            f"{server} loads no adapters while it runs, so no tuned version can answer there. "
            f"Start vLLM with {FLAGS}."
        )
    return PublicError(f"{server} could not load the adapter {where}: {said[:300]}")


def not_served(server: str, model: str, names: Sequence[str]) -> ModelUnavailable:
    """The base model is not there under its name."""
    remedy = f"Set LOCAL_MODEL to one of {', '.join(sorted(names))}." if names else "Correct LOCAL_MODEL."
    return ModelUnavailable(f"{server} does not serve LOCAL_MODEL={model}. {remedy}")


def _enough(rank: int) -> int:
    return next((each for each in RANKS if each >= rank), rank)
