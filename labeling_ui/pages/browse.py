"""Single tasks for admins: what was shown, who wrote it, and what each rater said."""

from collections.abc import Mapping
from html import escape
from typing import Any

from labeling_ui.judged import PER_PAGE, Case, Cases, Flagged
from labeling_ui.render import render
from labeling_ui.results import Given
from rlhf.records import Response

_SAID = {
    "a": "A",
    "b": "B",
    "tie": "Tie",
    "both_bad": "Both bad",
    "good": "Good",
    "bad": "Bad",
    "ranked": "Ranked",
    "rated": "Rated",
    "rewritten": "Rewrote it",
    "skip": "Skipped",
}


def cases_html(found: Cases, page: int, links: str) -> str:
    """One page of cases, with ``links`` to the other pages below it."""
    if not found.cases:
        return '<p class="rl-wait">No task is like that.</p>'
    first = (page - 1) * PER_PAGE + 1
    last = first + len(found.cases) - 1
    told = f'<p class="rl-hint">{first:,} to {last:,} of {found.total:,}</p>'
    return f"{told}{''.join(map(_case, found.cases))}{links}"


def _case(case: Case) -> str:
    turns = "".join(
        f'<div class="rl-turn rl-{m.role}"><span class="rl-who">{m.role.capitalize()}</span>'
        f'<div class="rl-text" dir="auto" tabindex="0">{render(m.content)}</div></div>'
        for m in case.task.prompt.messages
    )
    outcomes = [one.outcome for one in case.given]
    responses = "".join(
        _response(_letter(i), response, outcomes.count(_letter(i).lower()))
        for i, response in enumerate(case.task.responses)
    )
    said = "".join(f"<li>{_said(one)}</li>" for one in case.given)
    said += "".join(f"<li>{_flag(one)}</li>" for one in case.flags)
    return (
        f'<article class="rl-case rl-card"><div class="rl-talk">{turns}</div>'
        f'<div class="rl-pair">{responses}</div><ul class="rl-said">{said}</ul></article>'
    )


def _response(name: str, response: Response, votes: int) -> str:
    wrote = f"<b>{escape(response.policy)}</b>" if response.policy else "unnamed policy"
    count = f" · {votes:,} {'vote' if votes == 1 else 'votes'}" if votes else ""
    return (
        f'<section class="rl-response"><h3>{name} · {wrote}{count}</h3>'
        f'<div class="rl-text" dir="auto" tabindex="0">{render(response.text)}</div></section>'
    )


def _said(given: Given) -> str:
    strength = "" if given.strength is None else f", strength {given.strength}"
    order = "".join(_letter(int(place)) for place in given.order)
    shown = f" <small>shown as {order}</small>" if len(order) > 1 else ""
    reason = f' <q dir="auto">{escape(given.reason)}</q>' if given.reason else ""
    judge = " <small>adjudicator</small>" if given.source == "adjudicate" else ""
    return (
        f"<bdi>{escape(given.rater)}</bdi>{judge} <b>{_SAID[given.outcome]}</b>{strength}"
        f"{_content(given.content)}{shown}{reason}"
    )


def _flag(flag: Flagged) -> str:
    note = f' <q dir="auto">{escape(flag.note)}</q>' if flag.note else ""
    kind = f'<b class="rl-doubt">flag: {escape(flag.kind)}</b>'
    return f"<bdi>{escape(flag.rater)}</bdi> {kind}{note}"


def _content(content: Mapping[str, Any]) -> str:
    """What an answer holds beside its outcome, by response."""
    found = ""
    if ranking := content.get("ranking"):
        found += " " + " &gt; ".join(" = ".join(map(_letter, group)) for group in ranking)
    for name, said in content.get("aspects", {}).items():
        found += f", {escape(str(name))} {escape(str(said))}"
    if text := content.get("text"):
        found += f'<div class="rl-text" dir="auto" tabindex="0">{render(text)}</div>'
    return found


def _letter(place: int) -> str:
    return chr(ord("A") + place)
