"""Model text to HTML that can only ever be text.

Markdown is rendered with raw HTML off, so that tags show as they were written, formulas become
MathML, and the result passes an allow-list without images, forms, styles or handlers.
"""

from html import escape

import nh3
from markdown_it import MarkdownIt

from labeling_ui.text.latex import ATTRIBUTES, TAGS, formulas

MAX_RENDERED = 32_000
"""Characters that are rendered in half a second at worst; a longer text shows as it was written."""

_BLOCKS = {"p", "br", "hr", "blockquote", "pre", "ol", "ul", "li", *(f"h{n}" for n in range(1, 7))}
_INLINE = {"code", "em", "strong", "s", "a"}
_TABLE = {"table", "thead", "tbody", "tr", "th", "td"}

# Images would be fetched from elsewhere; without the rule their source shows as written.
_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False, "breaks": True})
    .enable(["table", "strikethrough"])
    .disable(["image"])
    .use(formulas)
)


def render(text: str) -> str:
    """``text`` as safe HTML: Markdown structure and formulas, nothing that runs or loads."""
    if len(text) > MAX_RENDERED:
        return "<p>" + escape(text).replace("\n", "<br>\n") + "</p>\n"
    return nh3.clean(
        _MARKDOWN.render(text),
        tags=_BLOCKS | _INLINE | _TABLE | TAGS,
        attributes={
            "*": set(),
            "a": {"href"},
            "ol": {"start"},
            **{tag: set(ATTRIBUTES) for tag in TAGS},
        },
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
