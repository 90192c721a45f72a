"""docs/resources.md: every field of every custom resource."""

import json
from collections.abc import Iterator
from typing import Any

from twofold_operator.resources.crds.definitions import custom_resource_definitions
from twofold_operator.resources.crds.schemas import Schema
from twofold_operator.resources.kinds import API_VERSION

_HEADER = f"""# Custom resources

<!-- Made by scripts/generate from operator/twofold_operator/resources; do not edit. -->

All are of `{API_VERSION}`, and `kubectl get twofold` lists them.
`kubectl explain llm.spec --recursive` says the same of the version that a cluster has.
"""

_TABLE = "| field | type | default | what it is |\n| --- | --- | --- | --- |\n"


def reference() -> str:
    """Return the page."""
    return _HEADER + "".join(map(_section, custom_resource_definitions()))


def _section(manifest: dict[str, Any]) -> str:
    names = manifest["spec"]["names"]
    schema = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rules = "".join(f"- {message}\n" for message in _messages(schema))
    return (
        f"\n## {names['kind']}\n\n{schema['description']} "
        f"Short name: `{names['shortNames'][0]}`.\n"
        + "".join(f"\n{_TABLE}{_rows(schema, part)}" for part in ("spec", "status"))
        + f"\nThe API server refuses what breaks one of these rules:\n\n{rules}"
    )


def _rows(schema: Schema, part: str) -> str:
    required = part in schema["required"]
    return "".join(_row(*row) for row in _fields(part, schema["properties"][part], required))


def _row(path: str, schema: Schema, required: bool) -> str:
    default = "required" if required else _default(schema)
    return f"| `{path}` | {_type(schema)} | {default} | {schema.get('description', '')} |\n"


def _fields(path: str, schema: Schema, required: bool) -> Iterator[tuple[str, Schema, bool]]:
    yield path, schema, required
    below = schema.get("items", schema)
    mark = "[]" if "items" in schema else ""
    for name, field in below.get("properties", {}).items():
        yield from _fields(f"{path}{mark}.{name}", field, name in below.get("required", ()))


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return "" if default in (None, {}) else f"`{json.dumps(default)}`"


def _type(schema: Schema) -> str:
    if "x-kubernetes-int-or-string" in schema:
        return "integer or string"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind: str = schema["type"]
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map to {_type(schema['additionalProperties'])}"
    return kind


def _messages(schema: Schema, path: str = "") -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"`{path or 'metadata.name'}`: {rule['message']}"
    if "items" in schema:
        yield from _messages(schema["items"], f"{path}[]")
    for name, field in schema.get("properties", {}).items():
        yield from _messages(field, f"{path}.{name}".lstrip("."))
