"""The admin page: how far each campaign is, what its votes say, and the tasks themselves.

What is on it depends on the address alone, so that it can be bookmarked and survives a restart.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

import gradio as gr

from labeling_ui.accounts import Accounts
from labeling_ui.callers import signed_in
from labeling_ui.dashboard import Dashboard
from labeling_ui.judged import PER_PAGE, SHOWS, Glance, Show, Wanted, cases, glances
from labeling_ui.pages import header, script
from labeling_ui.pages.browse import cases_html
from labeling_ui.pages.figures import SORTS, figures_html
from labeling_ui.store import NotFound, Store

_SECONDS = 5.0
_SHOWN: dict[Show, str] = {
    "all": "All",
    "disagreement": "Disagreement",
    "ties": "No winner",
    "skipped": "Skipped",
    "flagged": "Flagged",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for; what it asks wrongly is as if it were not asked."""

    campaign: str = ""
    show: Show = "all"
    rater: str = ""
    part: int = 1
    """Which ten tasks; ``page`` in an address is Gradio's."""
    sort: str = "votes"

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Asked":
        """Read an address."""
        show, sort, part = query.get("show"), query.get("sort"), query.get("part", "")
        return cls(
            campaign=query.get("campaign", ""),
            show=show if show in SHOWS else "all",
            rater=query.get("rater", "").strip(),
            part=min(max(1, int(part)), 10**9) if part.isdecimal() and part.isascii() else 1,
            sort=sort if sort in SORTS else "votes",
        )

    def link(self, anchor: str = "", **changes: Any) -> str:  # noqa: ANN401 - values of the fields
        """The address that asks for this, but for ``changes``; escaped for an attribute."""
        asked = asdict(replace(self, **changes))
        plain = {k: v for k, v in asked.items() if v != getattr(Asked(), k)}
        return escape(f"?{urlencode(plain)}{anchor}")


def overview_html(campaigns: list[Glance], asked: Asked) -> str:
    """A line for each campaign, the one that is looked at marked."""
    if not campaigns:
        return (
            '<p class="rl-wait">No campaign yet. <a href="/new">Make one</a> here, or with '
            "<code>rlhf label import NAME FILE.jsonl</code>.</p>"
        )
    return f'<div class="rl-card rl-campaigns">{"".join(_line(c, asked) for c in campaigns)}</div>'


def _line(campaign: Glance, asked: Asked) -> str:
    wanted = campaign.tasks * campaign.overlap
    share = min(1.0, campaign.votes / wanted) if wanted else 0.0
    current = ' aria-current="true"' if campaign.name == asked.campaign else ""
    name, path = escape(campaign.name), quote(campaign.name, safe="")
    figures = (
        ("Tasks", campaign.tasks),
        ("Complete", campaign.complete),
        ("Overlap", campaign.overlap),
        ("Answers", campaign.votes),
        ("Skips", campaign.skips),
        ("Raters", campaign.raters),
    )
    facts = "".join(f"<div><dt>{what}</dt><dd>{count:,}</dd></div>" for what, count in figures)
    return (
        f'<article{current}><div class="rl-head">'
        f'<h2><a href="{Asked(campaign=campaign.name).link()}">{name}</a></h2>'
        f'<a class="rl-side" href="/api/campaigns/{path}/export" download>Export</a></div>'
        f'<div class="rl-progress" role="progressbar" aria-label="Answers" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share * 100:.0f}">'
        f'<i style="width:{share:.1%}"></i></div><dl class="rl-facts">{facts}</dl></article>'
    )


def _chips(items: list[tuple[str, str, bool]], label: str) -> str:
    links = "".join(
        f'<a class="rl-chip" href="{link}"{" aria-current=true" if current else ""}>{text}</a>'
        for text, link, current in items
    )
    return f'<nav class="rl-filters" aria-label="{label}">{links}</nav>'


def _sort_links(asked: Asked) -> str:
    items = [(text, asked.link(sort=key), key == asked.sort) for key, (text, _) in SORTS.items()]
    return _chips(items, "Order of the raters")


