"""Somebody who is signed in to a labelling server: everything goes over its HTTP API."""

from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote

import httpx

from rlhf.errors import RunError
from rlhf.records import Comparison, Preference, Vote, from_json, to_json

_UPLOAD = 500
"""Comparisons in one request."""


class LabelClient:
    """A session with a labelling server.

    Raises:
        RunError: nobody answers, or the server refuses; each method may.
    """

    def __init__(self, server: str, name: str, password: str) -> None:
        try:
            self._http = httpx.Client(base_url=server, timeout=120.0)
        except httpx.InvalidURL as error:
            raise RunError(
                f"{server} is no address ({error}); give one like http://host:7860"
            ) from error
        self._server, self.name = server, name
        try:
            body = {"name": name, "password": password}
            self.role: str = self._call("POST", "/api/login", body)["role"]
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
        """Ask for ``overlap`` votes on each comparison; what is there already is not doubled."""
        for start in range(0, len(comparisons), _UPLOAD):
            part = [to_json(c) for c in comparisons[start : start + _UPLOAD]]
            settings = {"overlap": overlap}
            body = {"name": name, "settings": settings, "guidelines": guidelines}
            self._call("POST", "/api/campaigns", {**body, "comparisons": part})

    def next_item(self, campaign: str) -> dict[str, Any] | None:
        """What is to be judged now: messages, responses and the assignment; None at the end."""
        return self._call("GET", f"{_path(campaign)}/next")["item"]

    def vote(self, campaign: str, assignment: int, choice: str) -> dict[str, Any] | None:
        """Answer an assignment; what is next."""
        key = f"{self.name}-{assignment}"
        body = {"assignment": assignment, "choice": choice, "key": key}
        return self._call("POST", f"{_path(campaign)}/votes", body)["item"]

    def progress(self, campaign: str) -> tuple[int, int]:
        """How many comparisons have all their votes, and how many there are."""
        status = self._call("GET", f"{_path(campaign)}/status")
        return status["complete"], status["comparisons"]

    def preferences(self, campaign: str) -> list[Preference]:
        """What the votes so far settle."""
        return [from_json(Preference, row) for row in self._export(campaign)["preferences"]]

    def votes(self, campaign: str) -> list[Vote]:
        """Every vote so far."""
        return [from_json(Vote, row) for row in self._export(campaign)["votes"]]

    def _export(self, campaign: str) -> dict[str, Any]:
        return self._call("GET", f"{_path(campaign)}/export")

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        fine: Sequence[int] = (),
    ) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise RunError(
                f"{self._server}: no labelling server answers ({error}); start one with "
                "`rlhf label serve`"
            ) from error
        if not answer.headers.get("content-type", "").startswith("application/json"):
            raise RunError(f"{self._server} is no labelling server; check the address")
        if answer.is_error and answer.status_code not in fine:
            reason = answer.json().get("detail")
            raise RunError(f"{self._server}: {method} {path} was refused: {reason}")
        return answer.json()


def _path(campaign: str) -> str:
    return f"/api/campaigns/{quote(campaign, safe='')}"
