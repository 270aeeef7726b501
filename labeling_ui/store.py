"""Users, campaigns, comparisons, assignments and votes in one SQLite file.

Votes are only ever added: a vote that no longer counts is retired by a later row that supersedes
it, and triggers in the database refuse anything else. What a response *means* (a, b) is kept apart
from where it stood on the screen: the side belongs to the assignment, drawn when it is handed out.
"""

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    DDL,
    URL,
    CheckConstraint,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import ConnectionPoolEntry

from rlhf.errors import RLHFError

SCHEMA = 1
"""Version of the tables below; a file of a higher one is refused."""


class StoreError(RLHFError):
    """The label database cannot be used as it is."""


class NotFound(RLHFError):  # noqa: N818 - reads as the answer it becomes: 404 Not Found
    """There is no such campaign, assignment or user for the one who asks."""


class Conflict(RLHFError):  # noqa: N818 - 409 Conflict
    """The request contradicts what is already stored."""


class Base(DeclarativeBase):
    """The tables of the label database."""


class MetaRow(Base):
    """Facts about the file itself."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class UserRow(Base):
    """Somebody who may sign in."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    handle: Mapped[str] = mapped_column(unique=True)
    """The name as it is compared, in lower case."""
    role: Mapped[str] = mapped_column(CheckConstraint("role IN ('rater', 'admin')"))
    password_hash: Mapped[str]
    created_at: Mapped[str]


class CampaignRow(Base):
    """A set of comparisons, each to be judged by ``overlap`` raters."""

    __tablename__ = "campaign"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    overlap: Mapped[int] = mapped_column(CheckConstraint("overlap >= 1"))
    guidelines: Mapped[str] = mapped_column(Text)
    num_comparisons: Mapped[int] = mapped_column(default=0)
    num_complete: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[str]


class ComparisonRow(Base):
    """A comparison of a campaign; ``num_votes`` counts live votes other than skips."""

    __tablename__ = "comparison"
    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    key: Mapped[str]
    """The same for a comparison and its swap, so that neither is asked twice."""
    record: Mapped[str] = mapped_column(Text)
    """The :class:`rlhf.records.Comparison` as JSON, policies included."""
    num_votes: Mapped[int] = mapped_column(default=0)
    complete: Mapped[bool] = mapped_column(default=False)
    __table_args__ = (
        UniqueConstraint("campaign_id", "key"),
        Index("comparison_to_do", "campaign_id", "id", sqlite_where=text("complete = 0")),
    )


class AssignmentRow(Base):
    """A comparison handed to a rater, with the side on which response a was shown.

    While it is open and not expired it holds one of the comparison's places.
    """

    __tablename__ = "assignment"
    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    a_side: Mapped[str] = mapped_column(CheckConstraint("a_side IN ('left', 'right')"))
    shown_at: Mapped[str]
    expires_at: Mapped[str]
    open: Mapped[bool] = mapped_column(default=True)
    __table_args__ = (
        UniqueConstraint("comparison_id", "rater_id"),
        Index("assignment_open", "rater_id", "campaign_id", "id", sqlite_where=text("open = 1")),
    )


class VoteRow(Base):
    """An answer, or its withdrawal (outcome ``undone``)."""

    __tablename__ = "vote"
    id: Mapped[int] = mapped_column(primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), index=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparison.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    outcome: Mapped[str] = mapped_column(
        CheckConstraint("outcome IN ('a', 'b', 'tie', 'both_bad', 'skip', 'undone')")
    )
    strength: Mapped[int | None] = mapped_column(CheckConstraint("strength BETWEEN 1 AND 3"))
    reason: Mapped[str] = mapped_column(Text, default="")
    shown_at: Mapped[str] = mapped_column(default="")
    answered_at: Mapped[str]
    key: Mapped[str]
    """Made by the rater's program; the same key again is the same vote."""
    supersedes: Mapped[int | None] = mapped_column(ForeignKey("vote.id"))
    live: Mapped[bool]
    __table_args__ = (
        UniqueConstraint("rater_id", "key"),
        Index(
            "vote_one_live", "comparison_id", "rater_id", unique=True, sqlite_where=text("live = 1")
        ),
        Index("vote_of_rater", "rater_id", "campaign_id", "id", sqlite_where=text("live = 1")),
    )


