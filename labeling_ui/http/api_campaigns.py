"""The HTTP API: JSON in, JSON out, a session cookie in between. Every handler checks the role.

Answers that a rater can receive hold texts and numbers of items, never a policy or a side.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from labeling_ui.accounts.audit import note
from labeling_ui.accounts.users import Account
from labeling_ui.campaigns.answers import Answer, Flag, Item, Progress, RowId, Turn
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import MAX_TEXT, Settings, Task
from labeling_ui.db.store import Store
from labeling_ui.http.auth import Callers, told
from labeling_ui.http.openapi import JSON_LINES, document
from labeling_ui.locales import words_of
from labeling_ui.results.answers import status_of
from labeling_ui.results.export import export
from labeling_ui.results.formats import Format, lists_of
from labeling_ui.text.markdown import render
from rlhf.records import STORABLE, Text

DeskName = Literal["rate", "adjudicate"]
"""Where the caller sits: among the raters, or where what they disagree on is decided."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class NewCampaign(_Body):
    """A campaign to make or to add to."""

    name: Text
    guidelines: Annotated[str, Field(max_length=20_000), STORABLE] = ""
    settings: Settings | None = None
    """None for those that the campaign has, or the usual ones."""
    comparisons: list[dict[str, Any]] = []
    """Comparisons, or tasks with ``responses``."""


class NewLists(_Body):
    """Who is to judge what: the name of a rater and the id of a comparison, or a task's key."""

    assignments: list[tuple[Text, Text]]


class Reopen(_Body):
    """An answer to withdraw: the latest, or the one of that number."""

    vote: RowId | None = None


