"""The admin page: every campaign, how far it is, who did how much, how well raters agree."""

from html import escape

import gradio as gr

from labeling_ui.accounts import Accounts
from labeling_ui.callers import signed_in
from labeling_ui.pages import header
from labeling_ui.results import Status, all_status
from labeling_ui.store import Store

_SECONDS = 5.0


def campaigns_html(campaigns: list[Status]) -> str:
    """A card for each campaign."""
    if not campaigns:
        return (
            '<p class="rl-wait">No campaign yet. Make one with '
            "<code>rlhf label import NAME FILE.jsonl</code>.</p>"
        )
    return "".join(_card(status) for status in campaigns)


def _card(status: Status) -> str:
    name = escape(status.name)
    wanted = status.comparisons * status.overlap
    share = min(1.0, status.votes / wanted) if wanted else 0.0
    agreement = "none yet" if status.agreement is None else f"{status.agreement:.1%}"
    figures = (
        ("Comparisons", f"{status.comparisons:,}"),
        ("Complete", f"{status.complete:,}"),
        ("Overlap", str(status.overlap)),
        ("Votes", f"{status.votes:,}"),
        ("Skips", f"{status.skips:,}"),
        ("Agreement", agreement),
    )
    facts = "".join(f"<div><dt>{label}</dt><dd>{figure}</dd></div>" for label, figure in figures)
    most = max((rater.votes for rater in status.raters), default=0) or 1
    raters = "".join(
        f'<tr><th scope="row">{escape(rater.name)}</th><td class="rl-bar">'
        f'<i style="width:{100 * rater.votes / most:.1f}%"></i></td>'
        f"<td>{rater.votes:,}</td><td>{rater.skips:,}</td></tr>"
        for rater in status.raters
    )
    table = (
        '<table><thead><tr><th scope="col">Rater</th><th class="rl-bar"></th>'
        '<th scope="col">Votes</th><th scope="col">Skips</th></tr></thead>'
        f"<tbody>{raters}</tbody></table>"
        if raters
        else '<p class="rl-hint">Nobody has voted yet.</p>'
    )
    return (
        f'<article class="rl-card"><div class="rl-head"><h2>{name}</h2>'
        f'<a class="rl-side" href="/api/campaigns/{name}/export" download>Export</a></div>'
        f'<div class="rl-progress" role="progressbar" aria-label="Votes" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share * 100:.0f}">'
        f'<i style="width:{share:.1%}"></i></div><dl class="rl-facts">{facts}</dl>{table}</article>'
    )


def page(store: Store, accounts: Accounts) -> gr.Blocks:
    """The page; it looks again every few seconds."""

    def look(request: gr.Request) -> str:
        account = signed_in(accounts, request.cookies)
        if account is None or account.role != "admin":
            raise gr.Error("only an admin may see this", print_exception=False)
        return f'<div class="rl-cards"><h1>Campaigns</h1>{campaigns_html(all_status(store))}</div>'

    with gr.Blocks(title="Admin · rlhf label", analytics_enabled=False) as blocks:
        header("admin")
        cards = gr.HTML('<p class="rl-wait">Loading…</p>', apply_default_css=False)
        blocks.load(look, outputs=cards, show_progress="hidden", api_visibility="private")
        gr.Timer(_SECONDS).tick(
            look, outputs=cards, show_progress="hidden", api_visibility="private"
        )
    return blocks
