"""Blocks that Slack would refuse are refused, with its words and a pointer; blocks that it takes are taken."""

import json
from pathlib import Path
from typing import Any

import pytest
from workspace_rig import Json

from bot.workspace.block_rules import BLOCK
from bot.workspace.blocks import elements_of, message_problems, view_problems, with_ids
from bot.workspace.interactive import REQUIRED, input_errors, state


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def section(text: str = "hello", **more: Any) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}, **more}


def button(action_id: str = "go", text: str = "Go", **more: Any) -> Json:
    return {"type": "button", "action_id": action_id, "text": plain(text), **more}


def option(number: int) -> Json:
    return {"text": plain(f"Option {number}"), "value": f"v{number}"}


def menu(options: int) -> Json:
    return {"type": "overflow", "action_id": "more", "options": [option(number) for number in range(options)]}


def chart() -> Json:
    series = [{"name": "base", "data": [{"label": "a", "value": 1}]}]
    kind = {"type": "bar", "series": series, "axis_config": {"categories": ["a"]}}
    return {"type": "data_visualization", "title": "F1", "chart": kind}


def data_table(rows: int = 2, text: str = "x") -> Json:
    return {"type": "data_table", "caption": "Scores", "rows": [[{"type": "raw_text", "text": text}]] * rows}


def feedback() -> Json:
    buttons = {"type": "feedback_buttons", "action_id": "rate"}
    for name in ("positive_button", "negative_button"):
        buttons[name] = {"text": plain(name), "value": name}  # type: ignore[assignment]
    return {"type": "context_actions", "elements": [buttons]}


def note(**more: Any) -> Json:
    element = {"type": "plain_text_input", "action_id": "note"}
    return {"type": "input", "block_id": "note-block", "label": plain("Note"), "element": element, **more}


def modal(*blocks: Json, **more: Any) -> Json:
    return {"type": "modal", "title": plain("T"), "submit": plain("Send"), "blocks": list(blocks), **more}


def test_the_rules_agree_with_slacks_types_on_the_sdks_own_blocks(shared_data: Path) -> None:
    """172 blocks from the SDKs' tests: refused where Slack's types refuse, but for types stricter than Slack itself."""
    lines = (shared_data / "slack_schemas" / "blocks_from_sdk_tests.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    differing = [row for row in rows if row["schema_accepts"] != (not list(BLOCK(row["block"], "")))]
    too_strict = [row["block"] for row in differing if row["schema_accepts"]]
    assert [row["block"] for row in differing if row["block"] in too_strict] == [
        {"type": "section", "fields": []}
    ]
    assert len(differing) <= 8
    assert len(rows) == 172


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ([section("x" * 3001)], "must be less than 3001 characters [json-pointer:/blocks/0/text/text]"),
        ([section("")], "must be more than 0 characters [json-pointer:/blocks/0/text/text]"),
        ([{"type": "section"}], "must define either `text` or `fields` [json-pointer:/blocks/0]"),
        ([{"type": "header", "text": plain("h" * 151)}], "must be less than 151 characters"),
        ([{"type": "header", "text": {"type": "mrkdwn", "text": "h"}}], "must be one of: plain_text"),
        ([section(color="red")], "invalid additional property: color [json-pointer:/blocks/0]"),
        ([{"type": "poem"}], "unsupported type: poem [json-pointer:/blocks/0/type]"),
        ([{"text": "x"}], "missing required field: type [json-pointer:/blocks/0]"),
        ("blocks", "must provide an array [json-pointer:/blocks]"),
        (["block"], "must provide an object [json-pointer:/blocks/0]"),
        ([{"type": "divider"}] * 51, "no more than 50 items allowed [json-pointer:/blocks]"),
        (
            [{"type": "actions", "elements": []}],
            "no less than 1 items allowed [json-pointer:/blocks/0/elements]",
        ),
        ([{"type": "actions", "elements": [button(text="t" * 76)]}], "must be less than 76 characters"),
        ([{"type": "actions", "elements": [button(value="v" * 2001)]}], "must be less than 2001 characters"),
        ([{"type": "actions", "elements": [button(), button()]}], "`action_id` go already exists"),
        ([section(block_id="a"), section(block_id="a")], "`block_id` a already exists"),
        ([{"type": "alert", "text": plain("!")}], "not supported on message surfaces"),
        ([{"type": "markdown", "text": "m" * 7000}] * 2, "markdown text must be less than 12001 characters"),
        ([chart(), chart(), chart()], "no more than 2 data_visualization blocks allowed"),
        ([data_table(rows=1)], "no less than 2 items allowed [json-pointer:/blocks/0/rows]"),
        ([data_table(rows=150, text="t" * 200)], "table text must be less than 20001 characters"),
        (
            [{"type": "task_card", "task_id": "1", "title": "t", "status": "pending"}],
            "only plan tasks can be pending",
        ),
        (
            [
                {
                    "type": "actions",
                    "elements": [
                        {"type": "overflow", "action_id": "o", "options": [option(n) for n in range(6)]}
                    ],
                }
            ],
            "no more than 5 items allowed [json-pointer:/blocks/0/elements/0/options]",
        ),
        (
            [{"type": "container", "title": plain("c"), "child_blocks": [{"type": "markdown", "text": "m"}]}],
            "unsupported type: markdown [json-pointer:/blocks/0/child_blocks/0/type]",
        ),
        ([{"type": "image", "alt_text": "a"}], "must define either `image_url` or `slack_file`"),
        (
            [{"type": "actions", "elements": [feedback()["elements"][0]]}],
            "unsupported type: feedback_buttons",
        ),
    ],
)
def test_a_message_that_slack_refuses_is_refused(blocks: Any, sentence: str) -> None:
    """The sentence says what is wrong, the pointer where."""
    assert any(sentence in problem for problem in message_problems(blocks)), message_problems(blocks)


