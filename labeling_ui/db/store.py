"""Transactions on the label database: one SQLite file, or a PostgreSQL database by its URL.

There is one writer at a time, on PostgreSQL too. A vote takes a few milliseconds of it, far more
than people can cast, and what two raters do at once is then what they would do in turn.
"""

import re
import sqlite3
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Executable,
    Row,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from labeling_ui.db.read_only import Frozen, cannot_be_written
from rlhf.errors import RLHFError

SCHEMA = "0003"
"""The newest migration; a database that went further is refused."""

_OURS = (
    (
        # others number their migrations in the same table, most of them by twelve characters
        "SELECT version_num FROM alembic_version",
        r"(?!000[01])[0-9]{4}",
        {"alembic_version": {"version_num"}, "person": {"handle", "role", "password_hash"}},
    ),
    (
        "SELECT value FROM meta WHERE key = 'schema'",
        "1",
        {"meta": {"key", "value"}, "user": {"handle"}, "comparison": {"record"}},
    ),
)
"""What finds the version of a schema of ours, how it is written, and tables that come with it."""

_LOCK = 7_255_043
"""The advisory lock of PostgreSQL that stands for being the writer."""


class StoreError(RLHFError):
    """The label database cannot be used as it is."""


class OldSchema(StoreError):  # noqa: N818 - says what it is
    """The label database would have to be brought to the newest schema, and is only read."""


class NotFound(RLHFError):  # noqa: N818 - reads as the answer it becomes: 404 Not Found
    """There is no such campaign, assignment or user for the one who asks."""


class Conflict(RLHFError):  # noqa: N818 - 409 Conflict
    """The request contradicts what is already stored."""


_REASONS = {
    "locked": "is locked by another program; close that one, or wait, and try again",
    "lock timeout": "is locked by another program; close that one, or wait, and try again",
    "read-only transaction": "takes no writes; name the primary server, not a standby, and "
    "see that default_transaction_read_only is off",
    "readonly": "cannot be written; check the permissions of the file and its folder",
    "unable to open": "cannot be opened; check that its folder exists and can be written",
    "disk is full": "cannot grow because the disk is full; free some space and try again",
    "not a database": "is not a label database; name another one with --db",
    "malformed": "is damaged; restore it from a backup",
    "failed to resolve": "is at no known host; check the address",
    "authentication failed": "refuses the user or the password; check both in the address",
    "fatal:  database": "is not there; make it with `createdb`, or check its name in the address",
    "connection failed": "does not answer; check the address, and that PostgreSQL runs there",
    "connection refused": "does not answer; check the address, and that PostgreSQL runs there",
    "server closed the connection": "went away; try again when PostgreSQL is back",
    "terminating connection": "went away; try again when PostgreSQL is back",
}


