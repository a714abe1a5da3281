"""Slack's own rules for Web API requests and answers: JSON schemas generated from Slack's types, compiled once.

Where the schemas are older or narrower than the platform, a row below says so and why; nothing else is let through. It
knows nothing of pytest and of the workspace. Source: SOURCE.txt beside the schemas (npm @slack/web-api 8.2.0, @slack/types
3.2.0, and the OpenAPI file of 2021).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import jsonschema
from jsonschema.exceptions import ValidationError, relevance

Json = dict[str, Any]
Validator = Any  # jsonschema carries no types that mypy could use
DIVIDER: Final[Json] = {"type": "divider"}
TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}

UNKNOWN_METHODS: Final[Mapping[str, str]] = {
    "agents.sessions.setStatus": "of 2026; slack_sdk 3.47 has it, the schema is of the 49 methods chosen before",
    "agents.sessions.rename": "of 2026; slack_sdk 3.47 has it, the schema is of the 49 methods chosen before",
    "blocks.validate": "typed in Node after the schema was made; no SDK of Python has it",
    "chat.deleteScheduledMessage": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
    "chat.scheduledMessages.list": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
    "emoji.list": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
    "files.delete": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
    "bookmarks.edit": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
    "bookmarks.list": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
    "bookmarks.remove": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
    "conversations.leave": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
    "pins.list": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
    "pins.remove": "not among the 49 methods of the schema; its answer is held to the OpenAPI file",
}
"""Methods that the schemas do not have: only the `required` keys of the OpenAPI file are asked of their answers."""

NEWER_ARGUMENTS: Final[Mapping[tuple[str, str], str]] = {
    (
        "*",
        "team_id",
    ): "bolt adds it to every call; Slack reads it with the token of an organisation, else ignores it",
    (
        "files.getUploadURLExternal",
        "alt_txt",
    ): "slack_sdk 3.47 and Slack's reference call it so; the generated type has Node's alt_text",
}
"""(method or *, argument) that Slack takes and the schema of requests does not have."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Complaints that are the schema's own fault, and why."""

    complaint: re.Pattern[str]
    reason: str


def _gap(pattern: str, reason: str) -> Gap:
    return Gap(re.compile(pattern), reason)


