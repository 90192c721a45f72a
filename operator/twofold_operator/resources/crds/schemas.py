"""Types to structural schemas (OpenAPI v3, as Kubernetes restricts it)."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from twofold_operator.resources.crds.descriptions import field_descriptions, type_description
from twofold_operator.resources.crds.rules import RULES, Rule

Schema = dict[str, Any]

_INT_OR_STRING = "x-kubernetes-int-or-string"
_INT32_MAX = 2**31 - 1
_PLAIN_DEFAULTS = (bool, int, float, str)


def schema_of(part: type[msgspec.Struct], *, defaults: bool = True) -> Schema:
    """Return the schema of *part*. With *defaults* the API server fills these in, but in items of
    lists, whose descriptions tell them: what applies a file without the server's help replaces a
    list as a whole, and would find it another each time."""
    return _Schemas(defaults).of_struct(part)


def rules_of(part: type[msgspec.Struct]) -> Mapping[str, Any]:
    """Return the rules of *part* as they stand in its schema."""
    rules = RULES.get(part, ())
    return {"x-kubernetes-validations": [_rule(rule) for rule in rules]} if rules else {}


def _rule(rule: Rule) -> dict[str, str]:
    written = {"rule": rule.rule, "message": rule.message}
    return written if rule.field is None else {**written, "fieldPath": rule.field}


class _Schemas:
    def __init__(self, defaults: bool, *, in_list: bool = False) -> None:
        self._defaults = defaults
        self._in_list = in_list

    def of_struct(self, part: type[msgspec.Struct]) -> Schema:
        info = inspect.type_info(part)
        assert isinstance(info, inspect.StructType), part
        described = field_descriptions(part)
        schema: Schema = {"description": type_description(part), "type": "object"}
        required = [field.encode_name for field in info.fields if field.required]
        if required:
            schema["required"] = required
        schema["properties"] = {
            field.encode_name: self._of_field(field, described.get(field.name))
            for field in info.fields
        }
        return {**schema, **rules_of(part)}

    def _of_field(self, field: inspect.Field, description: str | None) -> Schema:
        schema = self.of_type(field.type)
        if self._defaults and self._in_list and isinstance(field.default, _PLAIN_DEFAULTS):
            default = field.default
            told = default if isinstance(default, str) else json.dumps(default)
            description = f"{description or ''} Default: {told}.".lstrip()
        if description:
            schema = {**schema, "description": description}
        if self._defaults and not self._in_list:
            # The API server fills in what stands below a default only where the whole is there.
            if isinstance(field.default, msgspec.Struct):
                schema["default"] = {}
            elif isinstance(field.default, _PLAIN_DEFAULTS):
                schema["default"] = field.default
        else:
            schema.pop("default", None)
        # What it is for comes first.
        ordered = {"description": schema.pop("description")} if "description" in schema else {}
        return {**ordered, **schema}

    def of_type(self, type_: inspect.Type) -> Schema:
        match type_:
            case inspect.Metadata(type=inner, extra_json_schema=extra):
                return {**self.of_type(inner), **(extra or {})}
            case inspect.UnionType(types=types):
                either = [type_ for type_ in types if not isinstance(type_, inspect.NoneType)]
                if len(either) > 1:
                    return _int_or_string(*map(_of_plain, either))
                return self.of_type(either[0])
            case inspect.StructType(cls=part):
                return self.of_struct(part)
            case inspect.VarTupleType(item_type=item, max_length=most):
                items = _Schemas(self._defaults, in_list=True).of_type(item)
                return {"type": "array", **_given(maxItems=most), "items": items}
            case inspect.DictType(value_type=value, max_length=most):
                values = self.of_type(value)
                return {
                    "type": "object",
                    **_given(maxProperties=most),
                    **({"additionalProperties": values} if values else {}),
                }
            case inspect.AnyType():
                return {}
        return _of_plain(type_)


def _int_or_string(*schemas: Schema) -> Schema:
    """Return the only union that Kubernetes has. Each bound holds for the type that it is of."""
    either = {"anyOf": [{"type": "integer"}, {"type": "string"}], _INT_OR_STRING: True}
    for schema in schemas:
        assert schema.pop("type") in ("integer", "string"), schema
        schema.pop("format", None)
        either |= schema
    return either


def _of_plain(type_: inspect.Type) -> Schema:
    match type_:
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.LiteralType(values=values):
            kind = "integer" if isinstance(values[0], int) else "string"
            return {"type": kind, "enum": list(values)}
        case inspect.IntType(ge=least, le=most):
            size = "int32" if most is not None and most <= _INT32_MAX else "int64"
            return {"type": "integer", "format": size, **_given(minimum=least, maximum=most)}
        case inspect.FloatType(ge=least, le=most):
            return {"type": "number", "format": "double", **_given(minimum=least, maximum=most)}
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            return {"type": "string", **_given(minLength=least, maxLength=most, pattern=pattern)}
    raise AssertionError(f"no schema for {type_}")


def _given(**keywords: Any) -> Schema:
    return {name: value for name, value in keywords.items() if value is not None}
