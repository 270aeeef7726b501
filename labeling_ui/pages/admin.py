"""The admin page: how far each campaign is, what its votes say, and the tasks themselves.

What is on it depends on the address alone, so that it can be bookmarked and survives a restart.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

import gradio as gr

from labeling_ui.accounts.sessions import signed_in
from labeling_ui.accounts.users import Accounts
from labeling_ui.db.store import NotFound, Store
from labeling_ui.locales import Words, words_of
from labeling_ui.pages import header, script
from labeling_ui.pages.browse import cases_html
from labeling_ui.pages.figures import SORTS, figures_html
from labeling_ui.results.cases import (
    PER_PAGE,
    SHOWS,
    CampaignSummary,
    CaseFilter,
    Show,
    campaign_summaries,
    cases,
)
from labeling_ui.results.dashboard import Dashboard

_SECONDS = 5.0


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


def overview_html(campaigns: list[CampaignSummary], asked: Asked, say: Words) -> str:
    """A line for each campaign, the one that is looked at marked."""
    if not campaigns:
        command = '<code dir="ltr">rlhf label import NAME FILE.jsonl</code>'
        return f'<p class="rl-wait">{say("no_campaign", command=command)}</p>'
    lines = "".join(_line(campaign, asked, say) for campaign in campaigns)
    return f'<div class="rl-card rl-campaigns">{lines}</div>'


def _line(campaign: CampaignSummary, asked: Asked, say: Words) -> str:
    wanted = campaign.tasks * campaign.overlap
    share = min(1.0, campaign.votes / wanted) if wanted else 0.0
    current = ' aria-current="true"' if campaign.name == asked.campaign else ""
    name, path = escape(campaign.name), quote(campaign.name, safe="")
    figures = (
        ("tasks", campaign.tasks),
        ("complete", campaign.complete),
        ("overlap", campaign.overlap),
        ("answers", campaign.votes),
        ("said_skip", campaign.skips),
        ("raters", campaign.raters),
    )
    facts = "".join(
        f"<div><dt>{say(what)}</dt><dd>{say.count(count)}</dd></div>" for what, count in figures
    )
    return (
        f'<article{current}><div class="rl-head">'
        f'<h2><a href="{Asked(campaign=campaign.name).link()}">{name}</a></h2>'
        f'<a class="rl-side" href="/api/campaigns/{path}/export" download>{say("export")}</a></div>'
        f'<div class="rl-progress" role="progressbar" aria-label="{say("answers")}" '
        f'aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share * 100:.0f}">'
        f'<i style="width:{share:.1%}"></i></div><dl class="rl-facts">{facts}</dl></article>'
    )


def _chips(items: list[tuple[str, str, bool]], label: str) -> str:
    links = "".join(
        f'<a class="rl-chip" href="{link}"{" aria-current=true" if current else ""}>{text}</a>'
        for text, link, current in items
    )
    return f'<nav class="rl-filters" aria-label="{label}">{links}</nav>'


def _sort_links(asked: Asked, say: Words) -> str:
    items = [(say(f"sort_{key}"), asked.link(sort=key), key == asked.sort) for key in SORTS]
    return _chips(items, say("rater_order"))


def _browser_html(store: Store, asked: Asked, say: Words) -> str:
    found = cases(store, asked.campaign, CaseFilter(asked.show, asked.rater, asked.part))
    chips = _chips(
        [
            (say(f"show_{show}"), asked.link("#tasks", show=show, part=1), show == asked.show)
            for show in SHOWS
        ],
        say("which_tasks"),
    )
    kept = "".join(
        f'<input type="hidden" name="{key}" value="{escape(str(value))}">'
        for key, value in asdict(asked).items()
        if key not in ("rater", "part")
    )
    form = (
        f'<form method="get" class="rl-by" role="search">{kept}<label>{say("judged_by")} '
        f'<input name="rater" value="{escape(asked.rater)}" placeholder="{say("any_rater")}" '
        f'autocomplete="off"></label> <button class="rl-side">{say("show")}</button></form>'
    )
    pages = [("previous", -1)] if asked.part > 1 else []
    pages += [("next", 1)] if asked.part * PER_PAGE < found.total else []
    links = "".join(
        f'<a class="rl-side" href="{asked.link("#tasks", part=asked.part + step)}">{say(text)}</a>'
        for text, step in pages
    )
    paging = f'<nav class="rl-filters" aria-label="{say("task_pages")}">{links}</nav>'
    shown = cases_html(found, asked.part, paging, say)
    if asked.show == "all" and not asked.rater and not found.total:
        shown = f'<p class="rl-wait">{say("no_task_judged")}</p>'
    return (
        f'<h2 class="rl-part" id="tasks">{say("tasks")}</h2>'
        f'<div class="rl-tools">{chips}{form}</div>{shown}'
    )


class Admin:
    """The handlers of the page. Each checks who asks: a hidden one can be called by anybody."""

    def __init__(self, store: Store, accounts: Accounts, dashboard: Dashboard) -> None:
        self._store, self._accounts, self._dashboard = store, accounts, dashboard

    def look(self, request: gr.Request) -> tuple[str, str]:
        """Campaigns, and the figures of the one that is asked for or the newest."""
        asked, campaigns, say = self._asked(request)
        top = (
            f'<div class="rl-tools"><h1 id="rl-content">{say("campaigns")}</h1>'
            f'<a class="rl-side" href="/new">{say("new_campaign")}</a></div>'
        )
        top = _page(top + overview_html(campaigns, asked, say), say)
        if not asked.campaign:
            return top, ""
        name = escape(asked.campaign)
        try:
            figures = self._dashboard.figures(asked.campaign)
        except NotFound:
            return top, _page(f'<p class="rl-wait">{say("no_such_campaign", name=name)}</p>', say)
        body = (
            f'<p class="rl-wait">{say("working_out")}</p>'
            if figures is None
            else figures_html(figures, asked.sort, _sort_links(asked, say), say)
        )
        return top, _page(f'<h2 class="rl-part"><bdi>{name}</bdi></h2>{body}', say)

    def browse(self, request: gr.Request) -> str:
        """The tasks that are asked for."""
        asked, campaigns, say = self._asked(request)
        if asked.campaign not in {campaign.name for campaign in campaigns}:
            return ""
        return _page(_browser_html(self._store, asked, say), say)

    def _asked(self, request: gr.Request) -> tuple[Asked, list[CampaignSummary], Words]:
        say = words_of(request)
        account = signed_in(self._accounts, request.cookies)
        if account is None or not account.has_role("admin"):
            raise gr.Error(say("not_for_you"), print_exception=False)
        asked, campaigns = Asked.of(dict(request.query_params)), campaign_summaries(self._store)
        if not asked.campaign and campaigns:
            asked = replace(asked, campaign=campaigns[0].name)
        return asked, campaigns, say


def _page(body: str, say: Words) -> str:
    # Gradio sets a direction of its own around its parts
    return (
        f'<div class="rl-cards rl-admin" lang="{say.language}" dir="{say.direction}">{body}</div>'
    )


def page(store: Store, accounts: Accounts) -> gr.Blocks:
    """The page; it looks again every few seconds."""
    admin = Admin(store, accounts, Dashboard(store))
    with gr.Blocks(title="Admin · rlhf label", analytics_enabled=False) as blocks:
        header("admin")
        gr.HTML(f"<style>{script('admin.css')}</style>", apply_default_css=False)
        overview = gr.HTML('<p class="rl-wait" aria-busy="true">…</p>', apply_default_css=False)
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
