"""A labelling server of our own, run as a process beside this one."""

import json
import secrets
import subprocess
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from rlhf.errors import RunError

_COMMAND = (sys.executable, "-m", "labeling_ui")


@contextmanager
def label_server(database: Path, *, port: int = 0) -> Generator[str]:
    """A labelling server for the length of a ``with`` block; where it answers."""
    log = database.with_suffix(".log")
    command = [*_COMMAND, "serve", "--db", str(database), "--port", str(port)]
    with (
        log.open("a", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise RunError(f"the labelling server did not start; {log} says why")
            yield url
        finally:
            process.terminate()


def passwords(database: Path, names: Iterable[str]) -> dict[str, str]:
    """A password for each name, the same at every start; the first name becomes the admin.

    They are drawn at random and kept beside the database, for the eyes of its owner only.
    """
    path = database.with_suffix(".passwords.json")
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    drawn = {name: secrets.token_urlsafe(12) for name in names}
    admin, password = next(iter(drawn.items()))
    added = subprocess.run(
        [*_COMMAND, "add-user", admin, "--admin", "--password-stdin", "--db", str(database)],
        input=password + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if added.returncode:
        raise RunError(f"no admin could be added to {database}: {added.stderr.strip()}")
    path.touch(mode=0o600)
    path.write_text(json.dumps(drawn, indent=2) + "\n", encoding="utf-8")
    return drawn