class Api:
    """The handlers, on one store."""

    def __init__(self, store: Store, callers: Callers, campaigns: Campaigns) -> None:
        self._store, self._callers, self._campaigns = store, callers, campaigns

    def router(self) -> APIRouter:
        """Every path of the API."""
        router = APIRouter()
        routes: list[tuple[str, str, Callable[..., Response]]] = [
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
            router.add_api_route(path, handler, methods=[method], **document(method, path, handler))
        return router

    def add_campaign(self, request: Request, body: NewCampaign) -> JSONResponse:
        """Make a campaign, or add comparisons to it."""
        admin = self._callers.need(request, "admin")
        tasks: list[Task] = []
        for number, data in enumerate(body.comparisons):
            try:
                tasks.append(_sized(Task.from_json(data)))
            except ValueError as error:
                return told(422, f"comparisons[{number}]: {error}")
        added = self._campaigns.add(
            body.name, tasks, settings=body.settings, guidelines=body.guidelines
        )
        self._note(admin, "add tasks", {"campaign": body.name, **asdict(added)})
        return JSONResponse({"name": body.name, **asdict(added)})

    def _judge(self, request: Request, desk: DeskName) -> tuple[Account, bool]:
        """The caller, who may sit at that desk, and whether it is one where things are decided."""
        decides = desk == "adjudicate"
        return self._callers.need(request, "adjudicator" if decides else "rater"), decides

    def _note(self, actor: Account, action: str, detail: Mapping[str, Any]) -> None:
        with self._store.write() as session:
            note(session, actor.id, action, detail)

    def assign(self, request: Request, name: str, body: NewLists) -> JSONResponse:
        """Put comparisons on the lists of raters."""
        admin = self._callers.need(request, "admin")
        added = self._campaigns.assign(name, body.assignments)
        self._note(admin, "assign tasks", {"campaign": name, **asdict(added)})
        return JSONResponse(asdict(added), 201)

    def list_campaigns(self, request: Request, html: bool = False) -> JSONResponse:
        """Every campaign, with the caller's own progress; with ``html``, guidelines rendered."""
        account = self._callers.need(request, "rater")
        return JSONResponse(
            [
                {
                    "name": name,
                    "guidelines": render(guidelines) if html else guidelines,
                    **self._campaigns.settings(name).shown,
                    "progress": asdict(self._campaigns.progress(name, account.id)),
                    **(
                        {"contested": self._campaigns.contested(name, account.id)}
                        if account.has_role("adjudicator")
                        else {}
                    ),
                }
                for name, guidelines in self._campaigns.names()
            ]
        )

    def next_item(
        self, request: Request, name: str, desk: DeskName = "rate", html: bool = False
    ) -> JSONResponse:
        """What the caller is to judge now; with ``html``, rendered as well."""
        account, decides = self._judge(request, desk)
        return JSONResponse(
            _turn(request, self._campaigns.next(name, account.id, decides=decides), html)
        )

    def vote(
        self,
        request: Request,
        name: str,
        body: Answer,
        desk: DeskName = "rate",
        html: bool = False,
    ) -> JSONResponse:
        """Store an answer; what is next."""
        account, decides = self._judge(request, desk)
        number, turn = self._campaigns.submit(name, account.id, body, decides=decides)
        return JSONResponse({"saved": number, **_turn(request, turn, html)})

    def undo(
        self,
        request: Request,
        name: str,
        body: Reopen | None = None,
        desk: DeskName = "rate",
        html: bool = False,
    ) -> JSONResponse:
        """Withdraw an answer of the caller's, and show what it was about again."""
        account, decides = self._judge(request, desk)
        vote = body.vote if body else None
        return JSONResponse(
            _turn(request, self._campaigns.undo(name, account.id, vote, decides=decides), html)
        )

    def beat(
        self, request: Request, name: str, assignment: RowId, desk: DeskName = "rate"
    ) -> JSONResponse:
        """The caller still has the item on screen."""
        account, decides = self._judge(request, desk)
        self._campaigns.beat(name, account.id, assignment, decides=decides)
        return JSONResponse({"ok": True})

    def flag(
        self, request: Request, name: str, body: Flag, desk: DeskName = "rate"
    ) -> JSONResponse:
        """Point out that something is wrong with an item."""
        account, decides = self._judge(request, desk)
        self._campaigns.flag(name, account.id, body, decides=decides)
        return JSONResponse({"ok": True}, 201)

    def history(self, request: Request, name: str, desk: DeskName = "rate") -> JSONResponse:
        """The caller's latest answers."""
        account, decides = self._judge(request, desk)
        past = self._campaigns.history(name, account.id, decides=decides)
        return JSONResponse([asdict(one) for one in past])

    def status(self, request: Request, name: str) -> JSONResponse:
        """How far a campaign is, per rater, and how well raters agree."""
        self._callers.need(request, "adjudicator")
        return JSONResponse(asdict(status_of(self._store, name)))

    def export(self, request: Request, name: str, format: Format = "records") -> Response:  # noqa: A002
        """Comparisons, votes, preferences and ties; for TRL, the rows to train on, one a line."""
        admin = self._callers.need(request, "admin")
        lists = lists_of(export(self._store, name), format)
        self._note(admin, "export", {"campaign": name, "format": format})
        if format == "records":
            return JSONResponse(lists, headers=_file(f"{name}.json"))
        from rlhf.data.readers.containers import as_jsonl

        rows = as_jsonl(next(iter(lists.values())))
        return Response(rows, media_type=JSON_LINES, headers=_file(f"{name}.{format}.jsonl"))


def _file(name: str) -> dict[str, str]:
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return {"Content-Disposition": f'attachment; filename="{plain}"'}


def _sized(task: Task) -> Task:
    texts = [message.content for message in task.prompt.messages]
    texts += [response.text for response in task.responses]
    if any(len(text) > MAX_TEXT for text in texts):
        raise ValueError(f"a message or response has at most {MAX_TEXT:,} characters")
    return task


def _turn(request: Request, turn: Turn, html: bool) -> dict[str, Any]:
    words = words_of(request)
    return {
        "item": _item(turn.item, html),
        "progress": _progress(turn.progress),
        "notice": words.of(turn.notice),
        **({"said": [asdict(one) for one in turn.said]} if turn.said else {}),
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