_KEPT = (
    "id assignment_id campaign_id comparison_id rater_id outcome strength reason shown_at "
    "answered_at key supersedes"
)
_CHANGED = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in _KEPT.split())

for _trigger in (
    "CREATE TRIGGER vote_is_never_deleted BEFORE DELETE ON vote "
    "BEGIN SELECT RAISE(ABORT, 'votes are never deleted'); END",
    f"CREATE TRIGGER vote_only_retires BEFORE UPDATE ON vote WHEN NEW.live > OLD.live OR {_CHANGED}"
    " BEGIN SELECT RAISE(ABORT, 'votes are never changed'); END",
):
    event.listen(VoteRow.__table__, "after_create", DDL(_trigger))

_REASONS = {
    "locked": "is locked by another program; close that one, or wait, and try again",
    "readonly": "cannot be written; check the permissions of the file and its folder",
    "unable to open": "cannot be opened; check that its folder exists and can be written",
    "full": "cannot grow because the disk is full; free some space and try again",
    "not a database": "is not a label database; name another file with --db",
    "malformed": "is damaged; restore it from a backup",
}


class Store:
    """The label database, opened and checked; transactions on it.

    Args:
        path: The database file.
        create: Make the file if it does not exist.
        patience: Seconds to wait for another process that holds the write lock.

    Raises:
        StoreError: if the file is missing, locked, damaged, not ours, or of a newer schema.
    """

    def __init__(self, path: Path, *, create: bool = True, patience: float = 15.0) -> None:
        self.path = path
        # SQLite lets waiting writers poll; queueing them here is faster and fair.
        self._writing = threading.Lock()
        if not create and not path.is_file():
            raise StoreError(
                f"{path}: no such label database; name it with --db, or make one with "
                "`rlhf label add-user NAME --admin`"
            )
        _make_private(path)
        self._engine = _engine(path, patience)
        self._writer = self._engine.execution_options(write=True)
        try:
            self._prepare()
        except StoreError:
            self.close()
            raise

    def _prepare(self) -> None:
        with self.read() as session:
            tables = inspect(session.connection()).get_table_names()
        if not tables:
            with self.write() as session:
                Base.metadata.create_all(session.connection())
                session.merge(MetaRow(key="schema", value=str(SCHEMA)))
            return
        if "meta" not in tables:
            raise StoreError(f"{self.path}: {_REASONS['not a database']}")
        with self.read() as session:
            version = int(session.get_one(MetaRow, "schema").value)
        if version > SCHEMA:
            raise StoreError(
                f"{self.path}: was written by a newer version of this program (schema {version}, "
                f"known is {SCHEMA}); upgrade rlhf, or name another file with --db"
            )

    @contextmanager
    def write(self) -> Generator[Session]:
        """One transaction that holds the write lock from its beginning; durable on exit."""
        with self._writing, self._session(self._writer) as session, session.begin():
            session.connection()  # takes the lock now, not at the first statement
            yield session

    @contextmanager
    def read(self) -> Generator[Session]:
        """One consistent view of the database that waits for nobody."""
        with self._session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _session(self, engine: Engine) -> Generator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session:
                yield session
        except IntegrityError:
            raise
        except (DatabaseError, sqlite3.DatabaseError) as error:
            for sign, reason in _REASONS.items():
                if sign in str(error):
                    raise StoreError(f"{self.path}: {reason}") from error
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()


def _make_private(path: Path) -> None:
    """Make the file, if there is none, so that only we can read the password hashes in it."""
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise StoreError(f"{path}: {_REASONS['unable to open']}") from error


def _engine(path: Path, patience: float) -> Engine:
    url = URL.create("sqlite", database=str(path))
    # One connection per server thread (there are 40) and a few more, so that none waits for one.
    engine = create_engine(
        url, pool_size=48, max_overflow=-1, connect_args={"isolation_level": None}
    )

    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # NORMAL may lose the last votes at power loss
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", begin)
    return engine
