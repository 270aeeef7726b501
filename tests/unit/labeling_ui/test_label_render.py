import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling_ui.render import render

ALLOWED = {
    *("p", "br", "hr", "blockquote", "pre", "code", "em", "strong", "s", "a", "ol", "ul", "li"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<style>*{display:none}</style>",
    '<div style="position:fixed;inset:0">over everything</div>',
    "<form action=https://elsewhere><input><button>go</button></form>",
    "<iframe src=https://elsewhere></iframe>",
    "<svg onload=alert(1)>",
    "![pixel](https://elsewhere/pixel.png)",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:x)",
    "<a href='https://ok' onclick=alert(1)>x</a>",
    '[x](https://ok "onmouseover=alert(1)")',
    '[x](https://ok" onclick="alert\\(1\\))',
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "| a |\n|---|\n| <script>alert(1)</script> |",
    "<!-- comment -->",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<think>hidden</think>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "</div></div></article><h1>escaped</h1>",
]


class Elements(HTMLParser):
    """Every element and attribute that a browser would see, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def harmless(html: str) -> bool:
    seen = Elements(html)
    links = [value or "" for name, value in seen.attributes if name == "href"]
    return (
        set(seen.tags) <= ALLOWED
        and {name for name, _ in seen.attributes} <= {"href", "rel", "target", "start"}
        and all(re.match(r"(https?:|mailto:|[^:]*$)", link) for link in links)
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(text):
    assert harmless(render(text))


@given(st.lists(st.sampled_from([*HOSTILE, "\n", "`", "*", "> ", "- ", "x"]), max_size=6))
def test_hostile_text_in_any_company_is_only_text(parts):
    assert harmless(render("".join(parts)))


@given(st.text(max_size=200))
def test_any_text_is_only_text(text):
    assert harmless(render(text))


def test_html_in_an_answer_is_shown_as_it_was_written():
    for text in ("<b>bold</b> & <think>so</think>", "${alert(1)} {{value}}", "a < b > c"):
        assert Elements(render(text)).text.strip() == text


def test_markdown_keeps_its_structure():
    html = render("# T\n\n- *one*\n- **two**\n\n3. x\n\n```py\n1 < 2\n```\n\n|a|\n|-|\n|~~b~~|")
    tags = Elements(html).tags
    assert {"h1", "ul", "li", "em", "strong", "ol", "pre", "code", "table", "s"} <= set(tags)
    assert "1 &lt; 2" in html
    assert 'start="3"' in html


def test_line_ends_of_a_chat_are_kept():
    assert "br" in Elements(render("first\nsecond")).tags


def test_links_open_elsewhere_and_tell_nobody():
    html = render("[shop](https://shop.example/x)")
    assert 'href="https://shop.example/x"' in html
    assert 'rel="noopener noreferrer nofollow"' in html
    assert 'target="_blank"' in html
