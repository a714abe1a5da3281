"""Which format a record has, and the pieces that it teaches. Pure; whatever cannot be used says why."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.formats.pieces import Piece, Turns

QUESTION = ("question", "prompt", "instruction", "q", "input")
ANSWER = ("answer", "completion", "short_answer", "response", "a", "output", "top_answer")
LABELS = {"true": True, "1": True, "false": False, "0": False}
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
}  # fmt: skip
TOOLS = "it calls tools, and only text can be learned here; leave such turns out"


class Unusable(Exception):
    """Why a record teaches nothing here."""


def format_of(record: Mapping[str, Any]) -> str:
    """The format's name by the fields that the record has; "qa" where nothing else fits."""
    if "preferred_output" in record:
        return "openai-preference"
    if "contents" in record:
        return "vertex-preference" if "completions" in record else "vertex"
    if "messages" in record:
        return "openai"
    if "conversations" in record or "conversation" in record:
        return "sharegpt"
    if "chosen" in record and "rejected" in record:
        return "trl-preference"
    if "label" in record and "completion" in record and "prompt" in record:
        return "trl-unpaired"
    return "trl" if isinstance(record.get("prompt"), list) else "qa"


def pieces_of(record: Mapping[str, Any], name: str) -> list[Piece]:
    """What the record teaches, read as the format of that name. Raises Unusable."""
    found = SHAPES[name](record)
    if not found:
        raise Unusable("no answer of it is to be learned (each has the weight 0, or there is none)")
    return found


def _chat(record: Mapping[str, Any]) -> list[Piece]:
    """Each assistant turn that is not weighted 0, with everything before it."""
    if record.get("tools") or record.get("functions"):
        raise Unusable(TOOLS)
    return _answered(_listed(record, "messages"), record)


def _answered(turns: Sequence[Any], record: Mapping[str, Any]) -> list[Piece]:
    read = [_turn(each) for each in turns]
    found: list[Piece] = []
    for place, (turn, (role, text)) in enumerate(zip(turns, read, strict=True)):
        if role != "assistant":
            continue
        if turn.get("weight", 1) not in (0, 1):
            raise Unusable("a weight is neither 0 nor 1")
        if turn.get("weight", 1) == 1:
            found.append(_piece(tuple(read[:place]), text, record))
    return found


def _piece(prompt: Turns, answer: str, record: Mapping[str, Any], **more: Any) -> Piece:
    if not prompt or prompt[-1][0] != "user":
        raise Unusable("an answer does not follow a question")
    if any(role == "system" for role, _ in prompt[1:]):
        raise Unusable("a system prompt stands behind the first turn")
    return Piece(prompt, answer, split=str(record.get("split") or ""), **more)


def _turn(turn: Any) -> tuple[str, str]:
    """(role, text) of a turn of OpenAI's, ShareGPT's or Vertex's shape."""
    if not isinstance(turn, Mapping):
        raise Unusable("a turn is not an object")
    given = turn.get("role", turn.get("from"))
    if turn.get("tool_calls") or turn.get("function_call") or given in ("tool", "function", "function_call"):
        raise Unusable(TOOLS)
    role = ROLES.get(str(given).lower())
    if role is None:
        raise Unusable(f"a turn has the role {str(given)[:40]!r}; I know system, user and assistant")
    return role, _text(turn.get("content", turn.get("value", turn.get("parts"))))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        parts = [each.get("text") if isinstance(each, Mapping) else None for each in content]
        texts = [each for each in parts if isinstance(each, str)]
        if len(texts) == len(parts):
            return "".join(texts)
    raise Unusable("a turn holds something that is not text")


def _listed(record: Mapping[str, Any], *names: str) -> Sequence[Any]:
    for name in names:
        value = record.get(name)
        if isinstance(value, list) and value:
            return value
    raise Unusable(f"{names[0]} is not a list with something in it")


def _turns(record: Mapping[str, Any], *names: str) -> Turns:
    return tuple(map(_turn, _listed(record, *names)))


def _openai_preference(record: Mapping[str, Any]) -> list[Piece]:
    given = record.get("input")
    if not isinstance(given, Mapping):
        raise Unusable("input is not an object")
    if given.get("tools"):
        raise Unusable(TOOLS)
    chosen, rejected = _one(record, "preferred_output"), _one(record, "non_preferred_output")
    return [_piece(_turns(given, "messages"), chosen, record, rejected=rejected)]


