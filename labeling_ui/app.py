"""One FastAPI app: the HTTP API, the sign-in page, and three Gradio pages, each with its own gate.

The pages are separate Gradio apps because pages of one app share one gate, and a hidden button of
a shared app can be called by whoever passed it.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labeling_ui.accounts import Account, Accounts, UserRole
from labeling_ui.api import Api, error_answer, invalid_answer, signed_in
from labeling_ui.campaigns import Campaigns
from labeling_ui.pages import STYLE, THEME, admin, compare, rate, sign_in
from labeling_ui.pages.compare import PolicyLoader, load_policies
from labeling_ui.store import Store
from rlhf.errors import ConfigError, RLHFError

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

_Gate = Callable[[Request], str | None]

_PAGES: dict[str, UserRole] = {"/rate": "rater", "/compare": "rater", "/admin": "admin"}

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Guard:
    """ASGI middleware: no request from another site's page, and safe headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if scope["method"] not in ("GET", "HEAD") and _foreign(Headers(scope=scope)):
            refusal = JSONResponse({"detail": "this request comes from another site"}, 403)
            await refusal(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


class Doors:
    """ASGI middleware: who opens a page without the right to is told where to go instead.

    Gradio would answer 401 in JSON. What a page may do is still checked behind the door.
    """

    def __init__(self, app: ASGIApp, accounts: Accounts) -> None:
        self._app, self._accounts = app, accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        path = scope.get("path", "").rstrip("/")
        if scope["type"] == "http" and path in _PAGES:
            account = signed_in(self._accounts, Request(scope).cookies)
            if account is None:
                await RedirectResponse(f"/login?next={path}/")(scope, receive, send)
                return
            if not _may(account, _PAGES[path]):
                await HTMLResponse(sign_in.refused(), 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _foreign(headers: Headers) -> bool:
    """Whether a browser says that another site made the request; programs say nothing."""
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def create_app(
    store: Store,
    accounts: Accounts,
    *,
    policies: Sequence[Path] = (),
    loader: PolicyLoader = load_policies,
) -> FastAPI:
    """The labelling app on ``store``; ``policies`` are run folders for the compare page.

    Raises:
        ConfigError: if the environment would open a tunnel or an editor on this server.
    """
    for variable in ("GRADIO_SHARE", "GRADIO_VIBE_MODE"):
        if os.environ.get(variable):
            raise ConfigError(f"{variable} would open this server to others; unset it")
    campaigns = Campaigns(store)
    app = FastAPI(title="rlhf label", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(RLHFError, error_answer)
    app.add_exception_handler(RequestValidationError, invalid_answer)
    app.include_router(Api(store, accounts, campaigns).router())
    app.get("/", include_in_schema=False)(lambda: RedirectResponse("/rate/"))
    app.get("/login", include_in_schema=False)(lambda: HTMLResponse(sign_in.page()))
    app.add_middleware(Doors, accounts=accounts)
    app.add_middleware(Guard)
    pages = {
        "/rate": rate.page(),
        "/compare": compare.page(policies, loader, accounts),
        "/admin": admin.page(store, accounts),
    }
    for path, page in pages.items():
        _mount(app, path, page, _gate(accounts, _PAGES[path]))
    return app


def _gate(accounts: Accounts, role: UserRole) -> _Gate:
    def admit(request: Request) -> str | None:
        account = signed_in(accounts, request.cookies)
        return account.name if account and _may(account, role) else None

    return admit


def _may(account: Account, role: UserRole) -> bool:
    return role in ("rater", account.role)


def _mount(
    app: FastAPI, path: str, page: gr.Blocks, admit: Callable[[Request], str | None]
) -> None:
    gr.mount_gradio_app(
        app,
        page,
        path,
        auth_dependency=admit,
        footer_links=[],
        show_error=False,
        theme=THEME,
        # Gradio rewrites the selectors of `css`; a style of our own is left as it is.
        head=f"<style>{STYLE}</style>",
    )
