"""Small checks that can be combined into the rules of Block Kit.

A check takes a value and its JSON pointer and yields sentences as Slack words them, each with the pointer at its end.
Pure; it refuses to know any block.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Problems = Iterator[str]
Check = Callable[[Any, str], Problems]


def problem(sentence: str, pointer: str) -> str:
    return f"{sentence} [json-pointer:{pointer}]"


def string(maximum: int | None = None, *, minimum: int = 0) -> Check:
    def check(value: Any, pointer: str) -> Problems:
        if not isinstance(value, str):
            yield problem("must provide a string", pointer)
        elif len(value) < minimum:
            yield problem(f"must be more than {minimum - 1} characters", pointer)
        elif maximum is not None and len(value) > maximum:
            yield problem(f"must be less than {maximum + 1} characters", pointer)

    return check


def boolean(value: Any, pointer: str) -> Problems:
    if not isinstance(value, bool):
        yield problem("must provide a boolean", pointer)


def number(low: float | None = None, high: float | None = None, *, above: float | None = None) -> Check:
    def check(value: Any, pointer: str) -> Problems:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield problem("must provide a number", pointer)
        elif (low is not None and value < low) or (above is not None and value <= above):
            yield problem(f"must be more than {above if above is not None else low}", pointer)
        elif high is not None and value > high:
            yield problem(f"must be less than {high}", pointer)

    return check


def one_of(*allowed: str) -> Check:
    def check(value: Any, pointer: str) -> Problems:
        if value not in allowed:
            yield problem(f"must be one of: {', '.join(allowed)}", pointer)

    return check


def array(each: Check, low: int = 0, high: int | None = None) -> Check:
    def check(value: Any, pointer: str) -> Problems:
        if not isinstance(value, list):
            yield problem("must provide an array", pointer)
            return
        if len(value) < low:
            yield problem(f"no less than {low} items allowed", pointer)
        if high is not None and len(value) > high:
            yield problem(f"no more than {high} items allowed", pointer)
            return
        for index, item in enumerate(value):
            yield from each(item, f"{pointer}/{index}")

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """An object with these keys and no other; a key whose value is null counts as absent."""

    def check(value: Any, pointer: str) -> Problems:
        if not isinstance(value, dict):
            yield problem("must provide an object", pointer)
            return
        for key in required:
            if value.get(key) is None:
                yield problem(f"missing required field: {key}", pointer)
        for key, held in value.items():
            rule = required.get(key) or optional.get(key)
            if rule is None:
                yield problem(f"invalid additional property: {key}", pointer)
            elif held is not None:
                yield from rule(held, f"{pointer}/{key}")

    return check


def typed(kinds: Mapping[str, Check]) -> Check:
    """An object whose `type` chooses its rule."""

    def check(value: Any, pointer: str) -> Problems:
        if not isinstance(value, dict):
            yield problem("must provide an object", pointer)
        elif "type" not in value:
            yield problem("missing required field: type", pointer)
        elif not isinstance(value["type"], str) or value["type"] not in kinds:
            yield problem(f"unsupported type: {value['type']}", f"{pointer}/type")
        else:
            yield from kinds[value["type"]](value, pointer)

    return check


def either(first: str, second: str) -> Check:
    """Exactly one of two keys."""

    def check(value: Any, pointer: str) -> Problems:
        if isinstance(value, dict) and (value.get(first) is None) == (value.get(second) is None):
            yield problem(f"must define either `{first}` or `{second}`", pointer)

    return check


def at_least_one(*keys: str) -> Check:
    def check(value: Any, pointer: str) -> Problems:
        if isinstance(value, dict) and not any(value.get(key) for key in keys):
            yield problem(f"must define either `{'` or `'.join(keys)}`", pointer)

    return check


def both(*checks: Check) -> Check:
    def check(value: Any, pointer: str) -> Problems:
        for rule in checks:
            yield from rule(value, pointer)

    return check


def later(get: Callable[[], Check]) -> Check:
    """A rule that is defined further down (rules may contain each other)."""

    def check(value: Any, pointer: str) -> Problems:
        yield from get()(value, pointer)

    return check


def anything(value: Any, pointer: str) -> Problems:
    """No rule; for parts whose inside Slack does not document."""
    yield from ()
