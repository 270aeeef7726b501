"""The arena's part of the HTTP API; answers are streamed, a JSON object on each line.

Before the vote nothing that is sent tells who answers.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from labeling_ui.accounts.rate_limits import PROMPTS, Rate, TooMany
from labeling_ui.accounts.users import Account
from labeling_ui.arena.battles import Arena
from labeling_ui.arena.policies import MAX_PROMPT
from labeling_ui.campaigns.answers import Answer, Item, RowId
from labeling_ui.db.store import Conflict
from labeling_ui.http.auth import Callers, told
from labeling_ui.http.openapi import JSON_LINES, document
from labeling_ui.locales import Words, words_of
from labeling_ui.text.markdown import render
from rlhf.errors import DataError, RLHFError
from rlhf.records import STORABLE

log = logging.getLogger(__name__)

Line = dict[str, Any]


class Ask(BaseModel):
    """What two policies are to answer."""

    model_config = ConfigDict(extra="forbid")
    prompt: Annotated[str, Field(max_length=MAX_PROMPT), STORABLE]
    after: RowId | None = None
    """A battle that was judged: the prompt goes on from its better answer."""


class AskChosen(BaseModel):
    """What two policies, by their numbers in the list, are to answer openly."""

    model_config = ConfigDict(extra="forbid")
    prompt: Annotated[str, Field(max_length=MAX_PROMPT), STORABLE]
    left: Annotated[int, Field(ge=0)]
    right: Annotated[int, Field(ge=0)]


class ArenaApi:
    """The handlers, for guests too."""

    def __init__(self, callers: Callers, arena: Arena, policies: Sequence[str]) -> None:
        self._callers, self._arena, self._policies = callers, arena, policies
        self._rate = Rate(PROMPTS)

    def router(self) -> APIRouter:
        """Every path of the arena."""
        router = APIRouter()
        routes: list[tuple[str, str, Callable[..., Response]]] = [
            ("GET", "/api/arena", self.unjudged),
            ("POST", "/api/arena", self.ask),
            ("POST", "/api/arena/votes", self.judge),
            ("GET", "/api/policies", self.policies),
            ("POST", "/api/policies", self.ask_chosen),
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
        return self._answer(request, body.prompt, partial(self._battle, body))

    def policies(self, request: Request) -> Response:
        """What the policies are called for the caller, in the order of their numbers.

        Only an admin gets their names: a rater who could ask a named policy whatever helps to
        recognise it would do so in blind comparisons.
        """
        account, words = self._callers.need(request, "guest"), words_of(request)
        numbered = [words("policy", number=n) for n in range(1, len(self._policies) + 1)]
        return JSONResponse({"policies": self._policies if account.has_role("admin") else numbered})

    def ask_chosen(self, request: Request, body: AskChosen) -> Response:
        """Two chosen policies answer: lines of ``responses`` as they grow; nothing is stored.

        The last line may be a ``detail`` instead, if something went wrong.
        """

        def lines(account: Account, words: Words) -> Generator[Line]:  # noqa: ARG001 - as a battle
            with self._arena.place(account.id):
                for texts in self._arena.chosen(body.prompt, body.left, body.right):
                    yield _grown(texts)

        return self._answer(request, body.prompt, lines)

    def _answer(
        self, request: Request, prompt: str, lines: Callable[[Account, Words], Generator[Line]]
    ) -> Response:
        account, words = self._callers.need(request, "guest"), words_of(request)
        if not prompt.strip():
            return told(422, words("prompt_length", most=MAX_PROMPT))
        self._rate.spend(str(account.id))
        return StreamingResponse(
            _streamed(self._told(account, words, lines)),
            media_type=JSON_LINES,
            headers={"X-Accel-Buffering": "no"},
        )

    def _told(
        self,
        account: Account,
        words: Words,
        lines: Callable[[Account, Words], Generator[Line]],
    ) -> Generator[Line]:
        """The lines, the last of which says what went wrong if something did."""
        try:
            yield from lines(account, words)
        except (Conflict, TooMany, DataError) as error:
            yield {"detail": words.told(error)}
        except RLHFError as error:
            # The sentence may name a run folder, which raters must not see.
            yield {"detail": str(error) if account.has_role("admin") else words("cannot_answer")}
        except Exception:
            # The reply has begun; a model out of memory must not end it in the middle of a line.
            log.exception("a policy could not answer")
            yield {"detail": words("cannot_answer")}

    def _battle(self, asked: Ask, account: Account, words: Words) -> Generator[Line]:
        with self._arena.asking(account.id):
            yield from self._fought(asked, account, words)

    def _fought(self, asked: Ask, account: Account, words: Words) -> Generator[Line]:
        pair, texts = self._arena.pair(account.id, asked.prompt, asked.after), ("", "")
        for texts in self._arena.answers(pair):
            yield _grown(texts)
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


def _grown(texts: tuple[str, str]) -> Line:
    return {"responses": [render(text) for text in texts]}


async def _streamed(lines: Generator[Line]) -> AsyncIterator[bytes]:
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
