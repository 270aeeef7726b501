"""SQLite files that are only read: backups, and what lies on a read-only disk."""

import os
import sqlite3
from pathlib import Path


class Frozen:
    """A SQLite file that we do not write, nor anything beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Without these two files nobody is writing, and SQLite needs none of its own to read.
        # With them it takes part in their locks, and reads what is not in the main file yet.
        beside = (path.with_name(path.name + end) for end in ("-wal", "-journal"))
        self._alone = not any(file.exists() for file in beside)
        self._found = self._look()

    def _look(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_size, found.st_mtime_ns

    def changed(self) -> bool:
        """Whether somebody wrote after all, so that what was read may not hold together."""
        return self._alone and self._look() != self._found

    def connect(self) -> sqlite3.Connection:
        """Open it for reading."""
        address = f"{self._path.absolute().as_uri()}?mode=ro{'&immutable=1' * self._alone}"
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def cannot_be_written(path: Path) -> bool:
    """Whether SQLite could not write this file, or what it keeps beside it."""
    beside = os.access(path.parent, os.W_OK) or path.with_name(path.name + "-wal").exists()
    return not (os.access(path, os.W_OK) and beside)
