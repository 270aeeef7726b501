"""Backups: the database copied while it is used, and filled again."""

import shutil
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import insert, select, text

from labeling_ui.db.read_only import Frozen
from labeling_ui.db.store import OldSchema, Store
from labeling_ui.db.tables import Base
from rlhf.errors import DataError

_CHUNK = 1000


def copy_to_file(store: Store, file: Path) -> int:
    """Write all of the database, as of one moment, into a new SQLite file; how many rows.

    Raises:
        DataError: if the file exists already.
    """
    if file.exists():
        raise DataError(f"{file}: exists already; name a new file")
    with new_or_empty(str(file)) as copy:
        return _copy(store, copy)


@contextmanager
def new_or_empty(database: str) -> Generator[Store]:
    """A database to fill; a new file is there only when that went well."""
    file = Path(database)
    if "://" in database or file.exists():
        with closing(Store(database)) as store:
            yield store
        return
    part = file.with_name(f".{file.name}.part")
    _remove(part)
    try:
        with closing(Store(part)) as store:
            store.name = database
            yield store
        shutil.move(part, file)
    finally:
        _remove(part)


def _remove(file: Path) -> None:
    """With what SQLite keeps beside a file while it is used."""
    for end in ("", "-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)


def fill_from_file(store: Store, file: Path) -> int:
    """Fill an empty database of either kind from a backup; how many rows.

    Raises:
        DataError: if the database is not empty, or the file is not there or empty.
        StoreError: if the file is no label database.
    """
    if not file.is_file() or not file.stat().st_size:
        raise DataError(f"{file}: no such backup, or an empty one; name another file")
    with store.read() as session:
        if any(session.scalar(select(table).limit(1)) for table in Base.metadata.sorted_tables):
            raise DataError(f"{store.name}: holds something already; name a new one with --db")
    try:
        with closing(Store(file, create=False, only_read=True)) as backup:
            return _copy(backup, store)
    except OldSchema:
        with TemporaryDirectory() as folder, closing(_newer(file, Path(folder))) as backup:
            return _copy(backup, store)


def _newer(file: Path, folder: Path) -> Store:
    """A copy of an old backup, of the newest schema; a backup itself never changes."""
    with (
        closing(Frozen(file).connect()) as old,
        closing(sqlite3.connect(folder / file.name)) as copy,
    ):
        old.backup(copy)
    return Store(folder / file.name, create=False)


def _copy(source: Store, target: Store) -> int:
    count = 0
    # inside out: where reading ends badly, nothing is kept
    with target.write() as writing, source.read() as reading:
        for table in Base.metadata.sorted_tables:
            rows = reading.execute(
                select(table).order_by(*table.primary_key).execution_options(yield_per=_CHUNK)
            ).mappings()
            for part in rows.partitions(_CHUNK):
                writing.execute(insert(table), [dict(row) for row in part])
                count += len(part)
            if target.kind == "postgresql" and "id" in table.c:
                # its own numbers go on after those that were brought
                place = f"pg_get_serial_sequence('{table.name}', 'id')"
                last = f"coalesce((SELECT max(id) FROM {table.name}), 0) + 1"
                writing.execute(text(f"SELECT setval({place}, {last}, false)"))
    return count
