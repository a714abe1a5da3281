"""The rules of Block Kit for composition objects and interactive elements, with slackblocks' registry of limits.

Keys and required keys follow the types of @slack/types 3.2.0, limits `slackblocks._limits`. It refuses to know the
blocks they are put in.
"""

from typing import Final

from slackblocks import _limits as limit

from bot.workspace.rules import (
    Check,
    anything,
    array,
    boolean,
    both,
    either,
    number,
    one_of,
    record,
    string,
)


def text(maximum: int = limit.TEXT_MAX_LENGTH, *, kinds: tuple[str, ...] = ("plain_text", "mrkdwn")) -> Check:
    return record(
        {"type": one_of(*kinds), "text": string(maximum, minimum=1)}, {"emoji": boolean, "verbatim": boolean}
    )


def plain(maximum: int) -> Check:
    return text(maximum, kinds=("plain_text",))


TYPE: Final[dict[str, Check]] = {"type": string()}
ACTION_ID: Final[dict[str, Check]] = {"action_id": string(limit.ACTION_ID_MAX_LENGTH, minimum=1)}
BLOCK_ID: Final[dict[str, Check]] = {"block_id": string(limit.BLOCK_ID_MAX_LENGTH, minimum=1)}
CONFIRM: Final[dict[str, Check]] = {
    "confirm": record(
        {
            "title": plain(limit.CONFIRMATION_TITLE_MAX_LENGTH),
            "text": text(limit.CONFIRMATION_TEXT_MAX_LENGTH),
            "confirm": plain(limit.CONFIRMATION_CONFIRM_MAX_LENGTH),
            "deny": plain(limit.CONFIRMATION_DENY_MAX_LENGTH),
        },
        {"style": one_of("primary", "danger")},
    )
}
FOCUS: Final[dict[str, Check]] = {"focus_on_load": boolean}
PLACEHOLDER: Final[dict[str, Check]] = {"placeholder": plain(limit.SELECT_PLACEHOLDER_MAX_LENGTH)}
STYLE: Final[dict[str, Check]] = {"style": one_of("primary", "danger")}
VISIBLE: Final[dict[str, Check]] = {
    "visible_to_user_ids": array(string(), 1, limit.ICON_BUTTON_VISIBLE_TO_USER_IDS_MAX_ITEMS)
}
DISPATCH: Final[dict[str, Check]] = {
    "dispatch_action_config": record(
        {}, {"trigger_actions_on": array(one_of("on_enter_pressed", "on_character_entered"), 1, 2)}
    )
}
SLACK_FILE: Final = both(either("url", "id"), record({}, {"url": string(3000), "id": string()}))
OPTION: Final = record(
    {"text": text(limit.OPTION_TEXT_MAX_LENGTH), "value": string(limit.OPTION_VALUE_MAX_LENGTH)},
    {"description": text(limit.OPTION_DESCRIPTION_MAX_LENGTH), "url": string(limit.OPTION_URL_MAX_LENGTH)},
)
OPTION_GROUP: Final = record(
    {
        "label": plain(limit.OPTION_GROUP_LABEL_MAX_LENGTH),
        "options": array(OPTION, 1, limit.OPTION_GROUP_OPTIONS_MAX_ITEMS),
    },
    {},
)


def element(required: dict[str, Check], optional: dict[str, Check]) -> Check:
    return record({**TYPE, **required}, {**ACTION_ID, **optional})


def menu(required: dict[str, Check], optional: dict[str, Check]) -> Check:
    return element(required, {**PLACEHOLDER, **CONFIRM, **FOCUS, **optional})


def several(rules: dict[str, Check]) -> dict[str, Check]:
    """The keys of a multi-select beside its single twin's."""
    return {**rules, "max_selected_items": number(limit.MULTI_SELECT_MAX_SELECTED_ITEMS_MIN)}


