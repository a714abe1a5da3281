"""The vendors' own descriptions of their APIs, to which every request of our adapters is held.

OpenAI's is OpenAPI, judged by openapi-core after the fix-up that it needs; Google's is the discovery document of Vertex AI,
whose requests the Gemini API shares. An unknown field is a fault, as both services have it. The plugin (conftest.py
registers it) counts over all tests and workers, and prints the count at the end of the run.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

SPECS: Final = Path(__file__).parents[2] / "shared" / "data" / "provider_specs"
NAME: Final = "provider-schemas"
CHAT, STREAMED = "CreateChatCompletionRequest", "CreateChatCompletionStreamResponse"

Json = dict[str, Any]


class NotTheirs(Exception):
    """A request that the vendor's own description does not allow."""


@dataclass
class Asked:
    """A request as openapi-core wants to see it."""

    method: str
    path: str
    body: bytes | None
    content_type: str = "application/json"
    host_url: str = "https://api.openai.com"

    parameters: Any = None


class OpenAISpec:
    """OpenAI's published description."""

    def __init__(self, spec: Json) -> None:
        from openapi_core import Config, OpenAPI

        # The paths alone: the description names answers that the cut of it does not hold.
        self._api = OpenAPI.from_dict(spec, config=Config(spec_validator_cls=None))  # type: ignore[arg-type]
        self._components = spec["components"]

    @classmethod
    @cache
    def read(cls) -> "OpenAISpec":
        spec = modern(json.loads((SPECS / "openai_subset.json").read_text(encoding="utf-8")))
        spec["components"]["schemas"][CHAT]["unevaluatedProperties"] = False
        return cls(spec)

    def check_request(self, method: str, path: str, body: Json | None = None) -> None:
        """Raises `NotTheirs`."""
        from openapi_core.datatypes import RequestParameters
        from openapi_core.exceptions import OpenAPIError

        header = RequestParameters(header={"Authorization": "Bearer something"})
        sent = None if body is None else json.dumps(body).encode()
        try:
            self._api.validate_request(Asked(method.lower(), path, sent, parameters=header))
        except OpenAPIError as error:
            reasons = getattr(error.__cause__, "schema_errors", None) or [error]
            words = sorted((str(getattr(reason, "message", reason)) for reason in reasons), key=len)
            raise NotTheirs("; ".join(words)[:400]) from error

    def check(self, name: str, value: Json) -> None:
        """One value by the name of its schema. Raises `jsonschema.ValidationError`."""
        schema = {"$ref": f"#/components/schemas/{name}", "components": self._components}
        jsonschema.Draft202012Validator(schema).validate(value)


def modern(node: Any) -> Any:
    """`nullable` and boolean `exclusiveMinimum` as JSON Schema 2020-12 says them, and no discriminators.

    Those name schemas by their values ("user"), and there are none of such names.
    """
    if isinstance(node, list):
        return [modern(item) for item in node]
    if not isinstance(node, dict):
        return node
    fixed = {
        key: modern(value)
        for key, value in node.items()
        if not (key == "discriminator" and isinstance(value, dict) and "propertyName" in value)
    }
    for bound in ("Minimum", "Maximum"):
        if fixed.get(f"exclusive{bound}") is True:
            fixed[f"exclusive{bound}"] = fixed.pop(bound.lower())
    if fixed.pop("nullable", False) is True:
        return {"anyOf": [fixed, {"type": "null"}]}
    return fixed


class GoogleSpec:
    """Google's discovery document of Vertex AI as JSON Schema, with the paths of its methods."""

    def __init__(self, document: Json) -> None:
        schemas = {name: _closed(schema) for name, schema in document["schemas"].items()}
        request = {"$ref": "#/$defs/GoogleCloudAiplatformV1GenerateContentRequest", "$defs": schemas}
        self.generate = jsonschema.Draft202012Validator(request)
        self.paths = [_pattern(path) for path in _paths(document)]
        self._schemas = schemas

    @property
    def states(self) -> set[str]:
        """Those of a tuning job."""
        return set(self._schemas["GoogleCloudAiplatformV1TuningJob"]["properties"]["state"]["enum"])

    def check(self, name: str, value: Json) -> None:
        """One value by the name of its schema. Raises `NotTheirs`."""
        held = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": self._schemas})
        problem = next(iter(held.iter_errors(value)), None)
        if problem is not None:
            raise NotTheirs(problem.message[:400])

    @classmethod
    @cache
    def read(cls) -> "GoogleSpec":
        text = (SPECS / "vertex_aiplatform_v1_subset.json").read_text(encoding="utf-8")
        return cls(json.loads(text))

    def check_request(self, path: str, body: Json, *, vertex: bool) -> None:
        """A request for an answer. The path is known for Vertex only. Raises `NotTheirs`."""
        if vertex and not any(known.fullmatch(path) for known in self.paths):
            raise NotTheirs(f"Vertex has no {path}")
        problem = next(iter(self.generate.iter_errors(body)), None)
        if problem is not None:
            raise NotTheirs(problem.message[:400])


def _paths(node: Json) -> list[str]:
    """The paths of all methods, wherever the document has them."""
    found = [method["flatPath"] for method in node.get("methods", {}).values() if "flatPath" in method]
    for resource in node.get("resources", {}).values():
        found += _paths(resource)
    return found


def _pattern(path: str) -> re.Pattern[str]:
    """The SDK asks the beta version of what the document describes."""
    pattern = re.sub(r"\\\{[^}]*\\\}", "[^/:]+", re.escape(path))
    return re.compile("/" + pattern.replace("v1/", "v1(beta1)?/", 1))


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        return {"$ref": f"#/$defs/{node['$ref']}"}
    kept = {
        key: _closed(value) for key, value in node.items() if key in ("type", "items", "enum", "properties")
    }
    if isinstance(node.get("properties"), dict):
        kept["properties"] = {name: _closed(value) for name, value in node["properties"].items()}
        kept["additionalProperties"] = False
    if kept.get("type") == "any":
        del kept["type"]
    return kept


@dataclass
class SchemaTally:
    """How many requests were held to which description; a plugin of pytest."""

    held: Counter[str] = field(default_factory=Counter)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        told = getattr(
            session.config, "workeroutput", None
        )  # a worker of pytest-xdist tells the first process
        if told is not None:
            told[NAME] = dict(self.held)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.held.update(getattr(node, "workeroutput", {}).get(NAME) or {})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.held:
            counts = ", ".join(f"{count} of {name}" for name, count in sorted(self.held.items()))
            terminalreporter.write_line(f"Providers' schemas: {counts} requests held to them.")


tally = SchemaTally()
