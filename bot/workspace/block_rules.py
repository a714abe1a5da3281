"""The rules of Block Kit as tables: every block and view, with slackblocks' registry of limits.

Keys and required keys follow the types of @slack/types 3.2.0, limits `slackblocks._limits`. It refuses to know
surfaces and totals; `bot.workspace.blocks` adds those.
"""

from typing import Final

from slackblocks import _limits as limit

from bot.workspace.element_rules import (
    BLOCK_ID,
    ELEMENTS,
    IMAGE_ELEMENT,
    IN_CONTEXT_ACTIONS,
    NOT_IN_INPUTS,
    SLACK_FILE,
    TEXT_INPUTS,
    TYPE,
    plain,
    text,
)
from bot.workspace.rules import (
    Check,
    anything,
    array,
    at_least_one,
    boolean,
    both,
    either,
    later,
    number,
    one_of,
    record,
    string,
    typed,
)


def only(*kinds: str) -> Check:
    """One of these elements."""
    return typed({kind: ELEMENTS[kind] for kind in kinds})


MENUS: Final = [kind for kind in ELEMENTS if kind not in TEXT_INPUTS and kind not in IN_CONTEXT_ACTIONS]
INLINE: Final = anything
RICH_TEXT_PARTS: Final[dict[str, Check]] = {
    "rich_text_section": record({**TYPE, "elements": array(INLINE)}, {}),
    "rich_text_list": record(
        {**TYPE, "elements": array(anything)},
        {
            "style": one_of("bullet", "ordered"),
            "indent": number(0, 8),
            "offset": number(0),
            "border": number(0, 1),
        },
    ),
    "rich_text_quote": record({**TYPE, "elements": array(INLINE)}, {"border": number(0, 1)}),
    "rich_text_preformatted": record(
        {**TYPE, "elements": array(INLINE)}, {"border": number(0, 1), "language": string()}
    ),
}
RICH_TEXT: Final = record({**TYPE, "elements": array(typed(RICH_TEXT_PARTS))}, BLOCK_ID)
RAW_TEXT: Final = record({**TYPE, "text": string()}, {})
CELLS: Final[dict[str, Check]] = {
    "raw_text": RAW_TEXT,
    "raw_number": record({**TYPE, "value": number(), "text": string(minimum=1)}, {}),
    "rich_text": RICH_TEXT,
}
DATA_CELLS: Final = {
    **CELLS,
    "raw_text": record({**TYPE, "text": string(minimum=limit.DATA_TABLE_CELL_TEXT_MIN_LENGTH)}, {}),
}
POINT: Final = record(
    {"label": string(limit.DATA_VISUALIZATION_POINT_LABEL_MAX_LENGTH, minimum=1), "value": number()}, {}
)
SERIES: Final = record(
    {
        "name": string(limit.DATA_VISUALIZATION_SERIES_NAME_MAX_LENGTH, minimum=1),
        "data": array(
            POINT, limit.DATA_VISUALIZATION_DATA_MIN_ITEMS, limit.DATA_VISUALIZATION_DATA_MAX_ITEMS
        ),
    },
    {},
)
AXES: Final = record(
    {
        "categories": array(
            string(limit.DATA_VISUALIZATION_CATEGORY_LABEL_MAX_LENGTH, minimum=1),
            limit.DATA_VISUALIZATION_CATEGORIES_MIN_ITEMS,
            limit.DATA_VISUALIZATION_CATEGORIES_MAX_ITEMS,
        )
    },
    {
        "x_label": string(limit.DATA_VISUALIZATION_AXIS_LABEL_MAX_LENGTH),
        "y_label": string(limit.DATA_VISUALIZATION_AXIS_LABEL_MAX_LENGTH),
    },
)
AXIS_CHART: Final = record(
    {
        **TYPE,
        "series": array(
            SERIES, limit.DATA_VISUALIZATION_SERIES_MIN_ITEMS, limit.DATA_VISUALIZATION_SERIES_MAX_ITEMS
        ),
        "axis_config": AXES,
    },
    {},
)
SEGMENT: Final = record(
    {
        "label": string(limit.DATA_VISUALIZATION_SEGMENT_LABEL_MAX_LENGTH, minimum=1),
        "value": number(above=limit.DATA_VISUALIZATION_SEGMENT_VALUE_EXCLUSIVE_MIN),
    },
    {},
)
CHARTS: Final[dict[str, Check]] = {
    "pie": record(
        {
            **TYPE,
            "segments": array(
                SEGMENT,
                limit.DATA_VISUALIZATION_SEGMENTS_MIN_ITEMS,
                limit.DATA_VISUALIZATION_SEGMENTS_MAX_ITEMS,
            ),
        },
        {},
    ),
    **dict.fromkeys(("bar", "line", "area"), AXIS_CHART),
}
SOURCE: Final = record({"type": one_of("url"), "url": string(minimum=1), "text": string(minimum=1)}, {})
TASK: Final[dict[str, Check]] = {
    "task_id": string(minimum=1),
    "title": string(minimum=1),
    "status": one_of("pending", "in_progress", "complete", "error"),
}
TASK_MORE: Final[dict[str, Check]] = {"details": RICH_TEXT, "output": RICH_TEXT, "sources": array(SOURCE)}


