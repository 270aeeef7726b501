"""Which key does what on the rating page; ``keymap.json`` says so, and a file of the user's own."""

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, cast

from labeling_ui.campaigns.tasks import NUM_RESPONSES, SCALE, Kind
from rlhf.errors import ConfigError

Keymap = Mapping[str, tuple[str, ...]]
"""The keys of every action; the first is shown on its button."""

OWN: Mapping[Kind, tuple[str, ...]] = {
    "pairwise": ("left", "right", "tie", "both_bad", "strength_1", "strength_2", "strength_3"),
    "ranking": (*(f"rank_{n}" for n in range(1, NUM_RESPONSES["ranking"][1] + 1)), "rank_tie"),
    "rating": tuple(f"rate_{n}" for n in SCALE),
    "thumbs": ("good", "bad"),
    "rewrite": ("rewrite",),
}
"""What can be done at tasks of one kind alone; its keys may do something else at others."""

_OURS = Path(__file__).with_name("keymap.json")


def of_kind(keymap: Keymap, kind: Kind) -> Keymap:
    """The keys of what can be done at tasks of that kind."""
    elsewhere = {*chain.from_iterable(OWN.values())} - {*OWN[kind]}
    return {action: keys for action, keys in keymap.items() if action not in elsewhere}


def load_keymap(path: Path | None = None) -> Keymap:
    """Our keys, with those of the actions in ``path`` instead.

    Raises:
        ConfigError: if the file is not such an object, or a key would do two things.
    """
    keys = _parse(_OURS.read_text(encoding="utf-8"), _OURS)
    if path is None:
        return keys
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the keymap cannot be read; check the path") from error
    own = _parse(text, path)
    for action in own:
        if action not in keys:
            raise ConfigError(f"{path}: {action!r} is no action; there are {', '.join(keys)}")
    keys = {**keys, **own}
    for kind in OWN:
        _no_key_twice(of_kind(keys, kind), path)
    return keys


def _no_key_twice(keymap: Keymap, path: Path) -> None:
    taken: dict[str, str] = {}
    for action, keys in keymap.items():
        for key in keys:
            if key in taken:
                raise ConfigError(
                    f"{path}: key {key!r} would do both {taken[key]} and {action}; "
                    "choose another for one of them"
                )
            taken[key] = action


def _parse(text: str, path: Path) -> dict[str, tuple[str, ...]]:
    try:
        data: Any = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON ({error}); write an object") from error
    if not isinstance(data, dict):
        raise ConfigError(f'{path}: is not an object; write {{"left": ["1"]}}')
    return {
        action: _keys(action, keys, path) for action, keys in cast("dict[str, Any]", data).items()
    }


def _keys(action: str, keys: object, path: Path) -> tuple[str, ...]:
    found = cast("list[object]", keys) if isinstance(keys, list) else [keys]
    shown = tuple(key.lower() for key in found if isinstance(key, str))
    fit = [key for key in shown if len(key) == 1 and key.isprintable() and not key.isspace()]
    if not fit or len(fit) != len(found):
        raise ConfigError(f'{path}: {action} needs one printable character per key, as ["1"]')
    return shown
