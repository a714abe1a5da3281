"""What people do with blocks, as Slack's client reports it: one action, the state of all inputs, what is missing.

Pure. It refuses an action whose element is not there, an option that is not offered and an input Slack's client would
not let through.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from bot.workspace.blocks import Interactive, elements_of
from bot.workspace.refused import Refused
from bot.workspace.state import Json

StateValues = dict[str, dict[str, Json]]

VALUE_KEYS: Final = {
    "plain_text_input": "value",
    "email_text_input": "value",
    "url_text_input": "value",
    "number_input": "value",
    "rich_text_input": "rich_text_value",
    "static_select": "selected_option",
    "external_select": "selected_option",
    "radio_buttons": "selected_option",
    "overflow": "selected_option",
    "checkboxes": "selected_options",
    "multi_static_select": "selected_options",
    "multi_external_select": "selected_options",
    "users_select": "selected_user",
    "multi_users_select": "selected_users",
    "conversations_select": "selected_conversation",
    "multi_conversations_select": "selected_conversations",
    "channels_select": "selected_channel",
    "multi_channels_select": "selected_channels",
    "datepicker": "selected_date",
    "timepicker": "selected_time",
    "datetimepicker": "selected_date_time",
    "file_input": "files",
}
INITIAL_KEYS: Final = {
    key: f"initial_{key.removeprefix('selected_')}"
    for key in VALUE_KEYS.values()
    if key.startswith("selected_")
} | {"value": "initial_value", "rich_text_value": "initial_value"}
LISTS: Final = {"selected_options", "selected_users", "selected_conversations", "selected_channels", "files"}
REQUIRED: Final = "Please complete this required field."
EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
WEB_ADDRESS: Final = re.compile(r"https?://\S+")
NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?")


def find(blocks: list[Json], action_id: str, *, block_id: str | None, value: Any) -> Interactive:
    """The element with this action_id. Several with one id are told apart by block_id or by the value they carry.

    Raises Refused: action_not_found, ambiguous_action.
    """
    found = [
        one
        for one in elements_of(blocks)
        if one.element.get("action_id") == action_id and block_id in (None, one.block["block_id"])
    ]
    if len(found) > 1 and value is not None:
        found = [one for one in found if one.element.get("value") == value] or found
    if not found:
        raise Refused("action_not_found", detail=f"No element here has action_id {action_id}.")
    if len(found) > 1:
        raise Refused(
            "ambiguous_action", detail=f"{len(found)} elements have action_id {action_id}; name the block_id."
        )
    return found[0]


def action(found: Interactive, given: Mapping[str, Any], *, action_ts: str) -> Json:
    """`actions[0]` of a block_actions payload. `given` has the page's `value`, `selected_option`, ..."""
    element = found.element
    kind = element["type"]
    if found.block["type"] == "input" and not found.block.get("dispatch_action"):
        raise Refused("not_dispatched", detail="This input reports only when the modal is submitted.")
    told: Json = {"type": kind, "action_id": element["action_id"], "block_id": found.block["block_id"]}
    if kind in VALUE_KEYS:
        told[VALUE_KEYS[kind]] = chosen(element, given)
        told |= {key: element[key] for key in ("placeholder",) if key in element}
    elif kind == "feedback_buttons":
        told |= _feedback(element, given.get("value"))
    else:
        told |= {
            key: element[key]
            for key in ("text", "value", "style", "icon", "url", "confirm")
            if key in element
        }
    return {**told, "action_ts": action_ts}


def _feedback(element: Json, value: Any) -> Json:
    for button in (element["positive_button"], element["negative_button"]):
        if button["value"] == value:
            return {"text": button["text"], "value": value}
    raise Refused("invalid_value", detail=f"{value!r} is the value of neither feedback button.")


def chosen(element: Json, given: Mapping[str, Any]) -> Any:
    """What the person picked, as Slack sends it: offered options whole, null (or []) for nothing.

    `given` may carry the final key (`selected_option: {value}`) or, for short, `value`.
    """
    key = VALUE_KEYS[element["type"]]
    picked = given.get(key, given.get("value"))
    if key in LISTS and not isinstance(picked, list | None):
        raise Refused("invalid_arguments", detail=f"{element['action_id']} takes a list.")
    if key == "selected_options":
        return [_offered(element, one) for one in picked or []]
    if key == "selected_option":
        return None if picked is None else _offered(element, picked)
    if key in LISTS:
        return picked or []
    if key == "value":
        return None if picked in (None, "") else str(picked)
    return picked


def _offered(element: Json, picked: Any) -> Json:
    value = picked.get("value") if isinstance(picked, dict) else picked
    groups = [*element.get("option_groups", []), element]
    for option in (option for group in groups for option in group.get("options", [])):
        if option.get("value") == value:
            return dict(option)
    if element["type"].endswith("external_select") and isinstance(picked, dict):
        return picked
    raise Refused("invalid_option", detail=f"{value!r} is not among the options of {element['action_id']}.")


def state(blocks: list[Json], values: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> StateValues:
    """`state.values` of a view or message: what people chose, else what the element starts with."""
    held: StateValues = {}
    for one in elements_of(blocks):
        kind, action_id, block_id = one.element["type"], one.element["action_id"], one.block["block_id"]
        if kind not in VALUE_KEYS or kind == "overflow":
            continue
        key = VALUE_KEYS[kind]
        given = values.get(block_id, {}).get(action_id)
        start = one.element.get(INITIAL_KEYS.get(key, ""), [] if key in LISTS else None)
        value = start if given is None else chosen(one.element, given)
        held.setdefault(block_id, {})[action_id] = {"type": kind, key: value}
    return held


def input_errors(blocks: list[Json], values: StateValues) -> dict[str, str]:
    """What Slack's client refuses to submit: block_id -> what is wrong with it."""
    errors: dict[str, str] = {}
    for one in elements_of(blocks):
        if one.block["type"] != "input":
            continue
        held = values[one.block["block_id"]][one.element["action_id"]]
        complaint = _complaint(
            one.element, held[VALUE_KEYS[held["type"]]], optional=bool(one.block.get("optional"))
        )
        if complaint:
            errors[one.block["block_id"]] = complaint
    return errors


def _complaint(element: Json, value: Any, *, optional: bool) -> str | None:
    if value in (None, "", []):
        return None if optional else REQUIRED
    kind = element["type"]
    if kind == "plain_text_input":
        return _length_complaint(element, value)
    if kind == "email_text_input" and not EMAIL.fullmatch(value):
        return "Please enter a valid email address."
    if kind == "url_text_input" and not WEB_ADDRESS.fullmatch(value):
        return "Please enter a valid URL."
    return _number_complaint(element, value) if kind == "number_input" else None


def _length_complaint(element: Json, value: str) -> str | None:
    least, most = int(element.get("min_length") or 0), int(element.get("max_length") or 3000)
    if len(value) < least:
        return f"Please enter at least {least} characters."
    if len(value) > most:
        return f"Please enter at most {most} characters (there are {len(value)})."
    return None


def _number_complaint(element: Json, value: str) -> str | None:
    if not NUMBER.fullmatch(value) or ("." in value and not element.get("is_decimal_allowed")):
        return "Please enter a valid number."
    if element.get("min_value") is not None and float(value) < float(element["min_value"]):
        return f"Please enter a number of at least {element['min_value']}."
    if element.get("max_value") is not None and float(value) > float(element["max_value"]):
        return f"Please enter a number of at most {element['max_value']}."
    return None
