"""What each person may do at every path of the server: the table that the tests hold it to."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from starlette.routing import Mount

from tests.labeling import PASSWORD

PAGES = {"rate": "rater", "compare": "rater", "admin": "admin"}


class Door(NamedTuple):
    """The status that nobody, a rater and an admin get; ``example`` is the path with values."""

    nobody: int
    rater: int
    admin: int
    body: Any = None
    example: str = ""


VOTE = {"assignment": 1, "choice": "tie", "key": "key-0000"}
BEAT = "/api/campaigns/none/beat/1"
FLAG = {"assignment": 1, "kind": "unsafe"}
LOGIN = {"name": "nobody", "password": "wrong wrong"}
USER = {"name": "x/y", "password": PASSWORD}

# A campaign that is not there: who may ask is told so (404), who may not is not (401, 403).
OURS = {
    ("GET", "/"): Door(307, 307, 307),
    ("GET", "/healthz"): Door(200, 200, 200),
    ("GET", "/login"): Door(200, 200, 200),
    ("GET", "/api/words"): Door(200, 200, 200),
    ("POST", "/api/login"): Door(401, 401, 401, LOGIN),
    ("POST", "/api/logout"): Door(200, 200, 200),
    ("GET", "/api/me"): Door(401, 200, 200),
    ("POST", "/api/users"): Door(401, 403, 422, USER),
    ("POST", "/api/campaigns"): Door(401, 403, 422, {"name": "", "comparisons": []}),
    ("GET", "/api/campaigns"): Door(401, 200, 200),
    ("GET", "/api/campaigns/{name}/next"): Door(401, 404, 404),
    ("POST", "/api/campaigns/{name}/votes"): Door(401, 404, 404, VOTE),
    ("POST", "/api/campaigns/{name}/undo"): Door(401, 404, 404),
    ("POST", "/api/campaigns/{name}/beat/{assignment}"): Door(401, 404, 404, None, BEAT),
    ("POST", "/api/campaigns/{name}/flags"): Door(401, 404, 404, FLAG),
    ("GET", "/api/campaigns/{name}/history"): Door(401, 404, 404),
    ("POST", "/api/campaigns/{name}/assignments"): Door(401, 403, 404, {"assignments": []}),
    ("GET", "/api/campaigns/{name}/status"): Door(401, 403, 404),
    ("GET", "/api/campaigns/{name}/export"): Door(401, 403, 404),
}

JOIN = {"data": [], "fn_index": 0, "session_hash": "s"}

# Paths of Gradio below a page of raters; `admin` shuts what these open to a rater. The style and
# the scripts are Gradio's own and the same for everybody.
GRADIO = {
    ("GET", "/"): Door(307, 200, 200),
    ("HEAD", "/"): Door(307, 200, 200),
    ("GET", "/config"): Door(401, 200, 200),
    ("GET", "/config/"): Door(401, 200, 200),
    ("GET", "/theme.css"): Door(200, 200, 200),
    ("GET", "/favicon.ico"): Door(200, 200, 200),
    ("GET", "/static/{path:path}"): Door(404, 404, 404, None, "/static/none"),
    ("GET", "/assets/{path:path}"): Door(404, 404, 404, None, "/assets/none"),
}
EVENTS = {
    ("POST", "/gradio_api/queue/join"): Door(401, 200, 200, JOIN),
    ("GET", "/gradio_api/queue/data"): Door(401, 422, 422),
}
SHUT = Door(404, 404, 404)


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
    rows = GRADIO if page == "rate" else GRADIO | EVENTS  # the rating page has none
    row = rows.get((method, path.removeprefix("/" + page)), SHUT)
    if PAGES[page] == "admin" and row.nobody in (307, 401):
        return row._replace(rater=403 if row.nobody == 307 else 401)
    return row
