"""Who calls, whether they may, and what they are told if they may not."""

import logging
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from labeling_ui.accounts.rate_limits import PER_ACCOUNT, Rate, TooMany
from labeling_ui.accounts.sessions import signed_in
from labeling_ui.accounts.tokens import Tokens
from labeling_ui.accounts.users import Account, Accounts, UserRole
from labeling_ui.db.store import Conflict, NotFound, StoreError
from labeling_ui.locales import Sentence, words_of
from rlhf.errors import RLHFError
from rlhf.records import UNSTORABLE

log = logging.getLogger(__name__)

MAX_DETAIL = 280

_STATUS = {NotFound: 404, Conflict: 409}
_ARTICLE: Mapping[UserRole, str] = {"adjudicator": "an adjudicator", "admin": "an admin"}


class Refused(RLHFError):  # noqa: N818 - 401, 403 or 503
    """The caller is not signed in, or may not do this."""

    def __init__(self, status: Literal[401, 403, 503], message: str) -> None:
        super().__init__(message)
        self.status = status


class Callers:
    """Finds out who sent a request: by the cookie of a session, or the token of a program."""

    def __init__(self, accounts: Accounts, tokens: Tokens) -> None:
        self._accounts, self._tokens = accounts, tokens
        self._rate = Rate(PER_ACCOUNT)

    def who(self, request: Request) -> Account | None:
        """The caller, if it is anybody; a token that does not work is nobody's."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._tokens.owner(token.strip())
        return signed_in(self._accounts, request.cookies)

    def need(self, request: Request, role: UserRole) -> Account:
        """The caller, who may do what ``role`` may.

        Raises:
            Refused: if it is nobody, or may not.
            TooMany: if the account asks too often.
        """
        account = self.who(request)
        if account is None:
            raise Refused(401, "sign in first")
        self._rate.spend(str(account.id))
        if not account.has_role(role):
            raise Refused(403, f"only {_ARTICLE.get(role, 'a ' + role)} may do this")
        return account


def address_of(request: Request) -> str:
    """Where a request comes from; for IPv6 the network, whose addresses are one household's."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False))


def error_answer(request: Request, error: Exception) -> JSONResponse:
    """What a user can put right, as ``{"detail": sentence}`` with the fitting status.

    What raters may meet is said in their language.
    """
    if isinstance(error, TooMany):
        return told(429, str(error), {"Retry-After": str(error.seconds)})
    if isinstance(error, StoreError):  # it names the file or the server, for who reads the log
        log.error("%s", error)
        error = Refused(503, Sentence("refused_store"))
    status = error.status if isinstance(error, Refused) else 422
    for kind, code in _STATUS.items():
        status = code if isinstance(error, kind) else status
    words = words_of(request)
    return told(status, words.told(error))


def invalid_answer(_: Request, error: Exception) -> JSONResponse:
    """A body of the wrong shape, in one sentence; what was sent is not echoed."""
    assert isinstance(error, RequestValidationError)
    return told(422, "; ".join(map(_problem, error.errors())))


def _problem(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "json_invalid":
        return f"the body is no JSON from character {problem['loc'][1]} on"
    steps = [str(step) for step in problem["loc"] if step != "body"] or ["body"]
    # what pydantic says of half a character if it is to count the others first
    halved = problem["type"] == "string_unicode"
    why = UNSTORABLE if halved else problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(steps)}: {why}"


def told(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal in one line that any client can read; it may quote what was sent, shortened."""
    line = " ".join(detail.encode(errors="backslashreplace").decode().split())
    short = line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 1] + "…"
    return JSONResponse({"detail": short}, status, headers)