def _browser_html(store: Store, asked: Asked) -> str:
    found = cases(store, asked.campaign, Wanted(asked.show, asked.rater, asked.part))
    chips = _chips(
        [
            (text, asked.link("#tasks", show=show, part=1), show == asked.show)
            for show, text in _SHOWN.items()
        ],
        "Which tasks",
    )
    kept = "".join(
        f'<input type="hidden" name="{key}" value="{escape(str(value))}">'
        for key, value in asdict(asked).items()
        if key not in ("rater", "part")
    )
    form = (
        f'<form method="get" class="rl-by" role="search">{kept}<label>Judged by '
        f'<input name="rater" value="{escape(asked.rater)}" placeholder="any rater" '
        'autocomplete="off"></label> <button class="rl-side">Show</button></form>'
    )
    pages = [("Previous", -1)] if asked.part > 1 else []
    pages += [("Next", 1)] if asked.part * PER_PAGE < found.total else []
    links = "".join(
        f'<a class="rl-side" href="{asked.link("#tasks", part=asked.part + step)}">{text}</a>'
        for text, step in pages
    )
    paging = f'<nav class="rl-filters" aria-label="Pages of tasks">{links}</nav>'
    return (
        f'<h2 class="rl-part" id="tasks">Tasks</h2>'
        f'<div class="rl-tools">{chips}{form}</div>{cases_html(found, asked.part, paging)}'
    )


class Admin:
    """The handlers of the page. Each checks who asks: a hidden one can be called by anybody."""

    def __init__(self, store: Store, accounts: Accounts, dashboard: Dashboard) -> None:
        self._store, self._accounts, self._dashboard = store, accounts, dashboard

    def look(self, request: gr.Request) -> tuple[str, str]:
        """Campaigns, and the figures of the one that is asked for or the newest."""
        asked, campaigns = self._asked(request)
        title = "<h1 id='rl-content'>Campaigns</h1><a class='rl-side' href='/new'>New campaign</a>"
        top = f"<div class='rl-tools'>{title}</div>{overview_html(campaigns, asked)}"
        if not asked.campaign:
            return _page(top), ""
        try:
            figures = self._dashboard.figures(asked.campaign)
        except NotFound as error:
            return _page(top), _page(f'<p class="rl-wait">{escape(str(error))}</p>')
        body = (
            '<p class="rl-wait">Working out the figures…</p>'
            if figures is None
            else figures_html(figures, asked.sort, _sort_links(asked))
        )
        return _page(top), _page(f'<h2 class="rl-part">{escape(asked.campaign)}</h2>{body}')

    def browse(self, request: gr.Request) -> str:
        """The tasks that are asked for."""
        asked, campaigns = self._asked(request)
        if asked.campaign not in {campaign.name for campaign in campaigns}:
            return ""
        return _page(_browser_html(self._store, asked))

    def _asked(self, request: gr.Request) -> tuple[Asked, list[Glance]]:
        account = signed_in(self._accounts, request.cookies)
        if account is None or not account.may("admin"):
            raise gr.Error("only an admin may see this", print_exception=False)
        asked, campaigns = Asked.of(dict(request.query_params)), glances(self._store)
        if not asked.campaign and campaigns:
            asked = replace(asked, campaign=campaigns[0].name)
        return asked, campaigns


def _page(body: str) -> str:
    # what is written here is English in every language of the bar
    return f'<div class="rl-cards rl-admin" lang="en" dir="ltr">{body}</div>'


def page(store: Store, accounts: Accounts) -> gr.Blocks:
    """The page; it looks again every few seconds."""
    admin = Admin(store, accounts, Dashboard(store))
    with gr.Blocks(title="Admin · rlhf label", analytics_enabled=False) as blocks:
        header("admin")
        gr.HTML(f"<style>{script('admin.css')}</style>", apply_default_css=False)
        overview = gr.HTML('<p class="rl-wait">Loading…</p>', apply_default_css=False)
        figures = gr.HTML("", apply_default_css=False)
        browser = gr.HTML("", apply_default_css=False)
        looks = [(blocks.load, [overview, figures]), (gr.Timer(_SECONDS).tick, [overview, figures])]
        for event, outputs in looks:
            event(
                admin.look,
                outputs=outputs,
                show_progress="hidden",
                api_visibility="private",
                concurrency_limit=4,
            )
        blocks.load(
            admin.browse,
            outputs=browser,
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=4,
        )
    return blocks
