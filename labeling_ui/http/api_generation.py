"""The part of the HTTP API with which an admin has policies answer prompts for a campaign."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from labeling_ui.accounts.audit import note
from labeling_ui.arena.generation import Drafts, Wanted
from labeling_ui.arena.policies import MAX_PROMPT
from labeling_ui.campaigns.tasks import Settings
from labeling_ui.db.store import Store
from labeling_ui.http.auth import Callers
from labeling_ui.http.openapi import document
from rlhf.records import STORABLE, Prompt, Text

MAX_PROMPTS = 10_000


class NewDraft(BaseModel):
    """A campaign to make from prompts."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    name: Text
    guidelines: Annotated[str, Field(max_length=20_000), STORABLE] = ""
    settings: Settings = Settings()
    prompts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_PROMPT), STORABLE]],
        Field(max_length=MAX_PROMPTS),
    ]
    policies: list[int]
    """By their numbers in the list of ``GET /api/drafts``, from 0."""


class DraftsApi:
    """The handlers; for admins, who may know what the policies are called."""

    def __init__(self, store: Store, callers: Callers, drafts: Drafts) -> None:
        self._store, self._callers, self._drafts = store, callers, drafts

    def router(self) -> APIRouter:
        """Both paths."""
        router = APIRouter()
        routes: list[tuple[str, Callable[..., JSONResponse]]] = [
            ("GET", self.drafts),
            ("POST", self.begin_draft),
        ]
        for method, handler in routes:
            path = "/api/drafts"
            router.add_api_route(path, handler, methods=[method], **document(method, path, handler))
        return router

    def drafts(self, request: Request) -> JSONResponse:
        """The policies that can answer, and how far the latest campaign is."""
        self._callers.need(request, "admin")
        draft = self._drafts.draft
        told = None if draft is None else asdict(draft)
        return JSONResponse({"policies": self._drafts.policies, "draft": told})

    def begin_draft(self, request: Request, body: NewDraft) -> JSONResponse:
        """Have policies answer prompts, and people judge the answers.

        It goes on after this returns; what is answered is handed out at once. Sent again, it goes
        on where a restart broke it off.
        """
        admin = self._callers.need(request, "admin")
        prompts = dict.fromkeys(Prompt.from_text(text) for text in body.prompts)
        wanted = Wanted(
            body.name, tuple(prompts), tuple(body.policies), body.settings, body.guidelines
        )
        draft = self._drafts.begin(wanted)
        with self._store.write() as session:
            detail = {"campaign": body.name, "prompts": len(prompts)}
            note(session, admin.id, "begin draft", detail)
        return JSONResponse(asdict(draft), 202)