def test_a_message_with_all_that_the_bot_uses_is_taken() -> None:
    """Text, tables, charts, plans, feedback buttons and buttons together."""
    plan = {
        "type": "plan",
        "title": "Run",
        "tasks": [{"task_id": "1", "title": "collect", "status": "pending"}],
    }
    context = {"type": "context", "elements": [{"type": "mrkdwn", "text": "model"}]}
    actions = {"type": "actions", "elements": [button("a", style="primary"), button("b", value="1")]}
    table = {
        "type": "table",
        "rows": [[{"type": "raw_text", "text": "x"}, {"type": "raw_number", "value": 1, "text": "1"}]],
    }
    markdown = {"type": "markdown", "text": "**bold**"}
    divider = {"type": "divider"}
    assert (
        message_problems(
            [plan, context, section(), markdown, divider, table, data_table(), chart(), feedback(), actions]
        )
        == []
    )


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        (modal({"type": "markdown", "text": "m"}), "not supported on modal surfaces"),
        (modal(feedback()), "not supported on modal surfaces"),
        ({"type": "home", "blocks": [feedback()]}, "not supported on home surfaces"),
        ({"type": "modal", "blocks": []}, "missing required field: title [json-pointer:/view]"),
        (modal(title=plain("t" * 25)), "must be less than 25 characters [json-pointer:/view/title/text]"),
        (modal(note(), submit=None), "`submit` is required for modals that contain input blocks"),
        (modal(private_metadata="m" * 3001), "must be less than 3001 characters"),
        (modal(*[{"type": "divider"}] * 101), "no more than 100 items allowed [json-pointer:/view/blocks]"),
        ({"type": "workflow_step", "blocks": []}, "unsupported type: workflow_step"),
        (None, "must provide an object [json-pointer:/view]"),
    ],
)
def test_a_view_that_slack_refuses_is_refused(view: Any, sentence: str) -> None:
    """Surfaces, required parts and limits of modals and the Home tab."""
    assert any(sentence in problem for problem in view_problems(view)), view_problems(view)


def test_stored_blocks_have_ids_and_the_senders_stay_untouched() -> None:
    """What can be clicked can be named, also inside containers, cards and sections."""
    inner = section(accessory={"type": "button", "text": plain("In")})
    blocks: list[Json] = [
        {"type": "container", "title": plain("c"), "child_blocks": [inner]},
        {"type": "actions", "elements": [button()]},
    ]
    stored = with_ids(blocks)
    found = list(elements_of(stored))
    assert [one.element["text"]["text"] for one in found] == ["In", "Go"]
    assert all(one.element["action_id"] and one.block["block_id"] for one in found)
    assert "block_id" not in inner
    assert "action_id" not in inner["accessory"]


@pytest.mark.parametrize(
    ("element", "optional", "given", "complaint"),
    [
        ({"type": "plain_text_input"}, False, "", REQUIRED),
        ({"type": "plain_text_input"}, True, "", None),
        ({"type": "plain_text_input", "initial_value": "kept"}, False, None, None),
        ({"type": "plain_text_input", "min_length": 5}, False, "abc", "Please enter at least 5 characters."),
        (
            {"type": "plain_text_input", "max_length": 2},
            False,
            "abc",
            "Please enter at most 2 characters (there are 3).",
        ),
        (
            {"type": "plain_text_input"},
            False,
            "x" * 3001,
            "Please enter at most 3000 characters (there are 3001).",
        ),
        ({"type": "email_text_input"}, False, "nobody", "Please enter a valid email address."),
        ({"type": "url_text_input"}, False, "nowhere", "Please enter a valid URL."),
        ({"type": "number_input", "is_decimal_allowed": False}, False, "1.5", "Please enter a valid number."),
        (
            {"type": "number_input", "is_decimal_allowed": True, "max_value": "1"},
            False,
            "2",
            "Please enter a number of at most 1.",
        ),
        ({"type": "checkboxes", "options": [option(1)]}, False, [], REQUIRED),
        ({"type": "checkboxes", "options": [option(1)]}, False, ["v1"], None),
        ({"type": "radio_buttons", "options": [option(1)]}, False, None, REQUIRED),
        ({"type": "static_select", "options": [option(1)], "initial_option": option(1)}, False, None, None),
    ],
)
def test_the_client_holds_back_incomplete_forms(
    element: Json, optional: bool, given: Any, complaint: str | None
) -> None:
    """An empty required input never reaches the app; what is prefilled counts as filled in."""
    blocks = [note(element={**element, "action_id": "note"}, optional=optional)]
    values = {} if given is None else {"note-block": {"note": {"value": given}}}
    errors = input_errors(blocks, state(blocks, values))
    assert errors.get("note-block") == complaint
