"""What each person may do at every path of the server: the table that the tests hold it to."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from starlette.routing import Mount

from labeling_ui.app import create_app
from labeling_ui.db.store import Store
from tests.labeling import PASSWORD, cheap_accounts

PAGES = {"rate": "rater", "compare": "guest", "admin": "admin"}


WHO = ("nobody", "guest", "rater", "adjudicator", "admin")


class Door(NamedTuple):
    """The status that each gets; ``example`` is the path with values."""

    nobody: int
    guest: int
    rater: int
    adjudicator: int
    admin: int
    body: Any = None
    example: str = ""


def everybody(status: int, body: Any = None, example: str = "") -> Door:
    """Who it is makes no difference."""
    return Door(status, status, status, status, status, body, example)


def signed_in(status: int, body: Any = None, example: str = "") -> Door:
    """Everybody who is somebody."""
    return Door(401, status, status, status, status, body, example)


def raters(status: int, body: Any = None, example: str = "") -> Door:
    """Raters and above."""
    return Door(401, 403, status, status, status, body, example)


def admins(status: int, body: Any = None, example: str = "") -> Door:
    """Admins only."""
    return Door(401, 403, 403, 403, status, body, example)


VOTE = {"assignment": 1, "choice": "tie", "key": "key-0000"}
BEAT = "/api/campaigns/none/beat/1"
FLAG = {"assignment": 1, "kind": "unsafe"}
LOGIN = {"name": "nobody", "password": "wrong wrong"}
USER = {"name": "x/y", "password": PASSWORD}

# A campaign that is not there: who may ask is told so (404), who may not is not (401, 403).
CAMPAIGN = "/api/campaigns/{name}"
OURS = {
    ("GET", "/"): everybody(307),
    ("GET", "/healthz"): everybody(200),
    ("GET", "/login"): everybody(200),
    ("GET", "/join"): everybody(200),
    ("GET", "/account"): Door(307, 200, 200, 200, 200),
    ("GET", "/new"): Door(307, 403, 403, 403, 200),
    ("GET", "/api/words"): everybody(200),
    ("POST", "/api/login"): everybody(401, LOGIN),
    ("POST", "/api/logout"): everybody(200),
    ("POST", "/api/join"): everybody(404, LOGIN | {"code": "none"}),
    ("GET", "/api/openapi.json"): raters(200),
    ("GET", "/api/docs"): raters(200),
    ("GET", "/api/me"): signed_in(200),
    ("POST", "/api/password"): Door(401, 403, 403, 403, 403, {"old": "wrong", "new": PASSWORD}),
    ("GET", "/api/tokens"): signed_in(200),
    ("POST", "/api/tokens"): Door(401, 403, 403, 403, 404, {"name": "no one"}),
    ("DELETE", "/api/tokens/{number}"): signed_in(404, None, "/api/tokens/99999"),
    ("POST", "/api/users"): admins(422, USER),
    ("GET", "/api/invitations"): admins(200),
    ("POST", "/api/invitations"): admins(422, {"uses": 0}),
    ("DELETE", "/api/invitations/{number}"): admins(404, None, "/api/invitations/99999"),
    ("GET", "/api/audit"): admins(200),
    ("POST", "/api/campaigns"): admins(422, {"name": "", "comparisons": []}),
    ("GET", "/api/campaigns"): raters(200),
    ("GET", CAMPAIGN + "/next"): raters(404),
    ("POST", CAMPAIGN + "/votes"): raters(404, VOTE),
    ("POST", CAMPAIGN + "/undo"): raters(404),
    ("POST", CAMPAIGN + "/beat/{assignment}"): raters(404, None, BEAT),
    ("POST", CAMPAIGN + "/flags"): raters(404, FLAG),
    ("GET", CAMPAIGN + "/history"): raters(404),
    ("GET", "/api/drafts"): admins(200),
    ("POST", "/api/drafts"): admins(422, {"name": "x", "prompts": [], "policies": []}),
    ("GET", "/api/arena"): signed_in(200),
    ("POST", "/api/arena"): signed_in(422, {"prompt": " "}),
    ("POST", "/api/arena/votes"): signed_in(404, VOTE),
    ("GET", "/api/policies"): signed_in(200),
    ("POST", "/api/policies"): signed_in(422, {"prompt": " ", "left": 0, "right": 0}),
    ("POST", CAMPAIGN + "/assignments"): admins(404, {"assignments": []}),
    ("GET", CAMPAIGN + "/status"): Door(401, 403, 403, 404, 404),
    ("GET", CAMPAIGN + "/export"): admins(404),
}

JOIN = {"data": [], "fn_index": 0, "session_hash": "s"}

# Paths of Gradio below a page of raters; the other pages' doors follow from these. The style and
# the scripts are Gradio's own and the same for everybody.
GRADIO = {
    ("GET", "/"): Door(307, 403, 200, 200, 200),
    ("HEAD", "/"): Door(307, 403, 200, 200, 200),
    ("GET", "/config"): Door(401, 401, 200, 200, 200),
    ("GET", "/config/"): Door(401, 401, 200, 200, 200),
    ("GET", "/theme.css"): everybody(200),
    ("GET", "/favicon.ico"): everybody(200),
    ("GET", "/static/{path:path}"): everybody(404, None, "/static/none"),
    ("GET", "/assets/{path:path}"): everybody(404, None, "/assets/none"),
}
EVENTS = {
    ("POST", "/gradio_api/queue/join"): Door(401, 401, 200, 200, 200, JOIN),
    ("GET", "/gradio_api/queue/data"): Door(401, 401, 422, 422, 422),
}
SHUT = everybody(404)


def all_routes(database: Path) -> list[tuple[str, str]]:
    """Method and path of everything that a server on ``database`` answers."""

    async def found() -> list[tuple[str, str]]:
        with closing(Store(database)) as store:
            return list(routes(create_app(store, cheap_accounts(store))))

    with ThreadPoolExecutor(1) as pool:  # the thread that asks may have a loop of its own
        return pool.submit(asyncio.run, found()).result()


def routes(parent: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of every route below ``parent``, the mounted pages' included."""
    for route in parent.routes:
        if isinstance(route, Mount):
            yield from routes(route.app, prefix + route.path)
        elif hasattr(route, "original_router"):
            yield from routes(route.original_router, prefix + route.include_context.prefix)
        else:
            for method in sorted(route.methods or {"GET"}):
                yield method, prefix + route.path


def door(method: str, path: str) -> Door | None:
    """The row for a route; what Gradio has and nobody needs is shut. None for a missing row."""
    page = path.split("/")[1]
    if page not in PAGES:
        return OURS.get((method, path))
    rows = GRADIO | EVENTS if page == "admin" else GRADIO  # the others have none
    row = rows.get((method, path.removeprefix("/" + page)), SHUT)
    if row.nobody == row.guest == row.rater:
        return row
    if PAGES[page] == "admin":
        return row._replace(rater=row.guest, adjudicator=row.guest)
    return row._replace(guest=row.rater) if PAGES[page] == "guest" else row
