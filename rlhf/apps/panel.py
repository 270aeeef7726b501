"""A panel votes on comparisons: simulated raters over HTTP, or people in their browsers."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rlhf.label_client.client import Item, LabelClient
from rlhf.label_client.server_process import label_server, passwords
from rlhf.records import Comparison, Outcome, Preference, Prompt, Side
from rlhf.sandbox.raters import Rater, panel

GUIDELINES = """\
Which reply would you rather get from a shop's help desk? It should give the right fact from the
card, take one next step, be courteous, short and finished, and refuse what it must not tell.
"""
NUM_RATERS = 8
_ADMIN = "admin"
_PERSON = "rater"
_PATIENCE = 2.0
"""Seconds between two looks at whether people have finished."""

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Ask:
    """A campaign: what is asked, and of how many raters each."""

    name: str
    comparisons: Sequence[Comparison]
    overlap: int


def simulated_votes(database: Path, asks: Sequence[Ask], seed: int) -> dict[str, list[Preference]]:
    """What a panel of simulated raters prefers, by campaign.

    Each rater signs in to the running server and answers what it is handed, one after the other,
    so that the same seed deals the same comparisons to the same raters.
    """
    raters = panel(seed, NUM_RATERS)
    keys = passwords(database, [_ADMIN, *(rater.name for rater in raters)])
    with label_server(database) as url, ExitStack() as stack:
        admin = stack.enter_context(LabelClient(url, _ADMIN, keys[_ADMIN]))
        _add_users(admin, keys)
        clients = [stack.enter_context(LabelClient(url, r.name, keys[r.name])) for r in raters]
        for ask in asks:
            admin.add_campaign(
                ask.name, ask.comparisons, overlap=ask.overlap, guidelines=GUIDELINES
            )
            _vote(ask, list(zip(raters, clients, strict=True)))
        return {ask.name: admin.preferences(ask.name) for ask in asks}


def human_votes(
    database: Path, asks: Sequence[Ask], port: int, tell: Tell
) -> dict[str, list[Preference]]:
    """What people prefer, by campaign; returns when every comparison has its votes."""
    keys = passwords(database, [_ADMIN, _PERSON])
    with label_server(database, port=port) as url, LabelClient(url, _ADMIN, keys[_ADMIN]) as admin:
        _add_users(admin, keys)
        for ask in asks:
            admin.add_campaign(
                ask.name, ask.comparisons, overlap=ask.overlap, guidelines=GUIDELINES
            )
        tell(
            f"rate the comparisons at {url} as {_PERSON!r}, password {keys[_PERSON]!r} "
            f"(more raters: rlhf label add-user NAME --db {database}); waiting for votes …"
        )
        _wait(admin, asks, tell)
        return {ask.name: admin.preferences(ask.name) for ask in asks}


def _add_users(admin: LabelClient, keys: dict[str, str]) -> None:
    for name, password in keys.items():
        if name != _ADMIN:
            admin.add_user(name, password)


def _vote(ask: Ask, raters: Sequence[tuple[Rater, LabelClient]]) -> None:
    """Every rater answers in turn until nobody is handed anything."""
    of_prompt: dict[str, list[Comparison]] = {}
    for comparison in ask.comparisons:
        of_prompt.setdefault(comparison.prompt.id, []).append(comparison)
    items = [client.next(ask.name).item for _, client in raters]
    while any(items):
        for seat, (rater, client) in enumerate(raters):
            item = items[seat]
            if item is not None:
                choice = _choice(rater, item, of_prompt)
                items[seat] = client.vote(ask.name, item, choice).item


def _choice(rater: Rater, item: Item, of_prompt: dict[str, list[Comparison]]) -> str:
    """What a rater who sees ``item`` presses."""
    prompt = Prompt(item.messages)
    shown = set(item.responses)
    [comparison] = [
        c for c in of_prompt[prompt.id] if {c.response_a.text, c.response_b.text} == shown
    ]
    a_side: Side = "left" if item.responses[0] == comparison.response_a.text else "right"
    return _on_screen(rater.vote(comparison, a_side).outcome, a_side)


def _on_screen(outcome: Outcome, a_side: Side) -> str:
    if outcome == "a":
        return a_side
    if outcome == "b":
        return "right" if a_side == "left" else "left"
    return outcome


def _wait(admin: LabelClient, asks: Sequence[Ask], tell: Tell) -> None:
    left = -1
    while left:
        done = [admin.status(ask.name) for ask in asks]
        now = sum(one.comparisons - one.complete for one in done)
        if now != left:
            tell(f"{now} comparisons to go")
        left = now
        if left:
            time.sleep(_PATIENCE)