GAPS: Final = (
    _gap(
        r"views\.\w+ answer /view/(close|submit|previous_view_id): None is not of type",
        "Slack sends null where a view has no such part (payloads of its SDKs); the generated types know only strings",
    ),
    _gap(
        r"views\.\w+ answer /view/state: .*'values' was unexpected",
        "Slack sends the state's values (payloads of its SDKs); the generated type is an empty object",
    ),
    _gap(
        r"chat\.update answer /message: .*'thread_ts' was unexpected",
        "a changed reply keeps its thread_ts (payloads of Slack's SDKs)",
    ),
    _gap(
        r"\S+ answer /message(s/\d+)?: .*\('client_msg_id' was unexpected\)",
        "what a person sent has it (payloads of Slack's SDKs); the generated types have it for some methods only",
    ),
    _gap(
        r"conversations\.history answer /channel_actions_ts: None",
        "null in the OpenAPI file's own example",
    ),
    _gap(
        r"conversations\.open answer /channel: .*'is_mpim'",
        "a message to several is a channel in Slack's answers too; the generated type was made of a direct message only",
    ),
    _gap(
        r"oauth\.v2\.access request /: 'client_(id|secret)' is a required property",
        "the SDKs send them as HTTP Basic authorization, as Slack recommends",
    ),
    _gap(
        r"oauth\.v2\.access answer /enterprise: None",
        "null outside of Enterprise Grid in Slack's documentation",
    ),
    _gap(
        r"auth\.revoke answer /: .*'revoked' was unexpected",
        "in the OpenAPI file's own example",
    ),
    _gap(
        r"reactions\.get answer /message: .*'reply_count'",
        "the root of a thread has it in Slack's own examples",
    ),
    _gap(
        r"\S+ (request|answer) \S*/blocks/\d+/type: 'data_visualization' is no block",
        "of June 2026, younger than @slack/types 3.2.0; slackblocks knows it, and the workspace judges it by that",
    ),
    _gap(
        r"\S+ (request|answer) \S*/blocks/\d+/elements/\d+: .*\('visible_to_user_ids' was unexpected\)",
        "Slack documents it for buttons and slack_sdk 3.47 has it; @slack/types 3.2.0 has it for icon buttons only",
    ),
    _gap(
        r"\S+ answer /(\S+/)?metadata/event_payload: ",
        "free-form in Slack's documentation, closed in the generated type",
    ),
)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a request or an answer: `where` is a JSON pointer."""

    method: str
    part: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.method} {self.part} {self.where or '/'}: {self.message}"

    @property
    def allowed(self) -> Gap | None:
        """The row that lets it through."""
        return next((gap for gap in GAPS if gap.complaint.match(str(self))), None)


@dataclass
class SlackRules:
    """All schemas of one folder (slack_schemas of the shared material). What was judged once is not judged again."""

    folder: Path
    _validators: dict[tuple[str, str], Validator] = field(default_factory=dict)
    _judged: dict[str, tuple[Complaint, ...]] = field(default_factory=dict)

    def request(self, method: str, args: Json) -> tuple[Complaint, ...]:
        """What Slack's types have against a request, its blocks and its view included."""
        return self._once("request", method, args)

    def answer(self, method: str, answer: Json) -> tuple[Complaint, ...]:
        """What they have against a successful answer."""
        return self._once("answer", method, answer)

    def _once(self, part: str, method: str, value: Json) -> tuple[Complaint, ...]:
        key = f"{part} {method} {json.dumps(value, sort_keys=True)}"
        if key not in self._judged:
            judge = self._request if part == "request" else self._answer
            found = (Complaint(method, part, *wrong) for wrong in judge(method, value))
            self._judged[key] = tuple(complaint for complaint in found if complaint.allowed is None)
        return self._judged[key]

    def _request(self, method: str, args: Json) -> Iterator[tuple[str, str]]:
        if method in UNKNOWN_METHODS:
            return
        if method not in self.requests["methods"]:
            yield "", "the schema does not know this method, and no row of UNKNOWN_METHODS says why"
            return
        known = {name: value for name, value in args.items() if not _newer(method, name)}
        bare, held = taken_apart(read_from_text(known, self._types(method)))
        yield from self._against("requests", self.requests["methods"][method]["$ref"], bare)
        for part in held:
            yield from self._part(part)

    def _answer(self, method: str, answer: Json) -> Iterator[tuple[str, str]]:
        for key in self.required.get(method, ()):
            if key not in answer:
                yield f"/{key}", "is missing, and Slack's OpenAPI file requires it"
        bare, held = taken_apart(answer, keep=False)
        if method in self.answers["methods"]:
            yield from self._against("answers", self.answers["methods"][method]["$ref"], bare)
        for part in held:
            yield from self._part(part)

    def _part(self, part: "Part") -> Iterator[tuple[str, str]]:
        key = f"{part.kind} {json.dumps(part.value, sort_keys=True)}"
        if key not in self._judged:
            wrong = self._of_block_kit(part)
            self._judged[key] = tuple(Complaint("", part.kind, where, message) for where, message in wrong)
        for found in self._judged[key]:
            yield part.where + found.where, found.message

    def _of_block_kit(self, part: "Part") -> Iterator[tuple[str, str]]:
        names = {"view": self.view_names, "block": self.block_names}[part.kind]
        told = part.value.get("type") if isinstance(part.value, dict) else None
        if told not in names:
            yield "/type", f"{told!r} is no {part.kind} that block_kit.schema.json knows"
            return
        yield from self._against("block_kit", f"#/definitions/{names[told]}", part.value)

    def _against(self, schema: str, ref: str, value: Any) -> Iterator[tuple[str, str]]:
        validator = self._validator(schema, ref)
        for error in validator.iter_errors(value):
            deepest = _plainest(error)
            yield "".join(f"/{step}" for step in deepest.absolute_path), deepest.message[:300]

    def _validator(self, schema: str, ref: str) -> Validator:
        if (schema, ref) not in self._validators:
            definitions = getattr(self, schema)["definitions"]
            self._validators[schema, ref] = jsonschema.Draft7Validator(
                {"$ref": ref, "definitions": definitions}
            )
        return self._validators[schema, ref]

    def _types(self, method: str) -> dict[str, set[str]]:
        """The types that each argument of a method may have."""
        definitions = self.requests["definitions"]

        def of(schema: Json) -> Iterator[tuple[str, str]]:
            if "$ref" in schema:
                schema = definitions[schema["$ref"].rpartition("/")[2]]
            for way in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
                yield from of(way)
            for name, held in schema.get("properties", {}).items():
                yield from ((name, kind) for kind in _kinds(held, definitions))

        found: dict[str, set[str]] = {}
        for name, kind in of(self.requests["methods"][method]):
            found.setdefault(name, set()).add(kind)
        return found

    @cached_property
    def requests(self) -> Json:
        return self._read("web_api_requests.schema.json")

    @cached_property
    def answers(self) -> Json:
        return self._read("web_api_responses.schema.json")

    @cached_property
    def block_kit(self) -> Json:
        return self._read("block_kit.schema.json")

    @cached_property
    def required(self) -> dict[str, list[str]]:
        """Keys that Slack's OpenAPI file demands in a successful answer, by method."""
        paths = self._read("slack_web_openapi_v2.json")["paths"]
        return {
            path.lstrip("/"): operation["responses"].get("200", {}).get("schema", {}).get("required", [])
            for path, operations in paths.items()
            for operation in operations.values()
        }

    @cached_property
    def block_names(self) -> dict[str, str]:
        return self._names("KnownBlock")

    @cached_property
    def view_names(self) -> dict[str, str]:
        return self._names("AnyView")

    def _names(self, union: str) -> dict[str, str]:
        """Definitions of a union by the `type` that they are for."""
        definitions = self.block_kit["definitions"]
        names = [way["$ref"].rpartition("/")[2] for way in definitions[union]["anyOf"]]
        return {_type_of(definitions[name]): name for name in names}

    def _read(self, name: str) -> Json:
        read: Json = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return read


