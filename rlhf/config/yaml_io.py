"""Plain data for configs: YAML files and ``key=value``, and one sentence per mistake in them."""

import difflib
import re
import typing
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import yaml

from rlhf.config.knobs import RENAMED
from rlhf.errors import ConfigError

MISSING = ("missing", "missing_argument")
"""Pydantic's words for a key that is not there."""


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-5 is a number, as in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds something else.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not YAML ({reason})") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, like the files under configs/")
    return cast("dict[str, Any]", data)


def is_override(word: str) -> bool:
    """Whether a word of the command line changes a key, rather than names a file."""
    return re.match(r"~|[\w.-]*=", word) is not None


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set the value that ``key=value`` or ``dotted.key=value`` names, in place; ``~key`` removes.

    Raises:
        ConfigError: it is of neither form, or leads through something that has no keys.
    """
    if override.startswith("~"):
        _remove(data, override)
        return
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is not an override; write key=value, like seed=1")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{override!r}: the value is not YAML; quote it") from error
    places = key.split(".")
    node: Any = data
    for place, below in pairwise(places):
        node = _step(node, place, override, [{}] if below == "0" else {})
    last = places[-1]
    if isinstance(node, list):
        _step(node, last, override)
        node[int(last)] = value
    else:
        node[last] = value


def _remove(data: dict[str, Any], override: str) -> None:
    """Take out the key that ``~key`` or ``~dotted.key`` names, so that its default holds."""
    *parents, last = override.removeprefix("~").split(".")
    node: Any = data
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise ConfigError(f"{override!r}: there is no such key to take out")
    del node[last]


def _step(node: Any, part: str, override: str, new: Any = None) -> Any:  # noqa: ANN401 - YAML is untyped
    """The child of ``node`` called ``part``; where it is missing, it is ``new``."""
    if isinstance(node, list):
        items = cast("list[Any]", node)
        if not part.isdecimal() or int(part) >= len(items):
            raise ConfigError(f"{override!r}: {part!r} is not one of its {len(items)} entries")
        return items[int(part)]
    child = node.get(part)
    if child is None:
        child = node[part] = new
    if not isinstance(child, (dict, list)):
        raise ConfigError(f"{override!r}: {part!r} has a value, not keys of its own")
    return cast("Any", child)


def sentence(kind: type[Any], error: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    """What is wrong, where, and what would be right, for one of pydantic's errors in ``kind``."""
    loc: list[int | str] = [p for p in error["loc"] if _is_place(kind, p)]
    place = ".".join(map(str, loc))
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        renamed = RENAMED.get(str(loc[-1]))
        if renamed in _keys(kind, loc[:-1]):
            return f"`{place}` is called `{renamed}` now"
        near = difflib.get_close_matches(str(loc[-1]), _keys(kind, loc[:-1]), n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else "see `--help`"
        return f"unknown key `{place}`; {hint}"
    if error["type"] in MISSING:
        return f"`{place}` is missing"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if error["type"] == "value_error":
        return f"{place}: {message}" if place else message
    return f"`{place}`: {message}, not {error['input']!r}"


def _is_place(kind: type[Any], part: int | str) -> bool:
    """Whether a step of pydantic's location is a key of the file, not the name of a type."""
    return (
        isinstance(part, int)
        or not re.search(r"[\[\(]|^(str|dict|list|literal)\b", part)
        or (part in {f.name for f in fields(kind)})
    )


def _keys(kind: type[Any], loc: Iterable[int | str]) -> list[str]:
    """The keys that are allowed at ``loc``."""
    here: Any = kind
    for part in loc:
        if isinstance(part, int):
            continue
        hints = typing.get_type_hints(here) if is_dataclass(here) else {}
        here = _record_in(hints.get(part))
    return [f.name for f in fields(here)] if is_dataclass(here) else []


def _record_in(hint: Any) -> Any:  # noqa: ANN401 - any annotation
    """The dataclass inside ``list[X]``, ``X | None`` or ``X``."""
    if is_dataclass(hint):
        return hint
    for inner in typing.get_args(hint):
        found = _record_in(inner)
        if found is not None:
            return found
    return None
