"""Which columns of a source nothing was made of."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from rlhf.data.readers.cells import TURNS
from rlhf.data.readers.message import Row, unread_fields

_CHATS = (*TURNS, "prompt", "chosen", "rejected", "completion", "response", "context", "generation")


class ReadRow(Mapping[str, Any]):
    """A row that remembers which of its columns were looked at."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - cells are untyped
        self._read.add(name)
        return self._row[name]

    def __contains__(self, name: object) -> bool:
        return name in self._row

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    def unread(self) -> Iterator[str]:
        """The columns with a value that nobody looked at, and such fields of its messages."""
        for name, value in self._row.items():
            if name not in self._read:
                if value not in (None, "", [], {}):
                    yield name
            elif name in _CHATS:
                yield from (f"{name}.{field}" for field in unread_fields(cast("object", value)))