def _type_of(definition: Json) -> str:
    """The `type` that a block or view of this definition carries, in all of its ways."""
    while "properties" not in definition:
        definition = (definition.get("anyOf") or definition["allOf"])[0]
    told: str = definition["properties"]["type"]["const"]
    return told


@dataclass(frozen=True, slots=True)
class Part:
    """A block or a view inside a request or an answer, and where it was."""

    kind: str
    where: str
    value: Any


def taken_apart(value: Any, where: str = "", *, keep: bool = True) -> tuple[Any, list[Part]]:
    """The value with a divider in place of each block, and what was there. With `keep` false the blocks are left out.

    Blocks are judged one by one by their type: what has a union of all blocks against one of them tells nobody anything.
    """
    parts: list[Part] = []
    if isinstance(value, list):
        bare_list = []
        for place, item in enumerate(value):
            bare_item, found = taken_apart(item, f"{where}/{place}", keep=keep)
            bare_list.append(bare_item)
            parts += found
        return bare_list, parts
    if not isinstance(value, dict):
        return value, []
    bare: Json = {}
    for name, held in value.items():
        here = f"{where}/{name}"
        if name == "view" and keep and isinstance(held, dict):
            parts += _view(held, here)
            bare[name] = {"type": "home", "blocks": []} if held.get("type") == "home" else _SMALLEST_MODAL
        elif name == "blocks" and isinstance(held, list):
            parts += [Part("block", f"{here}/{place}", block) for place, block in enumerate(held)]
            if keep:
                bare[name] = [DIVIDER for _ in held]
        else:
            bare[name], found = taken_apart(held, here, keep=keep)
            parts += found
    return bare, parts


_SMALLEST_MODAL: Final[Json] = {"type": "modal", "title": {"type": "plain_text", "text": "x"}, "blocks": []}


def _view(view: Json, where: str) -> list[Part]:
    blocks = view.get("blocks")
    if not isinstance(blocks, list):
        return [Part("view", where, view)]
    frame = {**view, "blocks": [DIVIDER for _ in blocks]}
    return [
        Part("view", where, frame),
        *(Part("block", f"{where}/blocks/{place}", block) for place, block in enumerate(blocks)),
    ]


def read_from_text(args: Json, types: Mapping[str, set[str]]) -> Json:
    """Arguments as the schema wants them: forms and queries carry text, true and 1 mean yes, and null was not sent."""
    given = {name: value for name, value in args.items() if value is not None}
    return {name: _read_value(value, types.get(name, set())) for name, value in given.items()}


def _read_value(value: Any, kinds: set[str]) -> Any:
    if not isinstance(value, str) or not kinds or "string" in kinds:
        return value
    if "boolean" in kinds and value.lower() in {"0", "1", "true", "false"}:
        return value.lower() in {"1", "true"}
    try:
        read = json.loads(value)
    except ValueError:
        return value
    fits = any(isinstance(read, TYPES[kind]) for kind in kinds if kind in TYPES)
    return read if fits else value


def _kinds(schema: Json, definitions: Json) -> Iterator[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for way in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from _kinds(way, definitions)
    told = schema.get("type", ())
    yield from [told] if isinstance(told, str) else told


def _newer(method: str, name: str) -> bool:
    return ("*", name) in NEWER_ARGUMENTS or (method, name) in NEWER_ARGUMENTS


def _plainest(error: ValidationError) -> ValidationError:
    """Of a value that fits none of several ways: what the way that fits best has against it."""
    if not error.context:
        return error
    ways: dict[Any, list[ValidationError]] = {}
    for inner in error.context:
        ways.setdefault(inner.schema_path[0], []).append(inner)
    nearest = min(ways.values(), key=_distance)
    return _plainest(max(nearest, key=relevance))


def _distance(errors: list[ValidationError]) -> tuple[bool, int]:
    """How far a way is: another `type` is the furthest, then the number of complaints."""
    of_another_type = any(list(error.path)[-1:] == ["type"] for error in errors)
    return of_another_type, len(errors)