class Store:
    """The label database, opened, checked and brought to the newest schema; transactions on it.

    Args:
        database: A SQLite file, or the address of a PostgreSQL database (``postgresql://…``).
        create: Make the file if it does not exist.
        patience: Seconds to wait for another process that is writing.
        only_read: Change nothing, not even beside the file. A file that cannot be written is only
            read in any case, unless it may have to be made.

    Raises:
        OldSchema: if it is only read, and of an older schema.
        StoreError: if it is missing, locked, damaged, not ours, or of a newer schema.
    """

    def __init__(
        self,
        database: Path | str,
        *,
        create: bool = True,
        patience: float = 15.0,
        only_read: bool = False,
    ) -> None:
        # Waiting writers poll a SQLite file; queueing them here is faster and fair.
        self._writing = threading.Lock()
        self.database = database
        """What it was opened with, for a process of its own to open it."""
        url = _url(database)
        self._frozen: Frozen | None = None
        self.name = url.render_as_string(hide_password=True)
        """What messages call it; without the password."""
        if url.drivername == "sqlite":
            path = Path(str(url.database))
            self.name = str(path)
            if not create and not path.is_file():
                raise StoreError(
                    f"{path}: no such label database; name it with --db, or make one with "
                    "`rlhf label add-user NAME --admin`"
                )
            if only_read or (not create and cannot_be_written(path)):
                self._frozen = Frozen(path)
            else:
                _make_private(path)
        self._engine = _engine(url, patience, self._frozen)
        self._writer = self._engine.execution_options(write=True)
        try:
            self._reach()
            self._prepare()
        except StoreError:
            self.close()
            raise

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    def _reach(self) -> None:
        """What PostgreSQL's own library finds wrong with an address is said as it says it."""
        try:
            with self._explained():
                self._engine.connect().close()
        except DatabaseError as error:
            reason = " ".join(str(error.orig).split())
            raise StoreError(
                f"{self.name}: cannot be opened ({reason}); check the address"
            ) from error

    def _prepare(self) -> None:
        found = self._schema()
        if found is not None and int(found) > int(SCHEMA):
            raise StoreError(
                f"{self.name}: was written by a newer version of this program (schema "
                f"{int(found)}, known is {int(SCHEMA)}); upgrade rlhf, or name another one with "
                "--db"
            )
        if self._frozen:
            if found != SCHEMA:
                raise OldSchema(
                    f"{self.name}: is of an older version of this program and cannot be brought "
                    "up to date where it is; copy it to where it can be written"
                )
            return
        if self.kind == "sqlite":
            # it stays in the file, so it waits until the file is known to be ours
            with self._explained(), closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
        if found != SCHEMA:
            with self.write() as session:
                migrate(session.connection())

    def _schema(self) -> str | None:
        """The version of the schema; None where there is no table yet."""
        with self.read() as session:
            found = inspect(session.connection())
            tables = set(found.get_table_names())
            if not tables:
                return None
            for query, written, needed in _OURS:
                if needed.keys() <= tables and all(
                    columns <= {column["name"] for column in found.get_columns(table)}
                    for table, columns in needed.items()
                ):
                    versions = [str(one) for one in session.scalars(text(query))]
                    if len(versions) == 1 and re.fullmatch(written, versions[0]):
                        return versions[0]
        raise StoreError(f"{self.name}: {_REASONS['not a database']}")

    @contextmanager
    def write(self) -> Generator[Session]:
        """One transaction that is the only one to write from its beginning; durable on exit."""
        with self._writing, self._session(self._writer) as session, session.begin():
            session.connection()  # takes the lock now, not at the first statement
            yield session

    @contextmanager
    def read(self) -> Generator[Session]:
        """One consistent view of the database that waits for nobody."""
        with self._session(self._engine) as session, session.begin():
            yield session
        if self._frozen and self._frozen.changed():
            raise StoreError(f"{self.name}: was written while it was read; try again")

    def one(self, statement: Executable, **values: Any) -> Row[*tuple[Any, ...]] | None:  # noqa: ANN401
        """The row that a statement finds; cheaper than a transaction for more of them."""
        with self._explained(), self._engine.connect() as connection:
            return connection.execute(statement, values).one_or_none()

    @contextmanager
    def _session(self, engine: Engine) -> Generator[Session]:
        with self._explained(), Session(engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def _explained(self) -> Generator[None]:
        """What goes wrong with the database as a :class:`StoreError`."""
        try:
            yield
        except IntegrityError:
            raise
        except (DatabaseError, sqlite3.DatabaseError) as error:
            for sign, reason in _REASONS.items():
                if sign in str(error).lower():
                    raise StoreError(f"{self.name}: {reason}") from error
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest version; the caller commits."""
    from alembic import command  # it takes a while to import, and is rarely needed
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    if connection.dialect.name == "sqlite":
        # renaming a table would otherwise rename it in the others' constraints
        connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")


def _url(database: Path | str) -> URL:
    if isinstance(database, Path) or "://" not in database:
        return URL.create("sqlite", database=str(database))
    try:
        url = make_url(database)
    except (ArgumentError, ValueError) as error:
        raise StoreError(
            "--db: is no address of a database; write postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise StoreError(
            f"--db: {url.get_backend_name()} is not supported; name a file for SQLite, or "
            "postgresql://USER:PASSWORD@HOST/NAME"
        )
    return url.set(drivername="postgresql+psycopg")


def _make_private(path: Path) -> None:
    """Make the file, if there is none, so that only we can read the password hashes in it."""
    try:
        if not path.exists():
            path.touch(mode=0o600)
    except OSError as error:
        raise StoreError(f"{path}: {_REASONS['unable to open']}") from error


def _engine(url: URL, patience: float, frozen: Frozen | None) -> Engine:
    # One connection per server thread (there are 40) and a few more, so that none waits for one.
    if url.get_backend_name() == "postgresql":
        return _postgresql(url, patience)
    how: dict[str, Any] = {"connect_args": {"isolation_level": None}}
    if frozen:
        how = {"creator": frozen.connect}
    engine = create_engine(url, pool_size=48, max_overflow=-1, **how)

    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
        cursor.execute("PRAGMA synchronous = FULL")  # NORMAL may lose the last votes at power loss
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", begin)
    return engine


def _postgresql(url: URL, patience: float) -> Engine:
    try:
        # a server that came back is not met with connections to the one that went
        options: dict[str, Any] = {"pool_size": 24, "max_overflow": 24, "pool_pre_ping": True}
        engine = create_engine(
            url, connect_args={"options": f"-c lock_timeout={int(patience * 1000)}"}, **options
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            "PostgreSQL needs one more package: pip install 'rlhf[postgresql]'"
        ) from error

    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("write"):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    event.listen(engine, "begin", begin)
    return engine
