"""Requests to a labelling server: sent again where that is harmless, refusals as sentences."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from rlhf.errors import RunError

_TRIES = 6
_FIRST_WAIT = 0.1
"""Seconds; each wait is twice the one before, three seconds in all."""
_PATIENCE = 10.0
"""Seconds that a server may ask for before a request is given up."""

Body = Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    method: str
    path: str
    body: Body | None = None
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    again: bool = False
    """Whether to do it twice is to do it once, so that a reply that was lost does no harm."""
    fine: int | None = None
    """A refusal that is no error."""


class Wire:
    """A session with the server at one address.

    Raises:
        RunError: nobody answers, or the server refuses; each method may.
    """

    def __init__(self, server: str, token: str | None = None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self._http = httpx.Client(base_url=server, timeout=120.0, headers=headers)
        except httpx.InvalidURL as error:
            raise RunError(
                f"{server} is no address ({error}); give one like http://host:7860"
            ) from error
        self._server = server

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()

    def call(self, ask: Ask) -> Any:  # noqa: ANN401 - JSON is untyped
        """The JSON of the answer; a list of rows where the server sends one a line."""
        answer = self._answer(ask)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if kind == "application/jsonl":
            return [json.loads(line) for line in answer.text.split("\n") if line]
        if kind != "application/json":
            raise RunError(f"{self._server} is no labelling server; check the address")
        if answer.is_error and answer.status_code != ask.fine:
            reason = answer.json().get("detail")
            raise RunError(f"{self._server}: {ask.method} {ask.path} was refused: {reason}")
        return answer.json()

    def _answer(self, ask: Ask) -> httpx.Response:
        """The answer, after as many tries as do no harm."""
        wait = _FIRST_WAIT
        for left in reversed(range(_TRIES)):
            try:
                answer = self._http.request(ask.method, ask.path, json=ask.body, params=ask.params)
            except httpx.TransportError as error:
                # what never reached the server may always be sent again
                reached = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                if not left or (reached and not ask.again):
                    raise self._silence(ask, error, reached=reached) from error
                asked_for = 0.0
            else:
                asked_for = _asked_for(answer)
                if asked_for is None or not left or asked_for > _PATIENCE:
                    return answer
            time.sleep(max(wait, asked_for))
            wait *= 2
        raise AssertionError("the last try returns or raises")

    def _silence(self, ask: Ask, error: Exception, *, reached: bool) -> RunError:
        if reached:
            return RunError(
                f"{self._server}: the connection was lost during {ask.method} {ask.path} "
                f"({error or type(error).__name__}); look what came of it, then try again"
            )
        return RunError(
            f"{self._server}: no labelling server answers ({error}); start one with "
            "`rlhf label serve`"
        )


def _asked_for(answer: httpx.Response) -> float | None:
    """The seconds to wait before the request may be sent again; None if it need not be."""
    if answer.status_code != int(httpx.codes.TOO_MANY_REQUESTS):
        return None
    return float(answer.headers.get("retry-after", 1))
