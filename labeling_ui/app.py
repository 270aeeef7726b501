"""One FastAPI app: the HTTP API, the sign-in page, and three Gradio pages, each with its own gate.

The pages are separate Gradio apps because pages of one app share one gate, and a hidden button of
a shared app can be called by whoever passed it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from labeling_ui.accounts.invitations import Invitations
from labeling_ui.accounts.sessions import signed_in
from labeling_ui.accounts.tokens import Tokens
from labeling_ui.accounts.users import Accounts, UserRole
from labeling_ui.arena.battles import Arena
from labeling_ui.arena.generation import Drafts
from labeling_ui.arena.policies import Live, PolicyLoader, load_policies
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.db.store import Store
from labeling_ui.http.api_accounts import AccountsApi
from labeling_ui.http.api_arena import ArenaApi
from labeling_ui.http.api_campaigns import Api
from labeling_ui.http.api_generation import DraftsApi
from labeling_ui.http.auth import Callers, error_answer, invalid_answer
from labeling_ui.http.middleware import Doors, FromProxy, Guard
from labeling_ui.http.openapi import describe, document
from labeling_ui.locales import Words, words_of
from labeling_ui.pages import HEAD, THEME, account, admin, compare, new, rate, reference, sign_in
from labeling_ui.pages.keymap import Keymap, load_keymap
from rlhf.errors import ConfigError, RLHFError

_Gate = Callable[[Request], str | None]

_PAGES: dict[str, UserRole] = {"/rate": "rater", "/compare": "guest", "/admin": "admin"}


@dataclass(frozen=True, slots=True)
class Serving:
    """What an operator decides about a server."""

    policies: Sequence[Path] = ()
    """Run folders for the arena and the compare page."""
    loader: PolicyLoader = load_policies
    keymap: Keymap = field(default_factory=load_keymap)
    proxy: str | None = None
    """Where a proxy does TLS before us; what did not come through it is refused."""


def create_app(store: Store, accounts: Accounts, serving: Serving | None = None) -> FastAPI:
    """The labelling app on ``store``.

    Raises:
        ConfigError: if the environment would open a tunnel or an editor on this server.
    """
    for variable in ("GRADIO_SHARE", "GRADIO_VIBE_MODE"):
        if os.environ.get(variable):
            raise ConfigError(f"{variable} would open this server to others; unset it")
    serving = serving or Serving()
    tokens, invitations = Tokens(store, accounts), Invitations(store, accounts)
    callers = Callers(accounts, tokens)
    app = FastAPI(title="rlhf label", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(RLHFError, error_answer)
    app.add_exception_handler(RequestValidationError, invalid_answer)
    app.include_router(AccountsApi(store, accounts, tokens, invitations, callers).router())
    names = [run.name for run in serving.policies]
    campaigns, live = Campaigns(store), Live(serving.policies, serving.loader)
    app.include_router(Api(store, callers, campaigns).router())
    app.include_router(ArenaApi(callers, Arena(store, live, campaigns), names).router())
    app.include_router(DraftsApi(store, callers, Drafts(store, live, campaigns)).router())
    _reference(app, callers)
    _plain_pages(app, accounts)
    _making(app, accounts, names)
    app.add_middleware(Doors, accounts=accounts, pages=_PAGES, still={"/rate", "/compare"})
    app.add_middleware(Guard, callers=callers, only_https=serving.proxy is not None)
    if serving.proxy is not None:
        app.add_middleware(FromProxy, proxy=serving.proxy)  # what is added last comes first
    pages = {
        "/rate": rate.page(serving.keymap),
        "/compare": compare.page(len(names), serving.keymap),
        "/admin": admin.page(store, accounts),
    }
    for path, page in pages.items():
        _mount(app, path, page, _gate(accounts, _PAGES[path]))
    return app


def _plain_pages(app: FastAPI, accounts: Accounts) -> None:
    def show(path: str, draw: Callable[[Words], str]) -> None:
        def answer(request: Request) -> HTMLResponse:
            return HTMLResponse(
                draw(words_of(request)), headers={"Vary": "Accept-Language, Cookie"}
            )

        app.get(path, include_in_schema=False)(answer)

    def home(request: Request) -> RedirectResponse:
        who = signed_in(accounts, request.cookies)
        return RedirectResponse("/compare/" if who and not who.has_role("rater") else "/rate/")

    def own(request: Request) -> Response:
        who = signed_in(accounts, request.cookies)
        if who is None:
            return RedirectResponse("/login?next=/account")
        return HTMLResponse(account.page(words_of(request), who))

    show("/login", sign_in.page)
    show("/join", sign_in.join)
    app.get("/", include_in_schema=False)(home)
    app.get("/account", include_in_schema=False, response_model=None)(own)


def _making(app: FastAPI, accounts: Accounts, policies: Sequence[str]) -> None:
    """The page on which an admin makes a campaign."""

    def make(request: Request) -> Response:
        who = signed_in(accounts, request.cookies)
        if who is None:
            return RedirectResponse("/login?next=/new")
        if not who.has_role("admin"):
            return HTMLResponse(sign_in.refused(words_of(request)), 403)
        return HTMLResponse(new.page(words_of(request), policies))

    app.get("/new", include_in_schema=False, response_model=None)(make)


def _reference(app: FastAPI, callers: Callers) -> None:
    """The description of the API, for programs and for people."""

    @cache
    def described() -> dict[str, Any]:  # when all routes are there
        return describe(app)

    def schema(request: Request) -> JSONResponse:
        """This description."""
        callers.need(request, "rater")
        return JSONResponse(described())

    def page(request: Request) -> HTMLResponse:
        callers.need(request, "rater")
        return HTMLResponse(reference.page(described()))

    path = "/api/openapi.json"
    app.add_api_route(path, schema, methods=["GET"], **document("GET", path, schema))
    app.get("/api/docs", include_in_schema=False)(page)


def _gate(accounts: Accounts, role: UserRole) -> _Gate:
    def admit(request: Request) -> str | None:
        account = signed_in(accounts, request.cookies)
        return account.name if account and account.has_role(role) else None

    return admit


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
        head=HEAD,
    )
    # Gradio looks for events every millisecond, which takes a tenth of a core of an idle server.
    vars(page)["_queue"].sleep_when_free = 0.05
