"""The HTTP API: JSON in, JSON out, a session cookie in between. Every handler checks the role.

Answers that a rater can receive hold texts and numbers of items, never a policy or a side.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from labeling_ui.accounts import SESSION_SECONDS, Account, Accounts, Throttled
from labeling_ui.ballot import Answer, Item, Progress, Turn
from labeling_ui.campaigns import Campaigns
from labeling_ui.export import export
from labeling_ui.render import render
from labeling_ui.results import status_of
from labeling_ui.store import Conflict, NotFound, Store, StoreError
from labeling_ui.tasks import Settings, Task
from rlhf.errors import RLHFError
from rlhf.records import Text

COOKIE = "rlhf_label_session"

_STATUS = {NotFound: 404, Conflict: 409, StoreError: 503}


class Refused(RLHFError):  # noqa: N818 - 401 or 403
    """The caller is not signed in, or may not do this."""

    def __init__(self, status: Literal[401, 403], message: str) -> None:
        super().__init__(message)
        self.status = status


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Login(_Body):
    """Name and password."""

    name: Text
    password: Text


class NewUser(Login):
    """A user to make."""

    role: str = "rater"


class NewCampaign(_Body):
    """A campaign to make or to add to."""

    name: Text
    guidelines: Annotated[Text, Field(max_length=20_000)] = ""
    settings: Settings | None = None
    """None for those that the campaign has, or the usual ones."""
    comparisons: list[dict[str, Any]] = []
    """Comparisons, or tasks with ``responses``."""


class NewLists(_Body):
    """Who is to judge what: the name of a rater and the id of a comparison, or a task's key."""

    assignments: list[tuple[Text, Text]]


class Flag(_Body):
    """Something that is wrong with an item."""

    assignment: int
    kind: Text
    note: Annotated[Text, Field(max_length=2000)] = ""


class Reopen(_Body):
    """An answer to withdraw: the latest, or the one of that number."""

    vote: int | None = None


def error_answer(_: Request, error: Exception) -> JSONResponse:
    """What a user can put right, as ``{"detail": sentence}`` with the fitting status."""
    if isinstance(error, Throttled):
        return JSONResponse({"detail": str(error)}, 429, {"Retry-After": str(error.seconds)})
    status = error.status if isinstance(error, Refused) else 422
    for kind, code in _STATUS.items():
        status = code if isinstance(error, kind) else status
    return JSONResponse({"detail": str(error)}, status)


def invalid_answer(_: Request, error: Exception) -> JSONResponse:
    """A body of the wrong shape, in one sentence; what was sent is not echoed."""
    assert isinstance(error, RequestValidationError)
    parts = (
        ".".join(str(step) for step in problem["loc"] if step != "body") + ": " + problem["msg"]
        for problem in error.errors()
    )
    return JSONResponse({"detail": "; ".join(parts)}, 422)


def signed_in(accounts: Accounts, cookies: Mapping[str, str]) -> Account | None:
    """Who sent a request with these cookies, if anybody."""
    return accounts.of_cookie(cookies.get(COOKIE))


