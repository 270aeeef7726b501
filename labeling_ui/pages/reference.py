"""The HTTP API for people to read: one page from its description, without a script."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from labeling_ui.locales import languages
from labeling_ui.pages.plain import brand, plain
from labeling_ui.text.markdown import render

Node = Mapping[str, Any]


def page(document: Node) -> str:
    """The whole page."""
    info, operations = document["info"], list(_operations(document))
    menu, parts = "", ""
    for tag in document["tags"]:
        within = [one for one in operations if tag["name"] in one[2]["tags"]]
        links = "".join(
            f'<li><a href="#{op["operationId"]}"><code>{method} {escape(path)}</code></a></li>'
            for method, path, op in within
        )
        menu += f"<div><h3>{escape(tag['name'].capitalize())}</h3><ul>{links}</ul></div>"
        parts += f"<h2>{escape(tag['name'].capitalize())}</h2><p>{escape(tag['description'])}</p>"
        parts += "".join(_operation(*one) for one in within)
    schemas = document["components"]["schemas"].items()
    shapes = "".join(_shape(name, schema) for name, schema in sorted(schemas))
    body = f"""<header class="rl-top">{brand()}<nav aria-label="Pages"><a href="/">Start</a>
<a href="/api/openapi.json">OpenAPI {escape(document["openapi"])}</a></nav></header>
<main class="rl-cards rl-reference" id="rl-content"><h1>HTTP API</h1>
<div class="rl-card">{render(info["description"])}
<nav aria-label="Paths">{menu}</nav></div>
{parts}<h2>Shapes</h2>{shapes}</main>"""
    return plain(languages()["en"], "HTTP API", body)


def _operations(document: Node) -> Iterator[tuple[str, str, Node]]:
    for path, methods in document["paths"].items():
        yield from ((method.upper(), path, operation) for method, operation in methods.items())


def _operation(method: str, path: str, operation: Node) -> str:
    summary, _, role = operation["description"].rpartition("\n\n")
    given = "".join(map(_parameter, operation.get("parameters", ())))
    sent = operation.get("requestBody")
    if sent:
        schema = sent["content"]["application/json"]["schema"]
        needed = "" if sent.get("required") else " (may be left out)"
        given += f"<dt>body{needed}</dt><dd>{_type(schema)}</dd>"
    given = f"<h4>What it takes</h4><dl>{given}</dl>" if given else ""
    answers = "".join(_answer(code, one) for code, one in sorted(operation["responses"].items()))
    return f"""<section class="rl-card" id="{operation["operationId"]}">
<h3><code>{method} {escape(path)}</code></h3>{render(summary)}<p><b>{escape(role)}</b></p>
{given}<h4>What it answers</h4><dl>{answers}</dl></section>"""


def _parameter(parameter: Node) -> str:
    schema = parameter["schema"]
    usual = f", {json.dumps(schema['default'])} if left out" if "default" in schema else ""
    name = escape(parameter["name"])
    return f"<dt><code>{name}</code> in the {parameter['in']}</dt><dd>{_type(schema)}{usual}</dd>"


def _answer(code: str, answer: Node) -> str:
    kinds = [
        f"{_type(content['schema'])}" + (f" as {kind}" if kind != "application/json" else "")
        for kind, content in answer.get("content", {}).items()
    ]
    shown = " or ".join(kinds) if code.startswith("2") else escape(answer["description"])
    return f"<dt>{escape(code)}</dt><dd>{shown}</dd>"


def _shape(name: str, schema: Node) -> str:
    needed = schema.get("required", ())
    rows = "".join(
        f"<dt><code>{escape(key)}</code>{'' if key in needed else ' (may be left out)'}</dt>"
        f"<dd>{_type(inner)}{_said(inner)}</dd>"
        for key, inner in schema.get("properties", {}).items()
    )
    about = escape(schema.get("description", ""))
    return f"""<section class="rl-card" id="shape-{escape(name)}"><h3>{escape(name)}</h3>
<p>{about}</p><dl>{rows or f"<dd>{_type(schema)}</dd>"}</dl></section>"""


def _said(schema: Node) -> str:
    parts = [f"{words} {schema[key]}" for key, words in _LIMITS.items() if key in schema]
    about = schema.get("description")
    text = ", ".join(parts) + (f". {about}" if about else "")
    return f" — {escape(text)}" if text else ""


_LIMITS = {
    "minimum": "from",
    "maximum": "to",
    "minLength": "characters from",
    "maxLength": "characters to",
    "pattern": "like",
    "default": "usually",
}


def _type(schema: Node) -> str:
    """A schema in words, with links to the shapes that it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#shape-{name}">{name}</a>'
    if "enum" in schema or "const" in schema:
        return " | ".join(
            f"<code>{escape(json.dumps(value))}</code>"
            for value in schema.get("enum", [schema.get("const")])
        )
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(map(_type, schema[key]))
    kind = schema.get("type", "anything")
    if kind == "array" and "prefixItems" in schema:
        return f"[{', '.join(map(_type, schema['prefixItems']))}]"
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    inner = schema.get("additionalProperties")
    if kind == "object" and isinstance(inner, dict):
        return f"object of {_type(inner)}"
    return escape(kind)
