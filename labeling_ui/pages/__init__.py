"""What the pages share: the look, the words, and the bar at the top."""

from html import escape
from pathlib import Path

import gradio as gr
from gradio.themes import Base

from labeling_ui.locales import languages

_HERE = Path(__file__).parent

STYLE = (_HERE / "style.css").read_text(encoding="utf-8")

# Fonts by name only: the machine's own, so that nothing is fetched. The colours are style.css's,
# which change with light and dark by themselves.
_LOOK = {
    "body_text_color": "var(--rl-ink)",
    "block_background_fill": "var(--rl-card)",
    "block_border_color": "var(--rl-line)",
}
THEME = Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    **_LOOK, **{f"{name}_dark": colour for name, colour in _LOOK.items()}
)

say = languages()["en"]
"""What a page says until the browser has put in the words of its own language."""


def label(key: str) -> str:
    """The attributes that name a part for screen readers."""
    return f'data-t-aria-label="{key}" aria-label="{escape(say(key))}"'


def script(name: str) -> str:
    """The source of a page's script."""
    return (_HERE / name).read_text(encoding="utf-8")


# Gradio rewrites the selectors of `css`; a style of our own is left as it is.
HEAD = f"<style>{STYLE}</style><script>{script('words.js')}</script>"


def header(current: str) -> gr.HTML:
    """The bar with the pages, who is signed in, and the way out."""
    links = "".join(
        f'<a href="/{page}/"'
        + (' aria-current="page"' if page == current else "")
        + (f' hidden data-needs="{page}"' if page != "compare" and page != current else "")
        + f">{say.html(page)}</a>"
        for page in ("rate", "compare", "admin")
    )
    return gr.HTML(
        f'<a class="rl-jump" href="#rl-content">{say.html("skip_to_content")}</a>'
        '<header class="rl-top"><span class="rl-brand" dir="ltr">rlhf <b>label</b></span>'
        f"<nav {label('pages')}>{links}</nav>"
        '<span class="rl-grow"></span><a class="rl-me" href="/account"><bdi data-me></bdi></a>'
        f'<select class="rl-language" {label("language")}></select>'
        f'<button type="button" class="rl-quiet" data-out>{say.html("sign_out")}</button></header>',
        js_on_load=script("header.js"),
        apply_default_css=False,
    )
