"""The description of the HTTP API, as OpenAPI 3.1: who may ask what, and what is answered."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from labeling_ui.accounts.sessions import COOKIE
from labeling_ui.http import schemas as a
from rlhf import __version__

Tag = Literal["votes", "campaigns", "account", "people", "server"]
Role = Literal["everybody", "guest", "rater", "adjudicator", "admin"]

JSON_LINES = "application/jsonl"

_ABOUT = """Raters judge blind: what they receive has no policy and no side in it, and the order of
responses is drawn anew for each rater. A vote carries a key, so sending it again is harmless.

Sign in with `POST /api/login`, which sets a cookie, or send `Authorization: Bearer TOKEN` with a
token that `rlhf label token NAME` makes. A body is JSON with a Content-Length. Every refusal is
`{"detail": sentence}`; what raters may meet is said in the language that `Accept-Language` asks
for, where it is one of the pages'."""

_TAGS: dict[Tag, str] = {
    "votes": "What raters do.",
    "campaigns": "What is asked of raters, and what they answered.",
    "account": "One's own session, password and tokens.",
    "people": "Who may sign in.",
    "server": "The server itself.",
}

_WHY = {
    400: "The body is no JSON that can be read.",
    401: "Nobody is signed in, or the name, password or token is wrong.",
    403: "The caller may not do this, or another site's page asks.",
    404: "There is no such thing for the one who asks.",
    409: "It contradicts what is stored already.",
    411: "A body must come with its Content-Length.",
    413: "The body is too big.",
    422: "Something that was sent cannot be used; the sentence names it.",
    429: "Too often; Retry-After says for how many seconds to wait.",
    503: "The database cannot be used just now.",
}


_WHO: dict[Role, str] = {
    "everybody": "For everybody.",
    "guest": "For everybody who is signed in.",
    "rater": "For raters, adjudicators and admins.",
    "adjudicator": "For adjudicators and admins.",
    "admin": "For admins.",
}


class Doc(NamedTuple):
    """What a path answers to whom; ``errors`` beyond those that follow from the rest."""

    tag: Tag
    role: Role
    answer: Any
    status: int = 200
    errors: tuple[int, ...] = ()


_IN_CAMPAIGN = "/api/campaigns/{name}"

