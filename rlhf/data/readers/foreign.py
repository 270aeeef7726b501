"""Files of other labelling tools: which there are, how they are told apart, and reading one."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from rlhf.data.readers.arena import battle, is_arena
from rlhf.data.readers.argilla import feedback_record, is_argilla
from rlhf.data.readers.dialogue import Row
from rlhf.data.readers.files import rows
from rlhf.data.readers.foreign_tasks import UNCLEAR, Found, Gathered, LeftOut, Names, listed
from rlhf.data.readers.label_studio import annotated, is_label_studio
from rlhf.errors import DataError, reason

Tool = Literal["arena", "argilla", "label-studio"]
TOOLS: tuple[Tool, ...] = get_args(Tool)


@dataclass(frozen=True, slots=True)
class Reader:
    """How a tool's rows are known, and read."""

    matches: Callable[[Row], bool]
    parse: Callable[[Row, Names], Found]


READERS: Mapping[Tool, Reader] = {
    "arena": Reader(is_arena, battle),
    "argilla": Reader(is_argilla, feedback_record),
    "label-studio": Reader(is_label_studio, annotated),
}


@dataclass(frozen=True, slots=True)
class Haul:
    """The rows of a file that are of use, and how many others there are, by reason."""

    rows: tuple[Gathered, ...]
    left_out: Mapping[str, int]


def tool_of(row: Row) -> Tool | None:
    """The tool that writes such rows, if it is plain."""
    return next((tool for tool, reader in READERS.items() if reader.matches(row)), None)


def read_foreign(path: str, tool: Tool, names: Names | None = None) -> Haul:
    """Every row of the file at ``path``, which ``tool`` wrote.

    Raises:
        DataError: naming the file and the row that cannot be understood.
    """
    found: list[Gathered] = []
    left_out: Counter[str] = Counter()
    for place, row in rows(path):
        if not READERS[tool].matches(row):
            other = tool_of(row)
            hint = f"it looks like {other}" if other else f"there is {_line(listed(row))}"
            raise DataError(f"{place}: not written by {tool} ({hint}); say where it comes from")
        try:
            one = READERS[tool].parse(row, names or Names())
        except ValueError as error:
            raise DataError(f"{place}: {_line(reason(error))}") from error
        if isinstance(one, LeftOut):
            left_out[one.reason] += 1
        else:
            found.append(one)
            left_out.update({UNCLEAR.reason: one.unclear} if one.unclear else {})
    if names and names.question and left_out[UNCLEAR.reason] and not any(r.ballots for r in found):
        raise DataError(
            f"{path}: `{names.question}` nowhere says which response is better, by its name, its "
            "rank or its number from 1; name another question"
        )
    return Haul(tuple(found), dict(left_out))


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
