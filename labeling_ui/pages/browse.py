"""Single comparisons for admins: what was shown, who wrote it, and what each rater said."""

from html import escape

from labeling_ui.judged import PER_PAGE, Case, Cases
from labeling_ui.render import render
from rlhf.records import Response, Vote

_SAID = {"tie": "Tie", "both_bad": "Both bad", "skip": "Skipped"}


def cases_html(found: Cases, page: int, links: str) -> str:
    """One page of cases, with ``links`` to the other pages below it."""
    if not found.cases:
        return '<p class="rl-wait">No comparison is like that.</p>'
    first = (page - 1) * PER_PAGE + 1
    last = first + len(found.cases) - 1
    told = f'<p class="rl-hint">{first:,} to {last:,} of {found.total:,}</p>'
    return f"{told}{''.join(map(_case, found.cases))}{links}"


def _case(case: Case) -> str:
    comparison = case.comparison
    turns = "".join(
        f'<div class="rl-turn rl-{m.role}"><span class="rl-who">{m.role.capitalize()}</span>'
        f'<div class="rl-text" dir="auto">{render(m.content)}</div></div>'
        for m in comparison.prompt.messages
    )
    outcomes = [vote.outcome for vote in case.votes]
    pair = "".join(
        _response(name, response, outcomes.count(name))
        for name, response in (("a", comparison.response_a), ("b", comparison.response_b))
    )
    votes = "".join(f"<li>{_vote(vote)}</li>" for vote in case.votes)
    return (
        f'<article class="rl-case rl-card"><div class="rl-talk">{turns}</div>'
        f'<div class="rl-pair">{pair}</div><ul class="rl-said">{votes}</ul></article>'
    )


def _response(name: str, response: Response, votes: int) -> str:
    wrote = f"<b>{escape(response.policy)}</b>" if response.policy else "unnamed policy"
    count = "1 vote" if votes == 1 else f"{votes:,} votes"
    return (
        f'<section class="rl-response"><h3>{name.upper()} · {wrote} · {count}</h3>'
        f'<div class="rl-text" dir="auto">{render(response.text)}</div></section>'
    )


def _vote(vote: Vote) -> str:
    left = "A" if vote.a_side == "left" else "B"
    said = _SAID.get(vote.outcome) or vote.outcome.upper()
    strength = "" if vote.strength is None else f", strength {vote.strength}"
    reason = f' <q dir="auto">{escape(vote.reason)}</q>' if vote.reason else ""
    return (
        f"<bdi>{escape(vote.rater)}</bdi> <b>{said}</b>{strength} "
        f"<small>{left} on the left</small>{reason}"
    )
