"""What every config key means, taken from :mod:`rlhf.config`: the second half of ``--help``."""

import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal

from pydantic.fields import FieldInfo

_INDENT = "      "
_WIDTH = 92
_YAML = {None: "null", True: "true", False: "false", "": '""'}


def manual(kind: type[Any]) -> str:
    """Every key of the config ``kind`` with its type, default and meaning, dotted where nested."""
    return "\n".join(_entries(kind, "", {}))


def _entries(kind: type[Any], prefix: str, told: dict[type[Any], str]) -> Iterator[str]:
    told[kind] = prefix
    hints = typing.get_type_hints(kind)
    docs = docstrings(kind)
    for field in fields(kind):
        inner, step = nested(hints[field.name])
        key = f"{prefix}{field.name}"
        head = f"  {key}: {_type(hints[field.name])}{_default(field)}"
        yield textwrap.fill(head, _WIDTH, subsequent_indent=_INDENT)
        if field.name in docs:
            yield textwrap.fill(
                docs[field.name], _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT
            )
        if inner in told:
            yield f"  {key}{step}: keys as of {told[inner].rstrip('.')}"
        elif inner is not None:
            yield from _entries(inner, f"{key}{step}.", told)


@cache
def docstrings(kind: type[Any]) -> dict[str, str]:
    """The string beneath each field, those of base classes included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not is_dataclass(base):
            continue
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
                case _:
                    pass
    return found


def nested(hint: Any) -> tuple[type[Any] | None, str]:  # noqa: ANN401 - any annotation
    """The config inside an annotation, and how an entry of it is reached."""
    if is_dataclass(hint) and isinstance(hint, type):
        return hint, ""
    for part in typing.get_args(hint):
        inner, step = nested(part)
        if inner is not None:
            return inner, ".0" if typing.get_origin(hint) is list else step
    return None, ""


def _type(hint: Any) -> str:  # noqa: ANN401 - any annotation
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type(part) for part in parts)
    if origin is list:
        return f"list of {_type(parts[0])}"
    if is_dataclass(hint):
        return "keys below"
    return {type(None): "null", dict: "keys"}.get(origin or hint) or str(hint.__name__)


def default_of(field: Field[Any]) -> Any:  # noqa: ANN401 - of any type
    """The default of a field; MISSING where it has none."""
    value = field.default
    if isinstance(value, FieldInfo):
        return MISSING if value.is_required() else value.get_default(call_default_factory=True)
    return value if field.default_factory is MISSING else field.default_factory()


def _default(field: Field[Any]) -> str:
    value = default_of(field)
    if value is MISSING:
        return " (required)"
    if is_dataclass(value):
        return ""
    return f" = {_YAML.get(value, value) if isinstance(value, bool | str | None) else value}"
