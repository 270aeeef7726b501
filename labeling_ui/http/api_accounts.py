"""The part of the HTTP API that is about people: sessions, accounts, tokens, invitations, audit."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import wraps
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from labeling_ui.accounts.audit import entries
from labeling_ui.accounts.invitations import Invitations
from labeling_ui.accounts.rate_limits import SIGN_INS, Rate
from labeling_ui.accounts.sessions import COOKIE
from labeling_ui.accounts.tokens import Tokens
from labeling_ui.accounts.users import SESSION_SECONDS, Account, Accounts, NewAccount
from labeling_ui.campaigns.answers import RowId
from labeling_ui.db.store import Store
from labeling_ui.http.auth import Callers, Refused, address_of
from labeling_ui.http.openapi import document
from labeling_ui.locales import Sentence, languages, words_of
from rlhf.records import STORABLE

MAX_USERS = 5000
"""Users made at once."""

_Name = Annotated[str, Field(max_length=200), STORABLE]
_Password = Annotated[str, Field(max_length=1000), STORABLE]
_Role = Annotated[str, Field(max_length=20), STORABLE]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Login(_Body):
    """Name and password."""

    name: _Name
    password: _Password


class NewUser(Login):
    """A user to make."""

    role: _Role = "rater"


class NewProgram(_Body):
    """One of many users to make, each with a token."""

    name: _Name
    password: _Password | None = None
    role: _Role = "rater"


class NewInvitation(_Body):
    """An invitation to make."""

    role: _Role = "rater"
    uses: int = 1
    days: float = 7


class Join(Login):
    """Somebody who was invited."""

    code: Annotated[str, Field(max_length=200), STORABLE]


class NewPassword(_Body):
    """Another password, and proof that it is the owner who asks."""

    old: _Password
    new: _Password


class Whose(_Body):
    """For whom a token is; for the caller if nobody is named."""

    name: _Name | None = None


class AccountsApi:
    """The handlers, on one store."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        tokens: Tokens,
        invitations: Invitations,
        callers: Callers,
    ) -> None:
        self._store, self._accounts = store, accounts
        self._tokens, self._invitations = tokens, invitations
        self._callers = callers
        self._signing_in = Rate(SIGN_INS)
        self._hashing = asyncio.Lock()

    def router(self) -> APIRouter:
        """Every path of this part."""
        router = APIRouter()
        routes: list[tuple[str, str, Callable[..., JSONResponse]]] = [
            ("GET", "/healthz", self.health),
            ("GET", "/api/words", self.words),
            ("POST", "/api/login", self.login),
            ("POST", "/api/logout", self.logout),
            ("POST", "/api/join", self.join),
            ("GET", "/api/me", self.me),
            ("POST", "/api/password", self.password),
            ("POST", "/api/users", self.add_users),
            ("GET", "/api/tokens", self.tokens),
            ("POST", "/api/tokens", self.make_token),
            ("DELETE", "/api/tokens/{number}", self.revoke_token),
            ("GET", "/api/invitations", self.invitations),
            ("POST", "/api/invitations", self.invite),
            ("DELETE", "/api/invitations/{number}", self.uninvite),
            ("GET", "/api/audit", self.audit),
        ]
        for method, path, handler in routes:
            description = document(method, path, handler)
            hashes = handler in (self.login, self.join, self.password, self.add_users)
            answer = self._one_by_one(handler, handler != self.add_users) if hashes else handler
            router.add_api_route(path, answer, methods=[method], **description)
        return router

    def _one_by_one(
        self, handler: Callable[..., JSONResponse], by_guests: bool
    ) -> Callable[..., Awaitable[JSONResponse]]:
        """``handler`` beside the threads of all others; those of guests counted before they wait.

        Argon2 takes 64 MiB and every core for a tenth of a second. As many at once as there are
        threads would be gigabytes, and nobody would be answered before the last of them.
        """

        @wraps(handler)
        async def answer(request: Request, body: Any) -> JSONResponse:  # noqa: ANN401 - the handler's
            if by_guests:
                self._signing_in.spend(address_of(request))
            async with self._hashing:
                return await run_in_threadpool(handler, request, body)

        return answer

    def health(self) -> JSONResponse:
        """The server runs and its database answers."""
        self._accounts.count()
        return JSONResponse({"ok": True})

    def words(self, request: Request) -> JSONResponse:
        """The words of the pages in the caller's language, and which others there are."""
        words = words_of(request)
        return JSONResponse(
            {
                "language": words.language,
                "direction": words.direction,
                "texts": dict(words.texts),
                "languages": {code: one.name for code, one in languages().items()},
            },
            headers={"Vary": "Accept-Language, Cookie"},
        )

    def login(self, request: Request, body: Login) -> JSONResponse:
        """Open a session."""
        account = self._accounts.sign_in(body.name, body.password, address_of(request))
        if account is None:
            raise Refused(401, "name or password is wrong")
        return self._session(request, account)

    def _session(self, request: Request, account: Account, status: int = 200) -> JSONResponse:
        answer = JSONResponse({"name": account.name, "role": account.role}, status)
        answer.set_cookie(
            COOKIE,
            self._accounts.cookie(account),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    def logout(self) -> JSONResponse:
        """Forget the session in this browser."""
        answer = JSONResponse({"ok": True})
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return answer

    def join(self, request: Request, body: Join) -> JSONResponse:
        """Make an account with an invitation, and open a session."""
        account = self._invitations.accept(body.code, body.name, body.password)
        return self._session(request, account, 201)

    def me(self, request: Request) -> JSONResponse:
        """Who is signed in."""
        account = self._callers.need(request, "guest")
        return JSONResponse({"name": account.name, "role": account.role})

    def password(self, request: Request, body: NewPassword) -> JSONResponse:
        """Change the caller's password; every other session ends, this one goes on."""
        account = self._callers.need(request, "guest")
        if self._accounts.sign_in(account.name, body.old, address_of(request)) is None:
            raise Refused(403, Sentence("refused_old_password"))
        self._accounts.set_password(account.name, body.new, account.id)
        return self._session(request, account)

    def add_users(self, request: Request, body: NewUser | list[NewProgram]) -> JSONResponse:
        """Make one user, or many with a token each."""
        admin = self._callers.need(request, "admin")
        if isinstance(body, NewUser):
            new = NewAccount(body.name, body.password, body.role)
            account = self._accounts.add_new(new, admin.id)
            return JSONResponse({"name": account.name, "role": account.role}, 201)
        if len(body) > MAX_USERS:
            raise Refused(403, f"at most {MAX_USERS} users are made at once; send several lists")
        people = [NewAccount(one.name, one.password, one.role) for one in body]
        made = self._tokens.add_with_tokens(people, admin.id)
        return JSONResponse(
            [{"name": one.name, "role": one.role, "token": token} for one, token in made], 201
        )

    def tokens(self, request: Request) -> JSONResponse:
        """The caller's tokens, without their texts."""
        account = self._callers.need(request, "guest")
        return JSONResponse([asdict(token) for token in self._tokens.of_user(account.id)])

    def make_token(self, request: Request, body: Whose | None = None) -> JSONResponse:
        """A token; its text is shown this once."""
        account = self._callers.need(request, "guest")
        name = body.name if body and body.name is not None else account.name
        if name != account.name and not account.has_role("admin"):
            raise Refused(403, "only an admin may make tokens for others")
        return JSONResponse({"token": self._tokens.make(name, account.id)}, 201)

    def revoke_token(self, request: Request, number: RowId) -> JSONResponse:
        """Make a token useless."""
        self._tokens.revoke(number, self._callers.need(request, "guest"))
        return JSONResponse({"ok": True})

    def invitations(self, request: Request) -> JSONResponse:
        """The invitations that still let somebody in."""
        self._callers.need(request, "admin")
        return JSONResponse([asdict(one) for one in self._invitations.open()])

    def invite(self, request: Request, body: NewInvitation) -> JSONResponse:
        """A link for people who make their own accounts; it is shown this once."""
        admin = self._callers.need(request, "admin")
        code = self._invitations.make(body.role, uses=body.uses, days=body.days, actor=admin.id)
        return JSONResponse({"link": f"/join#{code}"}, 201)

    def uninvite(self, request: Request, number: RowId) -> JSONResponse:
        """Close an invitation."""
        self._invitations.withdraw(number, self._callers.need(request, "admin").id)
        return JSONResponse({"ok": True})

    def audit(
        self,
        request: Request,
        before: RowId | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> JSONResponse:
        """What was done apart from voting, the latest first."""
        self._callers.need(request, "admin")
        found = entries(self._store, before=before, limit=limit)
        return JSONResponse([asdict(entry) for entry in found])
