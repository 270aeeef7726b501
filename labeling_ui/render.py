"""Model text to HTML that can only ever be text.

Markdown is rendered with raw HTML off, so that tags show as they were written, and the result
passes an allow-list without images, forms, styles or handlers.
"""

import nh3
from markdown_it import MarkdownIt

_BLOCKS = {"p", "br", "hr", "blockquote", "pre", "ol", "ul", "li", *(f"h{n}" for n in range(1, 7))}
_INLINE = {"code", "em", "strong", "s", "a"}
_TABLE = {"table", "thead", "tbody", "tr", "th", "td"}

# Images would be fetched from elsewhere; without the rule their source shows as written.
_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False, "breaks": True})
    .enable(["table", "strikethrough"])
    .disable(["image"])
)


def render(text: str) -> str:
    """``text`` as safe HTML: Markdown structure, nothing that runs, loads or overlays."""
    return nh3.clean(
        _MARKDOWN.render(text),
        tags=_BLOCKS | _INLINE | _TABLE,
        attributes={"*": set(), "a": {"href"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
