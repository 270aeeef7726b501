"""Single tasks for admins: what was shown, who wrote it, and what each rater said."""

from collections.abc import Mapping
from html import escape
from typing import Any

from labeling_ui.locales import Words
from labeling_ui.results.answers import GivenAnswer
from labeling_ui.results.cases import PER_PAGE, Case, Cases, Flagged
from labeling_ui.text.markdown import render
from rlhf.records import Response


def cases_html(found: Cases, page: int, links: str, say: Words) -> str:
    """One page of cases, with ``links`` to the other pages below it."""
    if not found.cases:
        return f'<p class="rl-wait">{say("no_such_task")}</p>'
    first = (page - 1) * PER_PAGE + 1
    last = first + len(found.cases) - 1
    span = {"first": first, "last": last, "total": found.total}
    told = say("tasks_shown", **{key: say.count(number) for key, number in span.items()})
    shown = "".join(_case(case, say) for case in found.cases)
    return f'<p class="rl-hint">{told}</p>{shown}{links}'


def _case(case: Case, say: Words) -> str:
    turns = "".join(
        f'<div class="rl-turn rl-{m.role}"><span class="rl-who">{say(m.role)}</span>'
        f'<div class="rl-text" dir="auto" tabindex="0">{render(m.content)}</div></div>'
        for m in case.task.prompt.messages
    )
    outcomes = [one.outcome for one in case.given]
    responses = "".join(
        _response(_letter(i), response, outcomes.count(_letter(i).lower()), say)
        for i, response in enumerate(case.task.responses)
    )
    said = "".join(f"<li>{_said(one, say)}</li>" for one in case.given)
    said += "".join(f"<li>{_flag(one, say)}</li>" for one in case.flags)
    return (
        f'<article class="rl-case rl-card"><div class="rl-talk">{turns}</div>'
        f'<div class="rl-pair">{responses}</div><ul class="rl-said">{said}</ul></article>'
    )


def _response(name: str, response: Response, votes: int, say: Words) -> str:
    wrote = f"<b>{escape(response.policy)}</b>" if response.policy else say("unnamed_policy")
    count = f" · {say('vote_count', count=say.count(votes))}" if votes else ""
    return (
        f'<section class="rl-response"><h3>{name} · {wrote}{count}</h3>'
        f'<div class="rl-text" dir="auto" tabindex="0">{render(response.text)}</div></section>'
    )


def _said(given: GivenAnswer, say: Words) -> str:
    said = given.outcome.upper() if given.outcome in ("a", "b") else say(f"said_{given.outcome}")
    strength = "" if given.strength is None else f" · {say(f'strength_{given.strength}')}"
    order = "".join(_letter(int(place)) for place in given.order)
    shown = f" <small>{say('shown_as', order=order)}</small>" if len(order) > 1 else ""
    reason = f' <q dir="auto">{escape(given.reason)}</q>' if given.reason else ""
    judge = f" <small>{say('adjudicator')}</small>" if given.source == "adjudicate" else ""
    return (
        f"<bdi>{escape(given.rater)}</bdi>{judge} <b>{said}</b>{strength}"
        f"{_content(given.content)}{shown}{reason}"
    )


def _flag(flag: Flagged, say: Words) -> str:
    note = f' <q dir="auto">{escape(flag.note)}</q>' if flag.note else ""
    kind = f'<b class="rl-doubt">{say("flag")}: {say(f"flag_{flag.kind}")}</b>'
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
