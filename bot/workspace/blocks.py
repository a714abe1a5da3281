"""Whether Slack would take these blocks, and what is inside them.

`message_problems` and `view_problems` say what Slack would refuse, in its words; the tables are in `block_rules`, the
surfaces and totals come from slackblocks. The rest finds the interactive elements of stored blocks. Pure.
"""

import copy
import random
import string
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from slackblocks import _limits as limit
from slackblocks._surfaces import BlockSurface, validate_surface_blocks
from slackblocks.errors import InvalidUsageError

from bot.workspace.block_rules import MESSAGE_BLOCKS, VIEW
from bot.workspace.rules import problem
from bot.workspace.state import Json

ID_LETTERS: Final = string.ascii_letters + string.digits


def message_problems(blocks: Any, *, charts: bool = True) -> list[str]:
    """Why chat.postMessage answers `invalid_blocks`; empty when it takes them. `charts`: they are rolled out here."""
    found = list(MESSAGE_BLOCKS(blocks, "/blocks"))
    if not found and not charts:
        found = [
            problem("unsupported type: data_visualization", f"/blocks/{index}/type")
            for index, block in enumerate(blocks)
            if block["type"] == "data_visualization"
        ]
    return found or [*_surface_problems(blocks, "message", "/blocks"), *_total_problems(blocks)]


def view_problems(view: Any) -> list[str]:
    """Why views.open and its sisters answer `invalid_arguments`; empty when they take the view."""
    found = list(VIEW(view, "/view"))
    if found:
        return found
    found = list(_surface_problems(view["blocks"], cast(BlockSurface, view["type"]), "/view/blocks"))
    has_input = any(block["type"] == "input" for block in view["blocks"])
    if view["type"] == "modal" and has_input and not view.get("submit"):
        found.append(problem("`submit` is required for modals that contain input blocks", "/view"))
    return found


def _surface_problems(blocks: list[Json], surface: BlockSurface, pointer: str) -> Iterator[str]:
    for index, block in enumerate(blocks):
        try:
            validate_surface_blocks([block], surface)
        except InvalidUsageError as refused:
            reason = str(refused).removeprefix("blocks[0] ")
            yield problem(f"unsupported on this surface: {reason}", f"{pointer}/{index}/type")
        yield from _nested_task_problems(block, f"{pointer}/{index}")
    yield from _repeated((block.get("block_id") for block in blocks), "block_id", pointer)
    for index, block in enumerate(blocks):
        ids = (found.element.get("action_id") for found in elements_of([block]))
        yield from _repeated(ids, "action_id", f"{pointer}/{index}")


def _nested_task_problems(block: Json, pointer: str) -> Iterator[str]:
    if block["type"] == "plan":
        yield from _repeated((task["task_id"] for task in block.get("tasks", [])), "task_id", pointer)
    if block["type"] in ("table", "data_table") and len({len(row) for row in block["rows"]}) > 1:
        yield problem("all rows must have the same number of columns", f"{pointer}/rows")


def _repeated(ids: Iterable[str | None], what: str, pointer: str) -> Iterator[str]:
    for id_, times in Counter(id_ for id_ in ids if id_).items():
        if times > 1:
            yield problem(f"`{what}` {id_} already exists", pointer)


def _total_problems(blocks: list[Json]) -> Iterator[str]:
    everything = list(_flat(blocks))
    charts = sum(block["type"] == "data_visualization" for block in everything)
    if charts > limit.MESSAGE_DATA_VISUALIZATIONS_MAX_ITEMS:
        yield problem("no more than 2 data_visualization blocks allowed", "/blocks")
    markdown = sum(len(block["text"]) for block in everything if block["type"] == "markdown")
    if markdown > limit.MARKDOWN_TOTAL_TEXT_MAX_LENGTH:
        yield problem(
            f"markdown text must be less than {limit.MARKDOWN_TOTAL_TEXT_MAX_LENGTH + 1} characters",
            "/blocks",
        )
    tables = sum(text_length(block["rows"]) for block in everything if block["type"] == "data_table")
    if tables > limit.DATA_TABLE_TOTAL_CONTENT_MAX_LENGTH:
        yield problem(
            f"table text must be less than {limit.DATA_TABLE_TOTAL_CONTENT_MAX_LENGTH + 1} characters",
            "/blocks",
        )


def slack_files(value: Any, pointer: str) -> Iterator[tuple[str, Json]]:
    """Every `slack_file` inside, however deep, with its JSON pointer."""
    if isinstance(value, dict):
        for key, held in value.items():
            if key == "slack_file":
                yield f"{pointer}/{key}", held
            else:
                yield from slack_files(held, f"{pointer}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from slack_files(item, f"{pointer}/{index}")


def _flat(blocks: list[Json]) -> Iterator[Json]:
    for block in blocks:
        yield block
        yield from _flat(block.get("child_blocks", []))


def text_length(value: Any) -> int:
    """All characters under a key `text`, however deep."""
    if isinstance(value, dict):
        return sum(
            len(held) if key == "text" and isinstance(held, str) else text_length(held)
            for key, held in value.items()
        )
    return sum(map(text_length, value)) if isinstance(value, list) else 0


def with_ids(blocks: list[Json]) -> list[Json]:
    """A copy in which every block has a block_id and every interactive element an action_id, as Slack stores them."""
    stored = copy.deepcopy(blocks)
    for block in _flat(stored):
        block.setdefault("block_id", random_id())
    for found in elements_of(stored):
        found.element.setdefault("action_id", random_id())
    return stored


def random_id() -> str:
    return "".join(random.choices(ID_LETTERS, k=5))


def has_private_parts(blocks: list[Json]) -> bool:
    """Whether some button is meant for certain people only."""
    return any("visible_to_user_ids" in found.element for found in elements_of(blocks))


def seen_blocks(blocks: list[Json], user: str) -> list[Json]:
    """The blocks without the elements whose `visible_to_user_ids` leaves this person out; an emptied row goes too."""
    seen = []
    for block in blocks:
        shown = dict(block)
        for key in ("elements", "actions"):
            if isinstance(block.get(key), list):
                shown[key] = [one for one in block[key] if _may_see(one, user)]
        if block.get("elements") and not shown["elements"]:
            continue
        if not _may_see(block.get("accessory"), user):
            del shown["accessory"]
        if "child_blocks" in block:
            shown["child_blocks"] = seen_blocks(block["child_blocks"], user)
        seen.append(shown)
    return seen


def _may_see(element: Any, user: str) -> bool:
    return not isinstance(element, dict) or user in element.get("visible_to_user_ids", [user])


@dataclass(frozen=True)
class Interactive:
    """An element people can use, and the block it is in."""

    block: Json
    element: Json


def elements_of(blocks: list[Json]) -> Iterator[Interactive]:
    """Every interactive element, in reading order."""
    for block in blocks:
        yield from (
            Interactive(block, element) for element in _own_elements(block) if element["type"] != "image"
        )
        if block["type"] == "carousel":
            yield from elements_of(block["elements"])
        yield from elements_of(block.get("child_blocks", []))


def _own_elements(block: Json) -> list[Json]:
    if block["type"] in ("actions", "context_actions"):
        return list(block["elements"])
    if block["type"] == "card":
        return list(block.get("actions", []))
    held = block.get("element") if block["type"] == "input" else block.get("accessory")
    return [held] if held else []