def _one(record: Mapping[str, Any], name: str) -> str:
    turns = _turns(record, name)
    if len(turns) != 1 or turns[0][0] != "assistant":
        raise Unusable(f"{name} is not one answer")
    return turns[0][1]


def _sharegpt(record: Mapping[str, Any]) -> list[Piece]:
    turns = list(_listed(record, "conversations", "conversation"))
    if isinstance(record.get("system"), str) and record["system"].strip():
        turns.insert(0, {"from": "system", "value": record["system"]})
    return _answered(turns, record)


def _vertex_prompt(record: Mapping[str, Any]) -> list[Any]:
    turns = list(_listed(record, "contents"))
    # The names came in lower case: systemInstruction and system_instruction are the same field.
    system = record.get("systeminstruction", record.get("system_instruction"))
    if isinstance(system, Mapping):
        turns.insert(0, {"role": "system", "parts": system.get("parts")})
    return turns


def _vertex(record: Mapping[str, Any]) -> list[Piece]:
    return _answered(_vertex_prompt(record), record)


def _vertex_preference(record: Mapping[str, Any]) -> list[Piece]:
    scored: dict[float, str] = {}
    for each in _listed(record, "completions"):
        score = each.get("score") if isinstance(each, Mapping) else None
        if not isinstance(score, int | float):
            raise Unusable("a completion has no score")
        scored[float(score)] = _turn(each.get("completion"))[1]
    if set(scored) != {0.0, 1.0}:
        raise Unusable("the completions are not one with score 1 and one with score 0")
    prompt = tuple(map(_turn, _vertex_prompt(record)))
    return [_piece(prompt, scored[1.0], record, rejected=scored[0.0])]


def _prompt(record: Mapping[str, Any]) -> Turns:
    prompt = record.get("prompt")
    return (("user", prompt),) if isinstance(prompt, str) else _turns(record, "prompt")


def _completion(record: Mapping[str, Any], name: str = "completion") -> str:
    value = record.get(name)
    return value if isinstance(value, str) else _one(record, name)


def _trl(record: Mapping[str, Any]) -> list[Piece]:
    return [_piece(_prompt(record), _completion(record), record)]


def _trl_preference(record: Mapping[str, Any]) -> list[Piece]:
    if "prompt" in record:
        chosen, rejected = _completion(record, "chosen"), _completion(record, "rejected")
        return [_piece(_prompt(record), chosen, record, rejected=rejected)]
    liked, other = _turns(record, "chosen"), _turns(record, "rejected")
    if liked[:-1] != other[:-1]:
        raise Unusable("chosen and rejected do not begin with the same turns")
    return [_piece(liked[:-1], liked[-1][1], record, rejected=other[-1][1])]


def _trl_unpaired(record: Mapping[str, Any]) -> list[Piece]:
    label = LABELS.get(str(record.get("label")).lower())
    if label is None:
        raise Unusable("label is neither true nor false")
    return [_piece(_prompt(record), _completion(record), record, liked=label)]


def _pair(record: Mapping[str, Any]) -> list[Piece]:
    question, answer = _first(record, QUESTION), _first(record, ANSWER)
    if question is None or answer is None:
        names, what = (QUESTION, "question") if question is None else (ANSWER, "answer")
        if any(record.get(name) is not None for name in names):
            raise Unusable(f"the {what} is not text")
        raise Unusable(f"no {what} (fields: {', '.join(list(record)[:8]) or 'none'})")
    thread = record.get("thread")
    kept = "" if thread in (None, "") else str(thread)
    return [_piece((("user", question),), answer, record, topic=str(record.get("topic") or ""), thread=kept)]


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((record[name] for name in names if isinstance(record.get(name), str)), None)


SHAPES: dict[str, Callable[[Mapping[str, Any]], list[Piece]]] = {
    "qa": _pair,
    "openai": _chat,
    "openai-preference": _openai_preference,
    "sharegpt": _sharegpt,
    "vertex": _vertex,
    "vertex-preference": _vertex_preference,
    "trl": _trl,
    "trl-preference": _trl_preference,
    "trl-unpaired": _trl_unpaired,
}
