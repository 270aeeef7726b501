"""The arena's part of the HTTP API; answers are streamed, a JSON object on each line.

Before the vote nothing that is sent tells who answers.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Generator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from labeling_ui.accounts import Account
from labeling_ui.arena import Arena
from labeling_ui.ballot import Answer, Item, RowId
from labeling_ui.callers import Callers, told
from labeling_ui.limits import PROMPTS, Rate, TooMany
from labeling_ui.live import MAX_PROMPT
from labeling_ui.openapi import JSON_LINES, document
from labeling_ui.render import render
from labeling_ui.store import Conflict
from labeling_ui.words import Words, words_of
from rlhf.errors import DataError, RLHFError
from rlhf.records import STORABLE


class Ask(BaseModel):
    """What two policies are to answer."""

    model_config = ConfigDict(extra="forbid")
    prompt: Annotated[str, Field(max_length=MAX_PROMPT), STORABLE]
    after: RowId | None = None
    """A battle that was judged: the prompt goes on from its better answer."""


class ArenaApi:
    """The handlers, for guests too."""

    def __init__(self, callers: Callers, arena: Arena) -> None:
        self._callers, self._arena = callers, arena
        self._rate = Rate(PROMPTS)

    def router(self) -> APIRouter:
        """Every path of the arena."""
        router = APIRouter()
        routes: list[tuple[str, str, Callable[..., Response]]] = [
            ("GET", "/api/arena", self.unjudged),
            ("POST", "/api/arena", self.ask),
            ("POST", "/api/arena/votes", self.judge),
        ]
        for method, path, handler in routes:
            router.add_api_route(path, handler, methods=[method], **document(method, path, handler))
        return router

    def unjudged(self, request: Request) -> Response:
        """The battle that the caller has not judged yet, if any."""
        account = self._callers.need(request, "guest")
        item = self._arena.unjudged(account.id)
        return JSONResponse({"item": None if item is None else _shown(item)})

    def ask(self, request: Request, body: Ask) -> Response:
        """Two policies answer: lines of ``responses`` as they grow, then the battle as ``item``.

        The last line may be a ``notice`` instead, if there is nothing to judge, or a ``detail``, if
        something went wrong.
        """
        account = self._callers.need(request, "guest")
        words = words_of(request)
        if not body.prompt.strip():
            return told(422, words("prompt_length", most=MAX_PROMPT))
        self._rate.spend(str(account.id))
        lines = self._lines(account, body, words)
        return StreamingResponse(
            _streamed(lines), media_type=JSON_LINES, headers={"X-Accel-Buffering": "no"}
        )

    def _lines(self, account: Account, asked: Ask, words: Words) -> Generator[dict[str, Any]]:
        try:
            with self._arena.asking(account.id):
                yield from self._battle(account, asked, words)
        except (Conflict, TooMany, DataError) as error:
            yield {"detail": words.told(error)}
        except RLHFError as error:
            # The sentence may name a run folder, which raters must not see.
            yield {"detail": str(error) if account.may("admin") else words("cannot_answer")}

    def _battle(self, account: Account, asked: Ask, words: Words) -> Generator[dict[str, Any]]:
        pair, texts = self._arena.pair(account.id, asked.prompt, asked.after), ("", "")
        for texts in self._arena.answers(pair):
            yield {"responses": [render(text) for text in texts]}
        if texts[0] == texts[1]:
            yield {"notice": words("same_answer")}
            return
        item = self._arena.keep(pair, texts)
        yield {"notice": words("judged_before")} if item is None else {"item": _shown(item)}

    def judge(self, request: Request, body: Answer) -> Response:
        """Store the caller's vote; who answered, from the left."""
        account = self._callers.need(request, "guest")
        number, policies = self._arena.vote(account.id, body)
        return JSONResponse({"saved": number, "policies": list(policies)})


async def _streamed(lines: Generator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Each as a line of its own; when nobody reads any more, ``lines`` ends where it stands."""
    try:
        async for line in iterate_in_threadpool(lines):
            yield json.dumps(line).encode() + b"\n"
    finally:
        # it may wait for a model's step, and must happen though this task is being cancelled
        await asyncio.shield(run_in_threadpool(lines.close))


def _shown(item: Item) -> dict[str, Any]:
    return {
        "assignment": item.assignment,
        "messages": [{"role": m.role, "html": render(m.content)} for m in item.messages],
        "responses": [render(text) for text in item.responses],
    }
