from collections.abc import Iterator
from typing import Any, Literal

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from twofold_operator.resources import (
    LLMServiceSpec,
    LLMServiceStatus,
    LoRAAdapterSpec,
    LoRAAdapterStatus,
    WorkerPoolSpec,
    WorkerPoolStatus,
    to_wire,
)
from twofold_operator.resources.crds.schemas import Schema, schema_of
from twofold_operator.resources.wire import Part

PARTS: tuple[type[msgspec.Struct], ...] = (
    LLMServiceSpec,
    LLMServiceStatus,
    WorkerPoolSpec,
    WorkerPoolStatus,
    LoRAAdapterSpec,
    LoRAAdapterStatus,
)
VALIDATORS = {part: jsonschema.Draft7Validator(schema_of(part)) for part in PARTS}

_JSON = st.recursive(
    st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.text(max_size=3), below),
    max_leaves=4,
)


def _values(type_: inspect.Type) -> st.SearchStrategy[Any]:
    match type_:
        case inspect.Metadata(type=inner):
            return _values(inner)
        case inspect.UnionType(types=types):
            return st.one_of([_values(one) for one in types])
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.IntType(ge=least, le=most):
            return st.integers(least, most)
        case inspect.FloatType(ge=least, le=most):
            return st.floats(least, most, allow_nan=False)
        case inspect.StrType(pattern=None, min_length=least, max_length=most):
            return st.text(min_size=least or 0, max_size=min(most or 8, 8))
        case inspect.StrType(pattern=pattern, max_length=most):
            matching = st.from_regex(pattern or "", fullmatch=True)
            return matching.filter(lambda text: len(text) <= (most or 99) and "\n" not in text)
        case inspect.VarTupleType(item_type=item):
            return st.lists(_values(item), max_size=2).map(tuple)
        case inspect.DictType(value_type=inspect.AnyType()):
            return st.dictionaries(st.text(max_size=3), _JSON, max_size=2)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_values(key), _values(value), max_size=2)
        case inspect.StructType(cls=part):
            return _parts(part)
    raise AssertionError(type_)


def _parts(part: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    info = inspect.type_info(part)
    assert isinstance(info, inspect.StructType)
    required = {field.name: _values(field.type) for field in info.fields if field.required}
    optional = {field.name: _values(field.type) for field in info.fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: part(**given))


ANY_PART = st.one_of([_parts(part) for part in PARTS])


# How long a busy machine takes to draw so large a value says nothing of the code.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ANY_PART)
def test_what_the_types_allow_the_schema_allows_and_it_is_read_back(part: msgspec.Struct) -> None:
    wire = to_wire(part)

    errors = list(VALIDATORS[type(part)].iter_errors(wire))

    assert errors == []
    assert msgspec.convert(wire, type(part)) == part


def _below(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from _below(field, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from _below(schema[name], f"{path}[]")


ALL = [
    (f"{part.__name__}{path}", schema) for part in PARTS for path, schema in _below(schema_of(part))
]


@pytest.mark.parametrize(("path", "schema"), ALL)
def test_all_that_a_rule_may_read_is_bounded(path: str, schema: Schema) -> None:
    bounds = {"string": "maxLength", "array": "maxItems", "object": "maxProperties"}
    is_bounded = (
        schema.get("type") not in bounds
        or bounds[schema["type"]] in schema
        or "enum" in schema
        or "properties" in schema
        or "x-kubernetes-preserve-unknown-fields" in schema
        or schema.get("format") == "date-time"
    )

    assert is_bounded, path


@pytest.mark.parametrize(("path", "schema"), ALL)
def test_a_schema_is_structural(path: str, schema: Schema) -> None:
    assert "$ref" not in schema
    assert None not in schema.values()
    assert ("type" in schema) != ("x-kubernetes-int-or-string" in schema), path


@pytest.mark.parametrize("part", PARTS)
def test_a_status_has_no_defaults(part: type[msgspec.Struct]) -> None:
    schemas = dict(_below(schema_of(part, defaults=False)))

    assert [path for path, schema in schemas.items() if "default" in schema] == []


@pytest.mark.parametrize(("path", "schema"), ALL)
def test_an_item_of_a_list_has_no_defaults(path: str, schema: Schema) -> None:
    within = dict(_below(schema["items"])) if schema.get("type") == "array" else {}

    assert [f"{path}[]{at}" for at, one in within.items() if "default" in one] == []


def test_an_item_of_a_list_tells_what_stands_for_what_it_lacks() -> None:
    priority = dict(_below(schema_of(LLMServiceSpec)))[".slo.classes[].priority"]

    assert priority["description"].endswith(" Default: 0.")


def test_a_number_or_text_is_the_union_that_kubernetes_has() -> None:
    schemas = dict(_below(schema_of(LLMServiceSpec)))

    surge = schemas[".rollout.maxSurge"]

    assert surge.pop("description")
    assert surge == {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "minimum": 1,
        "maximum": 10_000,
        "minLength": 2,
        "maxLength": 4,
        "pattern": "^([1-9][0-9]?|100)%$",
        "default": "100%",
    }


class _Lamp(Part, frozen=True, kw_only=True):
    """Gives
    light."""

    colour: Literal["red", "white"] = "white"
    """Of the
    light."""
    watts: int


def test_a_type_becomes_its_schema() -> None:
    schema = schema_of(_Lamp)

    assert schema == {
        "description": "Gives light.",
        "type": "object",
        "required": ["watts"],
        "properties": {
            "colour": {
                "description": "Of the light.",
                "type": "string",
                "enum": ["red", "white"],
                "default": "white",
            },
            "watts": {"type": "integer", "format": "int64"},
        },
    }