DOCS: dict[tuple[str, str], Doc] = {
    ("GET", "/healthz"): Doc("server", "everybody", a.Done),
    ("GET", "/api/words"): Doc("server", "everybody", a.Language),
    ("GET", "/api/openapi.json"): Doc("server", "rater", dict[str, Any]),
    ("POST", "/api/login"): Doc("account", "everybody", a.Who, errors=(401,)),
    ("POST", "/api/logout"): Doc("account", "everybody", a.Done),
    ("POST", "/api/join"): Doc("account", "everybody", a.Who, 201, (404, 409)),
    ("GET", "/api/me"): Doc("account", "guest", a.Who),
    ("POST", "/api/password"): Doc("account", "guest", a.Who),
    ("GET", "/api/tokens"): Doc("account", "guest", list[a.TokenKept]),
    ("POST", "/api/tokens"): Doc("account", "guest", a.NewToken, 201, (404,)),
    ("DELETE", "/api/tokens/{number}"): Doc("account", "guest", a.Done, errors=(404,)),
    ("POST", "/api/users"): Doc("people", "admin", a.Who | list[a.WhoWithToken], 201, (409,)),
    ("GET", "/api/invitations"): Doc("people", "admin", list[a.InvitationKept]),
    ("POST", "/api/invitations"): Doc("people", "admin", a.NewLink, 201),
    ("DELETE", "/api/invitations/{number}"): Doc("people", "admin", a.Done, errors=(404,)),
    ("GET", "/api/audit"): Doc("people", "admin", list[a.LogEntry]),
    ("POST", "/api/campaigns"): Doc("campaigns", "admin", a.CampaignAdded, errors=(409,)),
    ("GET", "/api/campaigns"): Doc("votes", "rater", list[a.CampaignShown]),
    ("GET", _IN_CAMPAIGN + "/next"): Doc("votes", "rater", a.TurnShown, errors=(404,)),
    ("POST", _IN_CAMPAIGN + "/votes"): Doc("votes", "rater", a.Saved, errors=(404, 409)),
    ("POST", _IN_CAMPAIGN + "/undo"): Doc("votes", "rater", a.TurnShown, errors=(404, 409)),
    ("POST", _IN_CAMPAIGN + "/beat/{assignment}"): Doc("votes", "rater", a.Done, errors=(404, 409)),
    ("POST", _IN_CAMPAIGN + "/flags"): Doc("votes", "rater", a.Done, 201, (404, 409)),
    ("GET", _IN_CAMPAIGN + "/history"): Doc("votes", "rater", list[a.PastShown], errors=(404,)),
    ("GET", "/api/drafts"): Doc("campaigns", "admin", a.DraftsShown),
    ("POST", "/api/drafts"): Doc("campaigns", "admin", a.DraftShown, 202, (409,)),
    ("GET", "/api/arena"): Doc("votes", "guest", a.BattleOpen),
    ("POST", "/api/arena"): Doc("votes", "guest", None),
    ("POST", "/api/arena/votes"): Doc("votes", "guest", a.Judged, errors=(404, 409)),
    ("GET", "/api/policies"): Doc("votes", "guest", a.PoliciesShown),
    ("POST", "/api/policies"): Doc("votes", "guest", None),
    ("POST", _IN_CAMPAIGN + "/assignments"): Doc(
        "campaigns", "admin", a.AddedShown, 201, (404, 409)
    ),
    ("GET", _IN_CAMPAIGN + "/status"): Doc("campaigns", "adjudicator", a.StatusShown, 200, (404,)),
    ("GET", _IN_CAMPAIGN + "/export"): Doc("campaigns", "admin", a.Exported, 200, (404,)),
}


_LINES = {
    ("GET", _IN_CAMPAIGN + "/export"): "One row to train on per line.",
    ("POST", "/api/arena"): "An object per line: responses as they grow, and what comes of them.",
    ("POST", "/api/policies"): "An object per line: responses as they grow.",
}


def document(method: str, path: str, handler: Callable[..., Any]) -> dict[str, Any]:
    """What a router is to be told of a handler; a test finds those that have no row above."""
    doc = DOCS.get((method, path))
    if doc is None:
        return {"response_model": None}
    text = _paragraphs(inspect.getdoc(handler) or "")
    responses: dict[int, dict[str, Any]] = {
        code: {"model": a.Refusal, "description": _WHY[code]}
        for code in _errors(method, doc, handler)
    }
    responses[429]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    if (method, path) in _LINES:
        rows = {"schema": {"type": "string", "description": _LINES[method, path]}}
        responses[200] = {"content": {JSON_LINES: rows}}
    return {
        "response_model": doc.answer,
        "status_code": doc.status,
        "responses": responses,
        "tags": [doc.tag],
        "summary": text.split("\n\n")[0].rstrip("."),
        "description": f"{text}\n\n{_WHO[doc.role]}",
        "operation_id": handler.__name__,
        "openapi_extra": {"security": []} if doc.role == "everybody" else None,
    }


def _paragraphs(text: str) -> str:
    """Lines that were broken for the source are one line again."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _errors(method: str, doc: Doc, handler: Callable[..., Any]) -> list[int]:
    codes = {*doc.errors, 429, 503}
    if doc.role != "everybody":
        codes |= {401, 403}
    if method != "GET":
        codes |= {403, 411, 413}
    sent = inspect.signature(handler).parameters.keys() - {"request"}
    if sent:
        codes.add(422)
    if "body" in sent:
        codes.add(400)
    return sorted(codes)


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    found = get_openapi(
        title="rlhf label",
        version=__version__,
        summary="Campaigns, votes and people of a labelling server.",
        description=_paragraphs(_ABOUT),
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    found["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    found["security"] = [{"token": []}, {"session": []}]
    return found
