"""What every request passes before it is answered: size, rate, origin, and the doors of pages."""

import asyncio
from collections.abc import Mapping, Set
from typing import Any, cast
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from labeling_ui.accounts.rate_limits import PER_ADDRESS, Rate, TooMany
from labeling_ui.accounts.sessions import signed_in
from labeling_ui.accounts.users import Accounts, UserRole
from labeling_ui.http.auth import Callers, address_of, error_answer, told
from labeling_ui.locales import words_of
from labeling_ui.pages import sign_in

MAX_BODY = 1 << 20
"""Bytes that anybody may send at once; what needs more is an admin's business."""
MAX_ADMIN_BODY = 64 << 20

BODY_SECONDS = 30
_SLOWEST = 50_000
"""Bytes a second; a body has the seconds above beside."""

# Gradio does not start without 'unsafe-eval'. Nothing may be loaded from, or sent to, elsewhere.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-src 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'none'",
    )
)

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_NOT_KEPT = {"Cache-Control": "no-store"}
_ON_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}

# All of Gradio that a page needs. It has sixty more paths: uploads, files, monitoring, proxies.
_NEEDED = {"/", "/config", "/theme.css", "/favicon.ico"}
_NEEDED_BELOW = ("/assets/", "/static/")
_EVENTS = {"/gradio_api/queue/join", "/gradio_api/queue/data"}


class FromProxy:
    """ASGI middleware: what our proxy says of the browser counts as if the browser spoke to us.

    ``HTTPS`` is https. A list (``https, http``) stays refused: it comes from a proxy that appends,
    and in front then stands whatever the browser sent; what the last proxy saw is not what the
    browser spoke either. A proxy that sets the header leaves one value.

    Args:
        app: What answers.
        proxy: The addresses that are believed, separated by commas.
    """

    def __init__(self, app: ASGIApp, proxy: str) -> None:
        self._app = cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", app), proxy))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            scope["headers"] = [
                (name, value.lower() if name == b"x-forwarded-proto" else value)
                for name, value in scope["headers"]
            ]
        await self._app(scope, receive, send)


class Guard:
    """ASGI middleware: what is too much, too often or from another site's page is refused.

    Args:
        app: What answers the rest.
        callers: Who may send much.
        only_https: A proxy does TLS before us; what did not come through it is refused.
    """

    def __init__(self, app: ASGIApp, callers: Callers, *, only_https: bool = False) -> None:
        self._app, self._callers, self._only_https = app, callers, only_https
        self._rate = Rate(PER_ADDRESS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _HEADERS | (_ON_HTTPS if scope["scheme"] == "https" else {})
        if scope["path"].startswith("/api/"):  # the next one at this computer may be another rater
            headers |= _NOT_KEPT

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        request = Request(scope)
        answer = self._refusal(request) or self._app
        await answer(scope, _in_time(request, receive), send_guarded)

    def _refusal(self, request: Request) -> JSONResponse | None:
        if request.url.path == "/healthz":
            return None
        if self._only_https and request.url.scheme != "https":
            return told(
                400,
                "this server answers only through its proxy, which must set X-Forwarded-Proto to "
                "https, and to nothing else beside it",
            )
        try:
            self._rate.spend(address_of(request))
        except TooMany as error:
            return error_answer(request, error)
        if request.method in ("GET", "HEAD"):
            return None
        if _foreign(request.headers):
            return told(403, "this request comes from another site")
        return self._too_big(request)

    def _too_big(self, request: Request) -> JSONResponse | None:
        if "transfer-encoding" in request.headers:
            return told(411, "a body must come with its Content-Length")
        length = int(request.headers.get("content-length", 0))  # the server checked its digits
        if length <= MAX_BODY:
            return None
        account = self._callers.who(request)
        limit = MAX_ADMIN_BODY if account and account.has_role("admin") else MAX_BODY
        if length <= limit:
            return None
        return told(413, f"a body may have {limit >> 20} MiB; send less at once")


def _in_time(request: Request, receive: Receive) -> Receive:
    """``receive``, which stops waiting for a body that comes slower than any line is."""
    allowed = BODY_SECONDS + int(request.headers.get("content-length", 0)) / _SLOWEST
    deadline: float | None = None
    whole = False

    async def receive_in_time() -> Message:
        nonlocal deadline, whole
        if whole:  # what comes now is that the caller hangs up
            return await receive()
        deadline = deadline or asyncio.get_running_loop().time() + allowed
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, "the body did not come in time") from error
        whole = not message.get("more_body", False)
        return message

    return receive_in_time


class Doors:
    """ASGI middleware: who opens a page without the right to is told where to go instead.

    Gradio would answer 401 in JSON. What a page may do is still checked behind the door. Paths of
    Gradio that a page does not need are shut for everybody.

    Args:
        app: What is behind the doors.
        accounts: Who comes.
        pages: The role that each page needs.
        still: The pages without events.
    """

    def __init__(
        self, app: ASGIApp, accounts: Accounts, pages: Mapping[str, UserRole], still: Set[str]
    ) -> None:
        self._app, self._accounts, self._pages = app, accounts, pages
        self._needed = {page: _NEEDED if page in still else _NEEDED | _EVENTS for page in pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        answer = self._app
        if scope["type"] == "http":
            _, first, rest = (scope["path"].rstrip("/") + "//").split("/", 2)
            if "/" + first in self._pages:
                answer = self._at(Request(scope), "/" + first, "/" + rest.rstrip("/")) or answer
        await answer(scope, receive, send)

    def _at(self, request: Request, page: str, below: str) -> ASGIApp | None:
        if below not in self._needed[page] and not below.startswith(_NEEDED_BELOW):
            return told(404, "there is nothing here")
        if below != "/":
            return None
        account = signed_in(self._accounts, request.cookies)
        if account is None:
            return RedirectResponse(f"/login?next={page}/")
        if not account.has_role(self._pages[page]):
            words = words_of(request)
            return HTMLResponse(sign_in.refused(words), 403)
        return None


def _foreign(headers: Headers) -> bool:
    """Whether a browser says that another site made the request; programs say nothing."""
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != headers.get("host")
    except ValueError:  # as of "http://[", which no browser sends for a page of ours
        return True
