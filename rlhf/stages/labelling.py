"""The labelling server, run and spoken to from outside: over HTTP, like anybody else."""

import json
import secrets
import subprocess
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from rlhf.errors import RunError
from rlhf.records import Comparison, Preference, from_json, to_json

_COMMAND = (sys.executable, "-m", "labeling_ui")
_UPLOAD = 500
"""Comparisons in one request."""


class LabelClient:
    """Somebody who is signed in."""

    def __init__(self, url: str, name: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=120.0)
        self.name = name
        try:
            self._call("POST", "/api/login", {"name": name, "password": password})
        except RunError:
            self._http.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def add_user(self, name: str, password: str) -> None:
        """Let a rater sign in, who may be known already."""
        body = {"name": name, "password": password}
        self._call("POST", "/api/users", body, fine=(httpx.codes.CONFLICT,))

    def add_campaign(
        self, name: str, comparisons: Sequence[Comparison], *, overlap: int, guidelines: str
    ) -> None:
        """Ask for ``overlap`` votes on each comparison; what is there already stays as it is."""
        for start in range(0, len(comparisons), _UPLOAD):
            part = [to_json(c) for c in comparisons[start : start + _UPLOAD]]
            body = {"name": name, "overlap": overlap, "guidelines": guidelines}
            self._call("POST", "/api/campaigns", {**body, "comparisons": part})

    def next_item(self, campaign: str) -> dict[str, Any] | None:
        """What is to be judged now: messages, left, right and the assignment; None at the end."""
        return self._call("GET", f"/api/campaigns/{campaign}/next")["item"]

    def vote(self, campaign: str, assignment: int, choice: str) -> dict[str, Any] | None:
        """Answer an assignment; what is next."""
        key = f"{self.name}-{assignment}"
        body = {"assignment": assignment, "choice": choice, "key": key}
        return self._call("POST", f"/api/campaigns/{campaign}/votes", body)["item"]

    def num_open(self, campaign: str) -> int:
        """How many comparisons of a campaign still need votes."""
        status = self._call("GET", f"/api/campaigns/{campaign}/status")
        return status["comparisons"] - status["complete"]

    def preferences(self, campaign: str) -> list[Preference]:
        """What the votes so far settle."""
        exported = self._call("GET", f"/api/campaigns/{campaign}/export")
        return [from_json(Preference, row) for row in exported["preferences"]]

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        fine: Sequence[int] = (),
    ) -> Any:  # noqa: ANN401 - JSON
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise RunError(
                f"the labelling server does not answer at {self._http.base_url} ({error}); "
                "start again with --resume"
            ) from error
        if answer.is_error and answer.status_code not in fine:
            detail = answer.json().get("detail", answer.text)
            raise RunError(f"the labelling server refused {method} {path}: {detail}")
        return answer.json()


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
