"""Somebody who is signed in to a labelling server: everything goes over its HTTP API."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx

from rlhf.errors import RunError
from rlhf.label_client.transport import Ask, Wire
from rlhf.records import Comparison, Message, Preference, Vote, from_json, to_json

_UPLOAD = 500
"""Comparisons or assignments in one request."""

_WHO = frozenset({"name", "role"})

ExportFormat = Literal["trl-paired", "trl-unpaired", "trl-ranked"]


@dataclass(frozen=True, slots=True)
class Item:
    """What is to be judged: a conversation, and the responses as they stand from the left."""

    assignment: int
    messages: tuple[Message, ...]
    responses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """What is next, and how far one is."""

    item: Item | None
    """None at the end."""
    done: int
    total: int
    notice: str = ""
    """Why there is no item where not all is done."""


@dataclass(frozen=True, slots=True)
class CampaignInfo:
    """A campaign as its raters see it."""

    name: str
    kind: str
    guidelines: str
    aspects: tuple[str, ...]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class CampaignStatus:
    """How far a campaign is; ``agreement`` is None without two votes on anything."""

    comparisons: int
    complete: int
    votes: int
    skips: int
    agreement: float | None
    raters: Mapping[str, int]
    """Votes by name."""


class LabelClient:
    """A session with a labelling server, by password or by token.

    A reply that is lost does no harm: a vote is sent again under its key, and counts once.

    Raises:
        RunError: nobody answers, or the server refuses; each method may.
    """

    def __init__(
        self,
        server: str,
        name: str | None = None,
        password: str | None = None,
        *,
        token: str | None = None,
    ) -> None:
        if (token is None) == (name is None or password is None):
            raise RunError("sign in with a name and its password, or with a token")
        self._wire = Wire(server, token)
        try:
            if token is None:
                body = {"name": name, "password": password}
                who = self._wire.call(Ask("POST", "/api/login", body, again=True, has=_WHO))
            else:
                who = self._wire.call(Ask("GET", "/api/me", again=True, has=_WHO))
        except RunError:
            self.close()
            raise
        self.name: str = who["name"]
        self.role: str = who["role"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        self._wire.close()

    def add_user(self, name: str, password: str) -> None:
        """Let a rater sign in, who may be known already."""
        body = {"name": name, "password": password}
        self._wire.call(Ask("POST", "/api/users", body, again=True, fine=httpx.codes.CONFLICT))

    def add_raters(self, names: Sequence[str]) -> dict[str, str]:
        """Make raters who sign in with tokens; the token of each, by name."""
        made = self._wire.call(Ask("POST", "/api/users", [{"name": name} for name in names]))
        return {one["name"]: one["token"] for one in made}

    def campaigns(self) -> list[CampaignInfo]:
        """Every campaign, with how far one is in it."""
        return [
            CampaignInfo(
                one["name"],
                one["kind"],
                one["guidelines"],
                tuple(one["aspects"]),
                one["progress"]["done"],
                one["progress"]["total"],
            )
            for one in self._wire.call(Ask("GET", "/api/campaigns", again=True))
        ]

    def add_campaign(
        self,
        name: str,
        comparisons: Sequence[Comparison],
        *,
        overlap: int | None = None,
        guidelines: str = "",
        **settings: Any,  # noqa: ANN401 - the rules of a campaign, as `rlhf label import --set`
    ) -> int:
        """Ask for ``overlap`` votes on each comparison; how many were not there already.

        Rules that are not given are those that the campaign has, or the usual ones: one vote.
        Without comparisons, the campaign is made empty, or its guidelines become others.
        """
        rules = settings if overlap is None else {"overlap": overlap, **settings}
        body = {"name": name, "settings": rules or None, "guidelines": guidelines}
        added = 0
        for start in range(0, max(len(comparisons), 1), _UPLOAD):
            part = [to_json(c) for c in comparisons[start : start + _UPLOAD]]
            ask = Ask("POST", "/api/campaigns", {**body, "comparisons": part}, again=True)
            added += self._wire.call(ask)["added"]
        return added

    def assign(self, campaign: str, pairs: Iterable[tuple[str, Comparison | str]]) -> int:
        """Put comparisons on the lists of raters, by name; how many were not there already."""
        lists = [(rater, one if isinstance(one, str) else one.id) for rater, one in pairs]
        added = 0
        for start in range(0, len(lists), _UPLOAD):
            body = {"assignments": lists[start : start + _UPLOAD]}
            ask = Ask("POST", f"{_path(campaign)}/assignments", body, again=True)
            added += self._wire.call(ask)["added"]
        return added

    def next(self, campaign: str) -> Turn:
        """What is to be judged now."""
        return _turn(self._wire.call(Ask("GET", f"{_path(campaign)}/next", again=True)))

    def vote(
        self,
        campaign: str,
        item: Item | int,
        choice: str,
        **said: Any,  # noqa: ANN401 - strength, aspects, ranking, text, reason, elapsed_ms
    ) -> Turn:
        """Answer an item, or an assignment by its number; what is next.

        What else may be said depends on the campaign: ``strength``, ``aspects``, ``ranking``,
        ``text``, ``reason``, ``elapsed_ms``, as the server's ``/api/docs`` describes them.
        """
        number = item if isinstance(item, int) else item.assignment
        body = {"assignment": number, "choice": choice, "key": secrets.token_urlsafe(12), **said}
        return _turn(self._wire.call(Ask("POST", f"{_path(campaign)}/votes", body, again=True)))

    def skip(self, campaign: str, item: Item | int, reason: str = "") -> Turn:
        """Leave an item to others; what is next."""
        return self.vote(campaign, item, "skip", reason=reason)

    def undo(self, campaign: str) -> Turn:
        """Withdraw one's latest answer; what it was about."""
        return _turn(self._wire.call(Ask("POST", f"{_path(campaign)}/undo")))

    def flag(self, campaign: str, item: Item | int, kind: str, note: str = "") -> None:
        """Point out that something is wrong with an item."""
        number = item if isinstance(item, int) else item.assignment
        body = {"assignment": number, "kind": kind, "note": note}
        self._wire.call(Ask("POST", f"{_path(campaign)}/flags", body))

    def status(self, campaign: str) -> CampaignStatus:
        """How far a campaign is, and how well its raters agree."""
        found = self._wire.call(Ask("GET", f"{_path(campaign)}/status", again=True))
        raters = {one["name"]: one["votes"] for one in found["raters"]}
        names = ("comparisons", "complete", "votes", "skips", "agreement")
        return CampaignStatus(*(found[name] for name in names), raters=raters)

    def preferences(self, campaign: str) -> list[Preference]:
        """What the votes so far settle."""
        return [from_json(Preference, row) for row in self.export(campaign)["preferences"]]

    def votes(self, campaign: str) -> list[Vote]:
        """Every vote so far."""
        return [from_json(Vote, row) for row in self.export(campaign)["votes"]]

    def export(self, campaign: str) -> dict[str, list[dict[str, Any]]]:
        """Everything that was said, as lists of records: comparisons, votes, preferences, ties."""
        return self._wire.call(Ask("GET", f"{_path(campaign)}/export", again=True))

    def rows(self, campaign: str, form: ExportFormat) -> list[dict[str, Any]]:
        """What TRL trains on, in one of its formats."""
        path = f"{_path(campaign)}/export"
        return self._wire.call(Ask("GET", path, params={"format": form}, again=True))


def _path(campaign: str) -> str:
    return f"/api/campaigns/{quote(campaign, safe='', errors='backslashreplace')}"


def _turn(answer: Mapping[str, Any]) -> Turn:
    progress, item = answer["progress"], answer["item"]
    if item is not None:
        messages = tuple(Message(**message) for message in item["messages"])
        item = Item(item["assignment"], messages, tuple(item["responses"]))
    return Turn(item, progress["done"], progress["total"], answer["notice"])
