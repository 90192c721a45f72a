"""The docstrings of types and of their fields."""

import ast
import inspect
import textwrap

import msgspec


def type_description(part: type[msgspec.Struct]) -> str:
    return _on_one_line(inspect.getdoc(part) or "")


def field_descriptions(part: type[msgspec.Struct]) -> dict[str, str]:
    """Return by field the string that stands below it, also in a base; Python itself keeps none of
    these."""
    described: dict[str, str] = {}
    for one in reversed(part.__mro__[: part.__mro__.index(msgspec.Struct)]):
        described |= _own_descriptions(one)
    return described


def _own_descriptions(part: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(part)))
    definition = tree.body[0]
    assert isinstance(definition, ast.ClassDef)
    described = {}
    for statement, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = _string(below)
            if text:
                described[statement.target.id] = _on_one_line(text)
    return described


def _string(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return value if isinstance(value, str) else None
    return None


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
