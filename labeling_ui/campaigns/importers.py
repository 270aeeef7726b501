"""Files that become tasks: our own records, and what other labelling tools export."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from labeling_ui.campaigns.tasks import TOO_DEEP, Task
from rlhf.errors import ConfigError, DataError, reason

if TYPE_CHECKING:
    from rlhf.data.readers.foreign import Tool

SOURCES = ("records", "argilla", "label-studio", "arena")

_NAMES = ("prompt", "responses", "question")


@dataclass(frozen=True, slots=True)
class Incoming:
    """The tasks of a file, and what of it does not become a task."""

    tasks: tuple[Task, ...]
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Rows that are of no use, by reason."""
    votes: int = 0
    """Votes that people gave elsewhere."""


def read_incoming(path: Path, source: str, names: Sequence[str] = ()) -> Incoming:
    """The tasks in the file at ``path``; ``names`` are pairs ``KEY=VALUE`` of columns.

    Raises:
        DataError: naming the place that cannot be understood, or a file without a task.
        ConfigError: if ``names`` are not such pairs.
    """
    if source == "records":
        if names:
            raise ConfigError("--names: records have names of their own; leave it out")
        return Incoming(tuple(read_tasks(path)))
    from rlhf.data.readers.foreign import read_foreign
    from rlhf.data.readers.foreign_tasks import Names

    haul = read_foreign(str(path), cast("Tool", source), Names(**_pairs(names)))
    tasks = tuple(Task(one.prompt, one.responses, one.metadata) for one in haul.rows)
    if not tasks:
        raise DataError(f"{path}: holds no task ({told(haul.left_out)}); give another file")
    return Incoming(tasks, haul.left_out, sum(len(one.ballots) for one in haul.rows))


def told(left_out: Mapping[str, int]) -> str:
    """How many rows were left out and why, in words."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return f"left out: {reasons}"


def _pairs(names: Sequence[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for pair in names:
        key, _, value = pair.partition("=")
        if key not in _NAMES or not value:
            raise ConfigError(f"--names: {pair!r} is not one of {', '.join(_NAMES)} = a column")
        given[key] = tuple(value.split(",")) if key == "responses" else value
    return given


def read_tasks(path: Path) -> Iterator[Task]:
    """Comparisons or tasks from a JSONL file; blank lines are passed over.

    Raises:
        DataError: naming the line that is neither, or a file without any.
    """
    found = False
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield Task.from_json(json.loads(line))
        except RecursionError as error:
            raise DataError(f"{path}:{number}: {TOO_DEEP}") from error
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}:{number}: {_no_task(path, error)}") from error
        found = True
    if not found:
        raise DataError(f"{path}: holds no task; write one JSON object per line")


def _no_task(path: Path, error: Exception) -> str:
    """What is wrong, and whose file it is if that is plain from its first row."""
    from rlhf.data.readers.files import rows
    from rlhf.data.readers.foreign import tool_of

    try:
        tool = tool_of(next(rows(str(path)))[1])
    except DataError:
        tool = None
    if tool is not None:
        return f"no comparison or task; the file looks like {tool}'s: add --from {tool}"
    return (
        f"no comparison or task ({reason(error)}); expected "
        '{"prompt": {"messages": [...]}, "response_a": {...}, "response_b": {...}} or '
        '{"prompt": {...}, "responses": [...]}'
    )


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataError: if it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text; convert it") from error
