"""What the pages share: the look, and the bar at the top."""

from pathlib import Path

import gradio as gr
from gradio.themes import Base

_HERE = Path(__file__).parent

STYLE = (_HERE / "style.css").read_text(encoding="utf-8")

# Fonts by name only: the machine's own, so that nothing is fetched. The colours are style.css's,
# which change with light and dark by themselves.
_LOOK = {
    "body_text_color": "var(--rl-ink)",
    "block_background_fill": "var(--rl-card)",
    "block_border_color": "var(--rl-line)",
    "block_label_text_color": "var(--rl-soft)",
    "block_title_text_color": "var(--rl-soft)",
    "input_background_fill": "var(--rl-paper)",
    "input_border_color": "var(--rl-line)",
    "button_primary_background_fill": "var(--rl-accent)",
    "button_primary_background_fill_hover": "var(--rl-accent)",
    "button_primary_text_color": "var(--rl-accent-ink)",
}
THEME = Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    **_LOOK,
    **{f"{name}_dark": colour for name, colour in _LOOK.items()},
    block_radius="14px",
    input_radius="10px",
    input_border_width="1px",
    button_large_radius="10px",
    button_medium_radius="10px",
)


def script(name: str) -> str:
    """The source of a page's script."""
    return (_HERE / name).read_text(encoding="utf-8")


def header(current: str) -> gr.HTML:
    """The bar with the pages, who is signed in, and the way out."""
    links = "".join(
        f'<a href="/{page}/"'
        + (' aria-current="page"' if page == current else "")
        + (" hidden data-admin" if page == "admin" != current else "")
        + f">{page.capitalize()}</a>"
        for page in ("rate", "compare", "admin")
    )
    return gr.HTML(
        f'<header class="rl-top"><span class="rl-brand">rlhf <b>label</b></span>'
        f'<nav aria-label="Pages">{links}</nav><span class="rl-grow"></span>'
        '<span class="rl-me" data-me></span>'
        '<button type="button" class="rl-quiet" data-out>Sign out</button></header>',
        js_on_load=script("header.js"),
        apply_default_css=False,
    )
