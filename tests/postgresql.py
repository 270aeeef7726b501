"""A PostgreSQL server of the tests' own, started where its programs are installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from labeling_ui.db.store import Store

_USER = "postgres"


def programs() -> Path | None:
    """Where ``initdb`` and ``postgres`` lie; None where they are not installed."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next(
        (
            f
            for f in [*([Path(found).resolve().parent] if found else []), *folders]
            if (f / "initdb").exists()
        ),
        None,
    )


@dataclass
class Server:
    """A server that runs, on a socket in its own folder."""

    folder: Path
    bin: Path
    process: subprocess.Popen[Any] | None = None
    _numbers: count = field(default_factory=count)

    def start(self) -> None:
        """Run until it answers."""
        command = [self.bin / "postgres", "-D", self.folder / "data", "-k", self.folder]
        command += ["-c", "listen_addresses=", "-c", "max_connections=200"]
        command += ["-c", "fsync=off", "-c", "full_page_writes=off"]  # the machine is not to fail
        self.process = started = subprocess.Popen(command, **_as_owner(), stderr=subprocess.DEVNULL)
        check = [self.bin / "pg_isready", "-h", self.folder, "-t", "30", "-q"]
        while subprocess.run(check, check=False).returncode:
            assert started.poll() is None, "the server ended"

    def kill(self) -> None:
        """Pull the plug."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def run(self, statement: str) -> None:
        """Run one statement outside a transaction."""
        with psycopg.connect(f"host={self.folder} user={_USER} dbname=postgres") as connection:
            connection.autocommit = True
            connection.execute(statement.encode())

    def url(self, name: str) -> str:
        """The address of a database."""
        return f"postgresql://{_USER}@/{name}?host={self.folder}"

    def drop(self, url: str) -> None:
        """Remove a database, which would be one of hundreds to remove at the end."""
        name = make_url(url).database
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def empty(self) -> str:
        """The address of a new database without any table."""
        name = f"empty_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def fresh(self) -> str:
        """The address of a new label database."""
        if not (self.folder / "template").exists():
            self.run("CREATE DATABASE template_label")
            Store(self.url("template_label")).close()
            (self.folder / "template").touch()
        name = f"label_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template_label")
        return self.url(name)


def _as_owner() -> dict[str, Any]:
    """PostgreSQL does not run as root; its package brings a user for it."""
    return {"user": _USER, "group": _USER} if os.geteuid() == 0 else {}


@contextmanager
def server() -> Generator[Server]:
    """A server in a folder of its own, gone at the end."""
    found = programs()
    assert found is not None
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, _USER, _USER)
        command = [found / "initdb", "-D", folder / "data", "-U", _USER, "-A", "trust", "-N"]
        command += ["--encoding=UTF8", "--locale=C"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **_as_owner())
        running = Server(folder, found)
        try:
            running.start()
            yield running
        finally:
            running.kill()
