"""People as judges: a labelling campaign on a running server, over its HTTP API."""

import getpass
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
from tqdm.auto import tqdm

from rlhf.errors import RunError
from rlhf.records import Comparison, Vote, from_json, to_json

PASSWORD = "RLHF_LABEL_PASSWORD"
_CHUNK = 200
_POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """Where people are asked."""

    server: str
    user: str
    name: str
    overlap: int = 1


def password_of(user: str) -> str:
    """The password from the environment, or typed at the terminal; it is never stored.

    Raises:
        RunError: it is in neither place.
    """
    given = os.environ.get(PASSWORD)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise RunError(f"no password for {user}; set {PASSWORD}")
    return getpass.getpass(f"Password of {user}: ")


class Desk:
    """An admin's session with a labelling server."""

    def __init__(self, server: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=server, timeout=60)
        self._server = server
        try:
            role = self._call("POST", "/api/login", {"name": user, "password": password})["role"]
        except RunError:
            self._http.close()
            raise
        if role != "admin":
            self._http.close()
            raise RunError(f"{user} is a {role} at {server}; a campaign needs an admin")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._http.close()

    def ask(self, campaign: Campaign, comparisons: Sequence[Comparison], guidelines: str) -> None:
        """Put comparisons before people; those that are there already are not doubled."""
        for start in range(0, len(comparisons), _CHUNK):
            body = {
                "name": campaign.name,
                "overlap": campaign.overlap,
                "guidelines": guidelines,
                "comparisons": [to_json(c) for c in comparisons[start : start + _CHUNK]],
            }
            self._call("POST", "/api/campaigns", body)

    def wait(self, campaign: Campaign) -> None:
        """Return once every comparison has its votes."""
        path = f"/api/campaigns/{quote(campaign.name)}/status"
        with tqdm(desc="votes complete", disable=None, dynamic_ncols=True) as bar:
            while True:
                status = self._call("GET", path)
                bar.total = status["comparisons"]
                bar.update(status["complete"] - bar.n)
                if status["complete"] >= status["comparisons"]:
                    return
                time.sleep(_POLL_SECONDS)

    def votes(self, campaign: Campaign) -> list[Vote]:
        """Every vote so far."""
        export = self._call("GET", f"/api/campaigns/{quote(campaign.name)}/export")
        return [from_json(Vote, vote) for vote in export["votes"]]

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise RunError(
                f"{self._server}: no labelling server answers ({error}); start one with "
                "`rlhf label serve`"
            ) from error
        if answer.is_error:
            raise RunError(f"{self._server}: {method} {path} was refused: {_reason(answer)}")
        return answer.json()


def _reason(answer: httpx.Response) -> str:
    if answer.headers.get("content-type", "").startswith("application/json"):
        return str(answer.json().get("detail", answer.text))
    return f"{answer.status_code} {answer.reason_phrase}"
