"""How a conversation becomes the text a model is trained on; the local model must read exactly the same. Needs no torch.

The tokenizer's own chat template is used. Where a base model has none, `PLAIN_CHAT_TEMPLATE` stands in.
"""

from collections.abc import Sequence
from typing import Any, Protocol

PLAIN_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n"
    "{% elif message['role'] == 'user' %}Question: {{ message['content'] }}\n"
    "{% else %}Answer: {{ message['content'] }}{{ eos_token }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)
"""For base models that come without a chat template."""

Turn = dict[str, str]


class Tokenizer(Protocol):
    """As much of a transformers tokenizer as is needed here."""

    eos_token: str | None
    all_special_tokens: list[str]

    def apply_chat_template(self, conversation: Sequence[Turn], **options: Any) -> Any:
        """The conversation as text."""

    def __call__(self, text: str, **options: Any) -> Any:
        """The text as token ids."""


def prompt_and_answer(tokenizer: Tokenizer, messages: Sequence[Turn]) -> tuple[list[int], list[int]]:
    """Token ids of everything up to the assistant's last turn, and of that turn with the token that ends it.

    They are tokenized apart, because that is how they meet when the model answers: first the prompt, then token by token.
    """
    try:
        prompt, answer = _texts(tokenizer, list(messages))
    except Exception as refused:  # jinja2's TemplateError; jinja2 itself comes with transformers only
        if type(refused).__name__ not in {"TemplateError", "UndefinedError"}:
            raise
        prompt, answer = _texts(tokenizer, merged(messages))
    return _ids(tokenizer, prompt), _ids(tokenizer, answer)


def _texts(tokenizer: Tokenizer, messages: list[Turn]) -> tuple[str, str]:
    prompt = str(tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    # Some templates rewrite earlier turns once there is an answer; then the answer itself is all that can be told apart.
    answer = whole[len(prompt) :].rstrip() if whole.startswith(prompt) else messages[-1]["content"]
    if not answer.endswith(tuple(tokenizer.all_special_tokens)):
        answer += tokenizer.eos_token or ""
    return prompt, answer


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def merged(messages: Sequence[Turn]) -> list[Turn]:
    """The conversation for templates that know no system role and want people and assistant to alternate."""
    plain: list[Turn] = []
    for message in messages:
        role = "user" if message["role"] == "system" else message["role"]
        if plain and plain[-1]["role"] == role:
            plain[-1] = {"role": role, "content": f"{plain[-1]['content']}\n\n{message['content']}"}
        else:
            plain.append({"role": role, "content": message["content"]})
    return plain