def block(required: dict[str, Check], optional: dict[str, Check]) -> Check:
    return record({**TYPE, **required}, {**BLOCK_ID, **optional})


IMAGE_BLOCK: Final = both(
    either("image_url", "slack_file"),
    block(
        {"alt_text": string(limit.IMAGE_ALT_TEXT_MAX_LENGTH, minimum=1)},
        {
            "image_url": string(limit.IMAGE_IMAGE_URL_MAX_LENGTH, minimum=1),
            "slack_file": SLACK_FILE,
            "title": plain(limit.IMAGE_TITLE_MAX_LENGTH),
        },
    ),
)
SECTION: Final = both(
    at_least_one("text", "fields"),
    block(
        {},
        {
            "text": text(limit.SECTION_TEXT_MAX_LENGTH),
            "fields": array(text(limit.SECTION_FIELDS_ITEM_MAX_LENGTH), 0, limit.SECTION_FIELDS_MAX_ITEMS),
            "accessory": typed({**{kind: ELEMENTS[kind] for kind in MENUS}, "image": IMAGE_ELEMENT}),
            "expand": boolean,
        },
    ),
)
CARD: Final = both(
    at_least_one("hero_image", "title", "actions", "body"),
    block(
        {},
        {
            "hero_image": IMAGE_ELEMENT,
            "icon": IMAGE_ELEMENT,
            "title": text(limit.CARD_TITLE_MAX_LENGTH),
            "subtitle": text(limit.CARD_SUBTITLE_MAX_LENGTH),
            "body": text(limit.CARD_BODY_MAX_LENGTH),
            "subtext": text(limit.CARD_SUBTEXT_MAX_LENGTH),
            "slack_icon": anything,
            "actions": array(only("button", "workflow_button"), 1, limit.CARD_ACTIONS_MAX_ITEMS),
        },
    ),
)
NOT_IN_CONTAINERS: Final = {"markdown", "container", "alert", "plan", "task_card"}
BLOCKS: Final[dict[str, Check]] = {
    "actions": block(
        {"elements": array(only(*MENUS, "rich_text_input"), 1, limit.ACTIONS_ELEMENTS_MAX_ITEMS)}, {}
    ),
    "alert": block(
        {"text": text(limit.ALERT_TEXT_MAX_LENGTH)},
        {"level": one_of("default", "info", "warning", "error", "success")},
    ),
    "card": CARD,
    "carousel": block(
        {"elements": array(CARD, limit.CAROUSEL_ELEMENTS_MIN_ITEMS, limit.CAROUSEL_ELEMENTS_MAX_ITEMS)}, {}
    ),
    "container": block(
        {
            "child_blocks": array(
                later(
                    lambda: typed(
                        {kind: rule for kind, rule in BLOCKS.items() if kind not in NOT_IN_CONTAINERS}
                    )
                ),
                limit.CONTAINER_CHILD_BLOCKS_MIN_ITEMS,
                limit.CONTAINER_CHILD_BLOCKS_MAX_ITEMS,
            )
        },
        {
            "title": plain(limit.CONTAINER_TITLE_MAX_LENGTH),
            "rich_text_title": RICH_TEXT,
            "subtitle": text(limit.CONTAINER_SUBTITLE_MAX_LENGTH),
            "icon": anything,
            "width": one_of("narrow", "standard", "wide", "full"),
            "is_collapsible": boolean,
            "default_collapsed": boolean,
            "has_header_divider": boolean,
        },
    ),
    "context": block(
        {
            "elements": array(
                typed({"image": IMAGE_ELEMENT, "plain_text": text(), "mrkdwn": text()}),
                1,
                limit.CONTEXT_ELEMENTS_MAX_ITEMS,
            )
        },
        {},
    ),
    "context_actions": block(
        {"elements": array(only(*IN_CONTEXT_ACTIONS), 1, limit.CONTEXT_ACTIONS_ELEMENTS_MAX_ITEMS)}, {}
    ),
    "data_table": block(
        {
            "caption": string(minimum=1),
            "rows": array(
                array(
                    typed(DATA_CELLS), limit.DATA_TABLE_COLUMNS_MIN_ITEMS, limit.DATA_TABLE_COLUMNS_MAX_ITEMS
                ),
                limit.DATA_TABLE_ROWS_MIN_ITEMS,
                limit.DATA_TABLE_ROWS_MAX_ITEMS,
            ),
        },
        {
            "page_size": number(limit.DATA_TABLE_PAGE_SIZE_MIN, limit.DATA_TABLE_PAGE_SIZE_MAX),
            "row_header_column_index": number(limit.DATA_TABLE_ROW_HEADER_COLUMN_INDEX_MIN),
        },
    ),
    "data_visualization": block(
        {"title": string(limit.DATA_VISUALIZATION_TITLE_MAX_LENGTH, minimum=1), "chart": typed(CHARTS)}, {}
    ),
    "divider": block({}, {}),
    "file": block({"external_id": string(minimum=1), "source": one_of("remote")}, {}),
    "header": block({"text": plain(limit.HEADER_TEXT_MAX_LENGTH)}, {"level": number(1, 4)}),
    "image": IMAGE_BLOCK,
    "input": block(
        {
            "label": plain(limit.INPUT_LABEL_MAX_LENGTH),
            "element": typed({kind: rule for kind, rule in ELEMENTS.items() if kind not in NOT_IN_INPUTS}),
        },
        {"hint": plain(limit.INPUT_HINT_MAX_LENGTH), "optional": boolean, "dispatch_action": boolean},
    ),
    "markdown": block({"text": string(limit.MARKDOWN_TEXT_MAX_LENGTH, minimum=1)}, {}),
    "plan": block(
        {"title": string(minimum=1)},
        {"tasks": array(record(TASK, {**TYPE, **BLOCK_ID, **TASK_MORE}), 0, limit.PLAN_TASKS_MAX_ITEMS)},
    ),
    "rich_text": RICH_TEXT,
    "section": SECTION,
    "table": block(
        {"rows": array(array(typed(CELLS), 0, limit.TABLE_COLUMNS_MAX_ITEMS), 1, limit.TABLE_ROWS_MAX_ITEMS)},
        {"column_settings": array(anything, 0, limit.TABLE_COLUMN_SETTINGS_MAX_ITEMS)},
    ),
    "task_card": block(TASK, TASK_MORE),
    "video": block(
        {
            "alt_text": string(limit.VIDEO_ALT_TEXT_MAX_LENGTH),
            "title": plain(limit.VIDEO_TITLE_MAX_LENGTH),
            "video_url": string(limit.VIDEO_VIDEO_URL_MAX_LENGTH, minimum=1),
            "thumbnail_url": string(limit.VIDEO_THUMBNAIL_URL_MAX_LENGTH, minimum=1),
        },
        {
            "author_name": string(limit.VIDEO_AUTHOR_NAME_MAX_LENGTH),
            "description": plain(limit.VIDEO_DESCRIPTION_MAX_LENGTH),
            "provider_icon_url": string(limit.VIDEO_PROVIDER_ICON_URL_MAX_LENGTH),
            "provider_name": string(limit.VIDEO_PROVIDER_NAME_MAX_LENGTH),
            "title_url": string(limit.VIDEO_TITLE_URL_MAX_LENGTH),
        },
    ),
}
BLOCK: Final = typed(BLOCKS)
VIEW_KEYS: Final[dict[str, Check]] = {
    "private_metadata": string(limit.VIEW_PRIVATE_METADATA_MAX_LENGTH),
    "callback_id": string(limit.VIEW_CALLBACK_ID_MAX_LENGTH),
    "external_id": string(limit.VIEW_EXTERNAL_ID_MAX_LENGTH),
    "clear_on_close": boolean,
    "notify_on_close": boolean,
    "submit_disabled": boolean,
}
VIEWS: Final[dict[str, Check]] = {
    "modal": record(
        {
            **TYPE,
            "title": plain(limit.VIEW_TITLE_MAX_LENGTH),
            "blocks": array(BLOCK, 0, limit.VIEW_BLOCKS_MAX_ITEMS),
        },
        {
            **VIEW_KEYS,
            "close": plain(limit.VIEW_CLOSE_MAX_LENGTH),
            "submit": plain(limit.VIEW_SUBMIT_MAX_LENGTH),
        },
    ),
    "home": record(
        {**TYPE, "blocks": array(BLOCK, 0, limit.VIEW_BLOCKS_MAX_ITEMS)},
        {**VIEW_KEYS, "title": anything, "close": anything, "submit": anything},
    ),
}
VIEW: Final = typed(VIEWS)
MESSAGE_BLOCKS: Final = array(BLOCK, 0, limit.MESSAGE_BLOCKS_MAX_ITEMS)
