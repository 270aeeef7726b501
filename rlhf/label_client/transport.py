"""Requests to a labelling server: sent again where that is harmless, refusals as sentences."""

import json
import re
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import httpx

from rlhf.errors import RunError

_TRIES = 6
_FIRST_WAIT = 0.1
"""Seconds; each wait is twice the one before, three seconds in all."""
_PATIENCE = 10.0
"""Seconds that a server may ask for before a request is given up."""

_BAD_GATEWAY = (502, 503, 504)
"""What a proxy says while the server behind it starts again; 503 also a server whose database is
away or locked."""

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
    has: Set[str] = frozenset[str]()
    """What the answer of a labelling server holds."""


class Wire:
    """A session with the server at one address.

    Raises:
        RunError: nobody answers, or the server refuses; each method may.
    """

    def __init__(self, server: str, token: str | None = None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {_visible(token)}"}
        try:
            url = httpx.URL(server)
        except (httpx.InvalidURL, ValueError) as error:
            raise RunError(
                f"{server} is no address ({error}); give one like http://host:7860"
            ) from error
        if url.scheme not in ("http", "https") or not url.host:
            raise RunError(
                f"{server!r} is no address with http:// or https://; give one like http://host:7860"
            )
        self._http = httpx.Client(base_url=url, timeout=120.0, headers=headers)
        self._server = server

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()

    def call(self, ask: Ask) -> Any:  # noqa: ANN401 - JSON is untyped
        """The JSON of the answer; a list of rows where the server sends one a line."""
        answer = self._answer(ask)
        try:
            said: Any = _json(answer)
        except (ValueError, RecursionError) as error:
            raise self._stranger(ask, answer) from error
        if answer.is_error and answer.status_code != ask.fine:
            if not isinstance(said, dict) or "detail" not in said:
                raise self._stranger(ask, answer)
            raise RunError(f"{self._server}: {ask.method} {ask.path} was refused: {said['detail']}")
        if ask.has and not (isinstance(said, dict) and ask.has <= said.keys()):
            raise self._stranger(ask, answer)
        return said

    def _answer(self, ask: Ask) -> httpx.Response:
        """The answer, after as many tries as do no harm."""
        request, wait = self._request(ask), _FIRST_WAIT
        for left in reversed(range(_TRIES)):
            try:
                answer = self._http.send(request)
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
                # it will not do better next time; what it says may quote a cookie
                raise self._unsent(ask, type(error).__name__) from error
            except (httpx.TransportError, httpx.DecodingError) as error:
                # what never reached the server may always be sent again
                reached = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                if not left or (reached and not ask.again):
                    raise self._silence(ask, error, reached=reached) from error
                asked_for = 0.0
            else:
                asked_for = _asked_for(answer, again=ask.again)
                if asked_for is None or not left or asked_for > _PATIENCE:
                    return answer
            time.sleep(max(wait, asked_for))
            wait *= 2
        raise AssertionError("the last try returns or raises")

    def _request(self, ask: Ask) -> httpx.Request:
        try:
            return self._http.build_request(ask.method, ask.path, json=ask.body, params=ask.params)
        except (ValueError, TypeError, httpx.InvalidURL) as error:  # a NaN, half a character, a set
            raise self._unsent(ask, str(error)) from error

    def _unsent(self, ask: Ask, why: str) -> RunError:
        return RunError(
            f"{self._server}: {ask.method} {ask.path} cannot be sent ({why}); mend what is in it"
        )

    def _stranger(self, ask: Ask, answer: httpx.Response) -> RunError:
        """What to say of an answer that a labelling server does not give."""
        code = answer.status_code
        told = f"{ask.method} {ask.path} with {code} {httpx.codes.get_reason_phrase(code)}".strip()
        if code in _BAD_GATEWAY:
            return RunError(
                f"{self._server}: a proxy answers {told}; see that the labelling server behind it "
                "runs, and look what came of the request"
            )
        return RunError(
            f"{self._server} is no labelling server (it answers {told}, and not as one would); "
            "check the address"
        )

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


def _visible(token: str) -> str:
    """A token as it goes into a header, without the line end of the file that it was read from."""
    token = token.strip()
    if not re.fullmatch("[!-~]+", token):
        raise RunError(
            "the token is empty or holds other than visible ASCII characters; make one with "
            "`rlhf label token NAME`"
        )
    return token


def _json(answer: httpx.Response) -> object:
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "application/jsonl":
        return [json.loads(line) for line in answer.text.split("\n") if line]
    if kind != "application/json":
        raise ValueError("no JSON")
    return answer.json()


def _asked_for(answer: httpx.Response, *, again: bool) -> float | None:
    """The seconds to wait before the request may be sent again; None if it need not be."""
    undone = answer.status_code == int(httpx.codes.TOO_MANY_REQUESTS)
    if not (undone or (again and answer.status_code in _BAD_GATEWAY)):
        return None
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isdecimal() else 1.0  # a proxy may also name a date
