"""Whether a value is what a description of an API says: the part of JSON Schema that ours uses."""

import re
from collections.abc import Iterator
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
KNOWN = {
    "$ref", "anyOf", "oneOf", "type", "enum", "const", "properties", "required", "items",
    "prefixItems", "additionalProperties", "title", "description", "default", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength",
    "minItems", "maxItems", "pattern",
}  # fmt: skip


def resolved(document: Any, schema: Any) -> Any:
    """What a reference stands for; a KeyError if it stands for nothing."""
    while "$ref" in schema:
        _, *steps = schema["$ref"].split("/")
        schema = document
        for step in steps:
            schema = schema[step]
    return schema


def problems(document: Any, schema: Any, value: Any, at: str = "answer") -> Iterator[str]:
    """What of ``value`` is not as ``schema`` says; properties that it does not name are wrong."""
    schema = resolved(document, schema)
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    for key in ("anyOf", "oneOf"):
        if key in schema and all(any(problems(document, s, value)) for s in schema[key]):
            yield f"{at}: none of {key} fits {value!r}"
    kind = schema.get("type")
    wrong_number = isinstance(value, bool) and kind in ("integer", "number")
    if kind is not None and (wrong_number or not isinstance(value, TYPES[kind])):
        yield f"{at}: {value!r} is no {kind}"
        return
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{at}: {value!r} is not one of {schema}"
    if isinstance(value, dict):
        yield from _properties(document, schema, value, at)
    if isinstance(value, list) and "items" in schema:
        for number, one in enumerate(value):
            yield from problems(document, schema["items"], one, f"{at}[{number}]")


def _properties(document: Any, schema: Any, value: Any, at: str) -> Iterator[str]:
    named = schema.get("properties", {})
    yield from (
        f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value
    )
    rest = schema.get("additionalProperties", not named)
    for name, one in value.items():
        if name in named:
            yield from problems(document, named[name], one, f"{at}.{name}")
        elif rest is False:
            yield f"{at}: {name} is not described"
        elif isinstance(rest, dict):
            yield from problems(document, rest, one, f"{at}.{name}")


def operations(document: Any) -> dict[tuple[str, str], Any]:
    """By method and path."""
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def schemas_in(part: Any) -> Iterator[Any]:
    """Every object below ``part`` that could be a schema."""
    if isinstance(part, dict):
        yield part
        for inner in part.values():
            yield from schemas_in(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from schemas_in(inner)


def names_in(document: Any, schema: Any, seen: set[str] | None = None) -> set[str]:
    """The names of all properties that a value of ``schema`` can have."""
    seen = set() if seen is None else seen
    found: set[str] = set()
    for one in schemas_in(schema):
        found |= set(one.get("properties", ()))
        reference = one.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            found |= names_in(document, resolved(document, one), seen)
    return found


def template_of(document: Any, method: str, path: str) -> str | None:
    """The described path that ``path`` is one of."""
    for known_method, known in operations(document):
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(known))
        if known_method == method and re.fullmatch(pattern, path):
            return known
    return None