STATIC: Final[dict[str, Check]] = {
    "options": array(OPTION, limit.SELECT_OPTIONS_MIN_ITEMS, limit.SELECT_OPTIONS_MAX_ITEMS),
    "option_groups": array(
        OPTION_GROUP, limit.SELECT_OPTION_GROUPS_MIN_ITEMS, limit.SELECT_OPTION_GROUPS_MAX_ITEMS
    ),
}
QUERY: Final[dict[str, Check]] = {"min_query_length": number(limit.SELECT_MIN_QUERY_LENGTH_MIN)}
CONVERSATIONS: Final[dict[str, Check]] = {
    "default_to_current_conversation": boolean,
    "filter": record(
        {},
        {
            "include": array(one_of("im", "mpim", "private", "public"), 1),
            "exclude_external_shared_channels": boolean,
            "exclude_bot_users": boolean,
        },
    ),
}
RESPONSE_URL: Final[dict[str, Check]] = {"response_url_enabled": boolean}
FEEDBACK_BUTTON: Final = record(
    {
        "text": plain(limit.FEEDBACK_BUTTON_TEXT_MAX_LENGTH),
        "value": string(limit.FEEDBACK_BUTTON_VALUE_MAX_LENGTH),
    },
    {"accessibility_label": string(limit.FEEDBACK_BUTTON_ACCESSIBILITY_LABEL_MAX_LENGTH)},
)
ONE_STATIC: Final = both(either("options", "option_groups"), menu({}, {**STATIC, "initial_option": OPTION}))
MANY_STATIC: Final = both(
    either("options", "option_groups"), menu({}, several({**STATIC, "initial_options": array(OPTION, 1)}))
)
IMAGE_ELEMENT: Final = both(
    either("image_url", "slack_file"),
    record(
        {**TYPE, "alt_text": string(limit.IMAGE_ELEMENT_ALT_TEXT_MAX_LENGTH)},
        {"image_url": string(limit.IMAGE_ELEMENT_IMAGE_URL_MAX_LENGTH, minimum=1), "slack_file": SLACK_FILE},
    ),
)
BUTTON: Final = element(
    {"text": plain(limit.BUTTON_TEXT_MAX_LENGTH)},
    {
        **CONFIRM,
        **STYLE,
        **VISIBLE,
        "url": string(limit.BUTTON_URL_MAX_LENGTH),
        "value": string(limit.BUTTON_VALUE_MAX_LENGTH),
        "accessibility_label": string(limit.BUTTON_ACCESSIBILITY_LABEL_MAX_LENGTH),
        "agent_prompt": string(limit.BUTTON_AGENT_PROMPT_MAX_LENGTH),
    },
)
PLAIN_TEXT_INPUT: Final = element(
    {},
    {
        **DISPATCH,
        **FOCUS,
        "placeholder": plain(limit.PLAIN_TEXT_INPUT_PLACEHOLDER_MAX_LENGTH),
        "initial_value": string(),
        "multiline": boolean,
        "min_length": number(limit.PLAIN_TEXT_INPUT_MIN_LENGTH_MIN, limit.PLAIN_TEXT_INPUT_MIN_LENGTH_MAX),
        "max_length": number(limit.PLAIN_TEXT_INPUT_MAX_LENGTH_MIN, limit.PLAIN_TEXT_INPUT_MAX_LENGTH_MAX),
    },
)
TEXTLIKE: Final[dict[str, Check]] = {**DISPATCH, **FOCUS, **PLACEHOLDER, "initial_value": string()}
ELEMENTS: Final[dict[str, Check]] = {
    "button": BUTTON,
    "workflow_button": element(
        {"text": plain(limit.WORKFLOW_BUTTON_TEXT_MAX_LENGTH), "workflow": anything},
        {
            **CONFIRM,
            **STYLE,
            "accessibility_label": string(limit.WORKFLOW_BUTTON_ACCESSIBILITY_LABEL_MAX_LENGTH),
        },
    ),
    "feedback_buttons": element({"positive_button": FEEDBACK_BUTTON, "negative_button": FEEDBACK_BUTTON}, {}),
    "icon_button": element(
        {"icon": string(minimum=1), "text": plain(limit.BUTTON_TEXT_MAX_LENGTH)},
        {
            **CONFIRM,
            **VISIBLE,
            "value": string(limit.ICON_BUTTON_VALUE_MAX_LENGTH),
            "accessibility_label": string(limit.ICON_BUTTON_ACCESSIBILITY_LABEL_MAX_LENGTH),
        },
    ),
    "checkboxes": element(
        {"options": array(OPTION, limit.CHECKBOXES_OPTIONS_MIN_ITEMS, limit.CHECKBOXES_OPTIONS_MAX_ITEMS)},
        {**CONFIRM, **FOCUS, "initial_options": array(OPTION, 1)},
    ),
    "radio_buttons": element(
        {
            "options": array(
                OPTION, limit.RADIO_BUTTONS_OPTIONS_MIN_ITEMS, limit.RADIO_BUTTONS_OPTIONS_MAX_ITEMS
            )
        },
        {**CONFIRM, **FOCUS, "initial_option": OPTION},
    ),
    "overflow": element(
        {"options": array(OPTION, limit.OVERFLOW_OPTIONS_MIN_ITEMS, limit.OVERFLOW_OPTIONS_MAX_ITEMS)},
        {**CONFIRM},
    ),
    "datepicker": menu({}, {"initial_date": string()}),
    "timepicker": menu({}, {"initial_time": string(), "timezone": string()}),
    "datetimepicker": element({}, {**CONFIRM, **FOCUS, "initial_date_time": number(0)}),
    "static_select": ONE_STATIC,
    "multi_static_select": MANY_STATIC,
    "external_select": menu({}, {**QUERY, "initial_option": OPTION}),
    "multi_external_select": menu({}, several({**QUERY, "initial_options": array(OPTION, 1)})),
    "users_select": menu({}, {"initial_user": string()}),
    "multi_users_select": menu({}, several({"initial_users": array(string())})),
    "conversations_select": menu({}, {**CONVERSATIONS, **RESPONSE_URL, "initial_conversation": string()}),
    "multi_conversations_select": menu(
        {}, several({**CONVERSATIONS, "initial_conversations": array(string())})
    ),
    "channels_select": menu({}, {**RESPONSE_URL, "initial_channel": string()}),
    "multi_channels_select": menu({}, several({"initial_channels": array(string())})),
    "plain_text_input": PLAIN_TEXT_INPUT,
    "email_text_input": element({}, TEXTLIKE),
    "url_text_input": element({}, TEXTLIKE),
    "number_input": element(
        {"is_decimal_allowed": boolean}, {**TEXTLIKE, "min_value": string(), "max_value": string()}
    ),
    "rich_text_input": element(
        {},
        {
            **DISPATCH,
            **FOCUS,
            **PLACEHOLDER,
            "initial_value": anything,
            "min_lines": number(1, 100),
            "max_lines": number(1, 100),
        },
    ),
    "file_input": element(
        {},
        {
            "filetypes": array(string()),
            "max_files": number(limit.FILE_INPUT_MAX_FILES_MIN, limit.FILE_INPUT_MAX_FILES_MAX),
        },
    ),
}
TEXT_INPUTS: Final = {
    "plain_text_input",
    "email_text_input",
    "url_text_input",
    "number_input",
    "rich_text_input",
    "file_input",
}
NOT_IN_INPUTS: Final = {"button", "workflow_button", "overflow", "feedback_buttons", "icon_button"}
IN_CONTEXT_ACTIONS: Final = ("feedback_buttons", "icon_button")
