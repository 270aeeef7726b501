"""A config to start from: every key of a stage with its default and what it means."""

import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, cast

import yaml

from rlhf.config.config_help import default_of, docstrings, nested
from rlhf.config.loading import CONFIG_OF, MINIMAL

_WIDTH = 98
_HOW = (
    "What stands in capital letters is yours to name. `#key: value` shows a default: take the # "
    "away to change it."
)


def starter(stage: str) -> str:
    """A YAML file that loads as it is, and still does with any ``#`` before a key taken away."""
    kind = CONFIG_OF[stage]
    given: dict[str, Any] = {"data": {"train": [{"path": "FILE"}]}}
    for key, value in MINIMAL[stage].items():
        outer, _, inner = key.partition(".")
        given[outer] = {inner: value} if inner else value
    about = " ".join((kind.__doc__ or "").split())
    head = [*_comment(f"For `rlhf {stage}`. {about}"), *_comment(_HOW), ""]
    return "\n".join([*head, *_entries(kind, given), ""])


def _entries(kind: type[Any], given: Mapping[str, Any]) -> Iterator[str]:
    """The keys of ``kind``: those in ``given`` with its values, the others commented out."""
    hints, docs = typing.get_type_hints(kind), docstrings(kind)
    for field in fields(kind):
        yield from _comment(docs.get(field.name, ""))
        inner, _ = nested(hints[field.name])
        value = given.get(field.name, default_of(field))
        shown = _shown(field.name, value, inner)
        yield from shown if field.name in given else (f"#{line}" for line in shown)


def _shown(key: str, value: Any, inner: type[Any] | None) -> Iterator[str]:  # noqa: ANN401
    """One key with its value, and what belongs to it below."""
    if inner is None or not value:
        flow = yaml.safe_dump([value], default_flow_style=True, width=10**6)
        yield f"{key}: {flow.strip()[1:-1]}"
        return
    yield f"{key}:"
    if isinstance(value, list):
        for entry in cast("list[Any]", value):
            yield from _item(_entries(inner, entry))
    else:
        given = asdict(cast("Any", value)) if is_dataclass(value) else value
        yield from (f"  {line}" for line in _entries(inner, given))


def _item(lines: Iterator[str]) -> Iterator[str]:
    """An entry of a list; its dash stands before its first key."""
    dash = "- "
    for line in lines:
        if line.startswith("#"):
            yield f"    {line}"
        else:
            yield f"  {dash}{line}"
            dash = "  "


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - 12, initial_indent="# ", subsequent_indent="# ")
