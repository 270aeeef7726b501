"""Keeping the database sound: proving its counts, copying it while it is used, filling it again."""

import shutil
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from labeling_ui.db.read_only import Frozen
from labeling_ui.db.store import OldSchema, Store
from labeling_ui.db.tables import Base
from labeling_ui.maintenance.contents import Problems, read_through
from rlhf.errors import DataError

_CHUNK = 1000

_RULES = {
    "the places of task {} do not add up: its votes were {}, counted {}": """
        SELECT task.id, count(vote.id), task.num_votes FROM task
        JOIN campaign ON campaign.id = task.campaign_id
        LEFT JOIN vote ON vote.task_id = task.id AND vote.live
            AND (vote.outcome <> 'skip' OR campaign.settings LIKE '%"skip": "drop"%')
            AND vote.assignment_id IN (SELECT id FROM assignment WHERE source <> 'adjudicate')
        WHERE task.use = 'work'
        GROUP BY task.id, task.num_votes HAVING count(vote.id) <> task.num_votes""",
    "task {} is marked complete, or not, against its {} votes of {}": """
        SELECT task.id, task.num_votes, campaign.overlap FROM task
        JOIN campaign ON campaign.id = task.campaign_id
        WHERE task.use = 'work' AND task.complete <> (task.num_votes >= campaign.overlap)""",
    "task {} has {} votes where {} were asked for": """
        SELECT task.id, task.num_votes, campaign.overlap FROM task
        JOIN campaign ON campaign.id = task.campaign_id
        WHERE task.num_votes > campaign.overlap AND campaign.settings NOT LIKE '%"list"%'
            AND campaign.settings NOT LIKE '%"arena"%'""",
    "campaign {} counts {} tasks and has {}": """
        SELECT campaign.name, campaign.num_tasks, count(task.id) FROM campaign
        LEFT JOIN task ON task.campaign_id = campaign.id AND task.use = 'work'
        GROUP BY campaign.id, campaign.name, campaign.num_tasks
        HAVING count(task.id) <> campaign.num_tasks""",
    "campaign {} counts {} complete tasks and has {}": """
        SELECT campaign.name, campaign.num_complete, count(task.id) FROM campaign
        LEFT JOIN task ON task.campaign_id = campaign.id AND task.use = 'work' AND task.complete
        GROUP BY campaign.id, campaign.name, campaign.num_complete
        HAVING count(task.id) <> campaign.num_complete""",
    "vote {} is of another task, rater or campaign than its assignment {}": """
        SELECT vote.id, assignment.id FROM vote
        JOIN assignment ON assignment.id = vote.assignment_id
        WHERE vote.task_id <> assignment.task_id OR vote.rater_id <> assignment.rater_id
            OR vote.campaign_id <> assignment.campaign_id""",
    "rater {} has {} votes that count on task {}": """
        SELECT rater_id, count(*), task_id FROM vote WHERE live
        GROUP BY rater_id, task_id HAVING count(*) > 1""",
    "vote {} does not count, and nothing says why": """
        SELECT vote.id FROM vote LEFT JOIN vote AS later ON later.supersedes = vote.id
        WHERE NOT vote.live AND NOT vote.surplus AND vote.outcome <> 'undone'
            AND later.id IS NULL""",
    "task {} was decided by {} adjudicators": """
        SELECT vote.task_id, count(*) FROM vote
        JOIN assignment ON assignment.id = vote.assignment_id
        WHERE vote.live AND vote.outcome <> 'skip' AND assignment.source = 'adjudicate'
        GROUP BY vote.task_id HAVING count(*) > 1""",
    "vote {} counts though its place had gone to somebody else": """
        SELECT id FROM vote WHERE live AND surplus""",
    "vote {} was given under version {} of the guidelines, which there is not": """
        SELECT vote.id, vote.guideline FROM vote LEFT JOIN guideline
            ON guideline.campaign_id = vote.campaign_id AND guideline.version = vote.guideline
        WHERE vote.guideline <> 0 AND guideline.version IS NULL""",
    "assignment {} is open though vote {} answers it": """
        SELECT assignment.id, vote.id FROM assignment
        JOIN vote ON vote.assignment_id = assignment.id AND vote.live
        WHERE assignment.open""",
}
"""What must not be found, and the query that finds it."""


_COUNTED = {"person": "people", "campaign": "campaigns", "task": "tasks", "vote": "votes"}


@dataclass(frozen=True, slots=True)
class Findings:
    """What a database holds, and what is wrong with it."""

    counts: dict[str, int]
    problems: tuple[str, ...]


def examine(store: Store) -> Findings:
    """Check, as of one moment, every count, every tie between the tables, and what rows hold."""
    problems = Problems()
    with store.read() as session:
        if store.kind == "sqlite":
            _damage(session, problems)
        for sentence, query in _RULES.items():
            for row in session.execute(text(query)):
                problems.add(sentence, *row)
        read_through(session, problems)
        counts = {
            what: session.scalar(select(func.count()).select_from(Base.metadata.tables[name])) or 0
            for name, what in _COUNTED.items()
        }
    return Findings(counts, problems.lines())


def _damage(session: Session, problems: Problems) -> None:
    for line in session.scalars(text("PRAGMA integrity_check")):
        if line != "ok":
            problems.add("the file is damaged: {}", line)
    for row in session.execute(text("PRAGMA foreign_key_check")):
        problems.add("row {1} of {0} refers to nothing", *row)


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