class Api:
    """The handlers, on one store."""

    def __init__(self, store: Store, accounts: Accounts, campaigns: Campaigns) -> None:
        self._store, self._accounts, self._campaigns = store, accounts, campaigns

    def router(self) -> APIRouter:
        """Every path of the API."""
        router = APIRouter()
        routes: list[tuple[str, str, Callable[..., JSONResponse]]] = [
            ("GET", "/healthz", self.health),
            ("POST", "/api/login", self.login),
            ("POST", "/api/logout", self.logout),
            ("GET", "/api/me", self.me),
            ("POST", "/api/users", self.add_user),
            ("POST", "/api/campaigns", self.add_campaign),
            ("GET", "/api/campaigns", self.list_campaigns),
            ("GET", "/api/campaigns/{name}/next", self.next_item),
            ("POST", "/api/campaigns/{name}/votes", self.vote),
            ("POST", "/api/campaigns/{name}/undo", self.undo),
            ("POST", "/api/campaigns/{name}/beat/{assignment}", self.beat),
            ("POST", "/api/campaigns/{name}/flags", self.flag),
            ("GET", "/api/campaigns/{name}/history", self.history),
            ("POST", "/api/campaigns/{name}/assignments", self.assign),
            ("GET", "/api/campaigns/{name}/status", self.status),
            ("GET", "/api/campaigns/{name}/export", self.export),
        ]
        for method, path, handler in routes:
            router.add_api_route(path, handler, methods=[method], response_model=None)
        return router

    def _rater(self, request: Request) -> Account:
        account = signed_in(self._accounts, request.cookies)
        if account is None:
            raise Refused(401, "sign in first")
        return account

    def _admin(self, request: Request) -> Account:
        account = self._rater(request)
        if account.role != "admin":
            raise Refused(403, "only an admin may do this")
        return account

    def health(self) -> JSONResponse:
        """The server runs and its database answers."""
        self._accounts.count()
        return JSONResponse({"ok": True})

    def login(self, request: Request, body: Login) -> JSONResponse:
        """Open a session."""
        address = request.client.host if request.client else ""
        account = self._accounts.sign_in(body.name, body.password, address)
        if account is None:
            raise Refused(401, "name or password is wrong")
        answer = JSONResponse({"name": account.name, "role": account.role})
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

    def me(self, request: Request) -> JSONResponse:
        """Who is signed in."""
        account = self._rater(request)
        return JSONResponse({"name": account.name, "role": account.role})

    def add_user(self, request: Request, body: NewUser) -> JSONResponse:
        """Make a user."""
        self._admin(request)
        account = self._accounts.add(body.name, body.password, body.role)
        return JSONResponse({"name": account.name, "role": account.role}, 201)

    def add_campaign(self, request: Request, body: NewCampaign) -> JSONResponse:
        """Make a campaign, or add comparisons to it."""
        self._admin(request)
        tasks: list[Task] = []
        for number, data in enumerate(body.comparisons):
            try:
                tasks.append(Task.from_json(data))
            except ValueError as error:
                detail = " ".join(str(error).split())
                return JSONResponse({"detail": f"comparisons[{number}]: {detail}"}, 422)
        added = self._campaigns.add(
            body.name, tasks, settings=body.settings, guidelines=body.guidelines
        )
        return JSONResponse({"name": body.name, **asdict(added)})

    def assign(self, request: Request, name: str, body: NewLists) -> JSONResponse:
        """Put comparisons on the lists of raters."""
        self._admin(request)
        return JSONResponse(asdict(self._campaigns.assign(name, body.assignments)), 201)

    def list_campaigns(self, request: Request, html: bool = False) -> JSONResponse:
        """Every campaign, with the caller's own progress; with ``html``, guidelines rendered."""
        account = self._rater(request)
        return JSONResponse(
            [
                {
                    "name": name,
                    "guidelines": render(guidelines) if html else guidelines,
                    **self._campaigns.settings(name).shown,
                    "progress": asdict(self._campaigns.progress(name, account.id)),
                }
                for name, guidelines in self._campaigns.names()
            ]
        )

    def next_item(self, request: Request, name: str, html: bool = False) -> JSONResponse:
        """What the caller is to judge now; with ``html``, rendered as well."""
        account = self._rater(request)
        return JSONResponse(_turn(self._campaigns.next(name, account.id), html))

    def vote(self, request: Request, name: str, body: Answer, html: bool = False) -> JSONResponse:
        """Store an answer; what is next."""
        account = self._rater(request)
        number, turn = self._campaigns.submit(name, account.id, body)
        return JSONResponse({"saved": number, **_turn(turn, html)})

    def undo(
        self, request: Request, name: str, body: Reopen | None = None, html: bool = False
    ) -> JSONResponse:
        """Withdraw an answer of the caller's, and show what it was about again."""
        account = self._rater(request)
        return JSONResponse(
            _turn(self._campaigns.undo(name, account.id, body.vote if body else None), html)
        )

    def beat(self, request: Request, name: str, assignment: int) -> JSONResponse:
        """The caller still has the item on screen."""
        account = self._rater(request)
        self._campaigns.beat(name, account.id, assignment)
        return JSONResponse({"ok": True})

    def flag(self, request: Request, name: str, body: Flag) -> JSONResponse:
        """Point out that something is wrong with an item."""
        account = self._rater(request)
        self._campaigns.flag(name, account.id, body.assignment, body.kind, body.note)
        return JSONResponse({"ok": True}, 201)

    def history(self, request: Request, name: str) -> JSONResponse:
        """The caller's latest answers."""
        account = self._rater(request)
        past = self._campaigns.history(name, account.id)
        return JSONResponse([asdict(one) for one in past])

    def status(self, request: Request, name: str) -> JSONResponse:
        """How far a campaign is, per rater, and how well raters agree."""
        self._admin(request)
        return JSONResponse(asdict(status_of(self._store, name)))

    def export(self, request: Request, name: str) -> JSONResponse:
        """Comparisons, votes, preferences and ties."""
        self._admin(request)
        file = f"{name}.json".encode("ascii", "replace").decode().replace("?", "_")
        return JSONResponse(
            export(self._store, name).to_json(),
            headers={"Content-Disposition": f'attachment; filename="{file}"'},
        )


def _turn(turn: Turn, html: bool) -> dict[str, Any]:
    return {
        "item": _item(turn.item, html),
        "progress": _progress(turn.progress),
        "notice": turn.notice,
    }


def _progress(progress: Progress) -> dict[str, int]:
    return {"done": progress.done, "total": progress.total}


def _item(item: Item | None, html: bool) -> dict[str, Any] | None:
    if item is None:
        return None
    data: dict[str, Any] = {
        "assignment": item.assignment,
        "messages": [{"role": m.role, "content": m.content} for m in item.messages],
        "responses": list(item.responses),
    }
    if html:
        data["html"] = {
            "messages": [render(m.content) for m in item.messages],
            "responses": [render(text) for text in item.responses],
        }
    return data
