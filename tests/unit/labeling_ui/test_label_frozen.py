"""Databases that are another program's stay as they are, and so do those that are only read."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from labeling_ui.__main__ import main
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.db.store import OldSchema, Store, StoreError
from labeling_ui.maintenance.backup import copy_to_file, fill_from_file
from labeling_ui.maintenance.integrity import examine
from labeling_ui.results.answers import all_status
from labeling_ui.results.export import export
from tests.labeling import PASSWORD, cheap_accounts, tasks

SCHEMA_1 = (Path(__file__).parent / "schema_1.sql").read_text()
VERSION = "CREATE TABLE alembic_version (version_num VARCHAR(32))"
PERSON = "CREATE TABLE person (handle TEXT, role TEXT, password_hash TEXT)"


def version(number: str) -> str:
    return f"INSERT INTO alembic_version VALUES ('{number}')"


FOREIGN = {
    "no version of any": ["CREATE TABLE recipes (name TEXT)"],
    "a usual version": [VERSION, version("90e64c465722")],
    "a usual version of digits only": [VERSION, version("904465722123"), PERSON],
    "no version yet": [VERSION],
    "no version yet, and a table": [VERSION, "CREATE TABLE recipes (name TEXT)"],
    "several versions": [VERSION, version("0002"), version("0003"), PERSON],
    "another table of versions": ["CREATE TABLE alembic_version (number TEXT)", PERSON],
    "a version before our first": [VERSION, version("0001"), PERSON],
    "our version without our tables": [VERSION, version("0002")],
    "our version with another's people": [
        VERSION,
        version("0002"),
        "CREATE TABLE person (born DATE)",
    ],
    "a larger version without our tables": [VERSION, version("0003")],
    "a table meta of other columns": ["CREATE TABLE meta (a TEXT, b TEXT)"],
    "a table meta that is empty": ["CREATE TABLE meta (key TEXT, value TEXT)"],
    "a table meta without our tables": [
        "CREATE TABLE meta (key TEXT, value TEXT)",
        "INSERT INTO meta VALUES ('schema', '1')",
    ],
}


def made(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as raw, raw:
        for statement in statements:
            raw.executescript(statement)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("which", FOREIGN)
def test_a_file_of_another_program_is_refused_and_unchanged(tmp_path, which):
    path = made(tmp_path / "other.db", *FOREIGN[which])
    before = contents(tmp_path), path.stat().st_mtime_ns
    with pytest.raises(StoreError, match=r"other\.db: is not a label database; name another"):
        Store(path)
    assert (contents(tmp_path), path.stat().st_mtime_ns) == before


@pytest.mark.postgresql
@pytest.mark.parametrize("which", FOREIGN)
def test_a_database_of_another_program_is_refused_and_unchanged(postgresql, which):
    url = postgresql.empty()
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    with psycopg.connect(url) as raw:
        for statement in FOREIGN[which]:
            raw.execute(statement.encode())
        before = raw.execute(tables).fetchone()
    with pytest.raises(StoreError, match="is not a label database; name another"):
        Store(url)
    with psycopg.connect(url) as raw:
        assert raw.execute(tables).fetchone() == before


@pytest.fixture
def old(tmp_path):
    """A file of schema 1, in a folder of its own."""
    (tmp_path / "old").mkdir()
    return made(tmp_path / "old" / "label.db", SCHEMA_1)


def test_a_backup_never_changes_when_it_is_restored_from(tmp_path, old):
    before = contents(old.parent), old.stat().st_mtime_ns
    with closing(Store(tmp_path / "new.db")) as store:
        assert fill_from_file(store, old) == 21
        assert examine(store).problems == ()
        assert examine(store).counts["votes"] == 6
        copy_to_file(store, tmp_path / "backup.db")
    assert (contents(old.parent), old.stat().st_mtime_ns) == before
    again = contents(tmp_path / "old")
    with closing(Store(tmp_path / "again.db")) as store:
        fill_from_file(store, tmp_path / "old" / "label.db")
    assert contents(tmp_path / "old") == again


def test_the_copy_of_an_old_backup_is_gone_whatever_happens(tmp_path, old, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))

    def fail(_: object) -> None:
        raise StoreError("the disk is full")

    with closing(Store(tmp_path / "new.db")) as store:
        monkeypatch.setattr("labeling_ui.db.store.migrate", fail)
        with pytest.raises(StoreError, match="the disk is full"):
            fill_from_file(store, old)
    assert contents(tmp_path / "temporary") == {}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A database in a folder that cannot be written, as far as anybody can tell."""
    folder = tmp_path / "kept"
    folder.mkdir()
    with closing(Store(folder / "label.db")) as store:
        cheap_accounts(store).add("ann", PASSWORD, "rater")
        Campaigns(store).add("one", tasks(2))

    def may(path: Path, mode: int) -> bool:
        return not (mode & os.W_OK and Path(path).is_relative_to(folder))

    monkeypatch.setattr("os.access", may)
    return folder / "label.db"


def test_what_cannot_be_written_can_be_looked_at_copied_and_exported(tmp_path, kept):
    before = contents(kept.parent)
    with closing(Store(kept, create=False)) as store:
        assert [one.name for one in all_status(store)] == ["one"]
        assert examine(store).problems == ()
        assert len(export(store, "one").comparisons) == 2
        assert copy_to_file(store, tmp_path / "backup.db") > 3
        assert contents(kept.parent) == before, "while it is open, too"
        with pytest.raises(StoreError, match="cannot be written"):
            Campaigns(store).add("two", tasks(1))
    with closing(Store(tmp_path / "new.db")) as store:
        assert fill_from_file(store, kept) > 3
    assert contents(kept.parent) == before


def test_votes_that_are_not_in_the_main_file_yet_are_read(tmp_path, kept):
    with closing(Store(kept)) as serving:
        Campaigns(serving).add("two", tasks(1))
        with closing(Store(kept, create=False, only_read=True)) as store:
            assert [one.name for one in all_status(store)] == ["one", "two"]
        with closing(Store(tmp_path / "new.db")) as store:
            fill_from_file(store, kept)
            assert [one.name for one in all_status(store)] == ["one", "two"]


def test_what_was_written_while_it_was_read_is_not_trusted(tmp_path, kept):
    with closing(Store(kept, create=False)) as store:
        with closing(Store(kept)) as serving:
            Campaigns(serving).add("two", tasks(1))
        with pytest.raises(StoreError, match="was written while it was read; try again"):
            copy_to_file(store, tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


def test_a_backup_that_was_written_while_it_was_read_fills_nothing(tmp_path, kept, monkeypatch):
    with closing(Store(tmp_path / "new.db")) as store:
        with monkeypatch.context() as patch:
            patch.setattr("labeling_ui.db.read_only.Frozen.changed", lambda _: patch.undo() or True)
            patch.setattr(Store, "_prepare", lambda _: None)
            with pytest.raises(StoreError, match="was written while it was read"):
                fill_from_file(store, kept)
        assert fill_from_file(store, kept) > 3


def test_an_old_file_that_cannot_be_written_says_what_to_do(old, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda _path, mode: not mode & os.W_OK)
    with pytest.raises(OldSchema, match="is of an older version of this program"):
        Store(old, create=False)
    assert main(["status", "--db", str(old)]) == 1
    assert "copy it to where it can be written" in capsys.readouterr().err


def test_a_name_with_signs_of_an_address_is_a_name(tmp_path):
    path = tmp_path / "a?mode=rw#b%41.db"
    Store(path).close()
    with closing(Store(path, create=False, only_read=True)) as store:
        assert all_status(store) == []
    assert list(contents(tmp_path)) == [path.name]
