import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling_ui.text.latex import ATTRIBUTES, MAX_FORMULA, TAGS
from labeling_ui.text.markdown import MAX_RENDERED, render
from tests.hostile import MARKUP as HOSTILE

ALLOWED = {
    *("p", "br", "hr", "blockquote", "pre", "code", "em", "strong", "s", "a", "ol", "ul", "li"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}


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
        set(seen.tags) <= ALLOWED | TAGS
        and {name for name, _ in seen.attributes} <= {"href", "rel", "target", "start"} | ATTRIBUTES
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
    for text in (
        "<b>bold</b> & <think>so</think>",
        "${alert(1)} {{value}}",
        "a < b > c",
        "$5 or 6$",
    ):
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


# Formulas.


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"\(x^2\)", "<msup><mi>x</mi><mn>2</mn></msup>"),
        (r"so $$\frac{a}{b}$$ is", "<mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow></mfrac>"),
        ("\\[\n\\sqrt x\n\n- 1 = 0\n\\]", "<msqrt><mi>x</mi></msqrt>"),
        (r"\(\mathbb R \le \sum_i\)", "<mo>≤</mo>"),
        ("- $$a < b$$\n- c", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
        (r"\(\text{<b>no</b> & yes}\)", "<mtext>&lt;b&gt;no&lt;/b&gt;"),
    ],
)
def test_latex_between_its_marks_becomes_mathml(text, inside):
    html = render(text)
    assert inside in html
    assert html.count("<math ") == 1
    assert harmless(html)


def test_a_formula_of_its_own_line_stands_apart_and_one_in_a_line_does_not():
    assert 'display="block"' in render("$$x$$")
    assert 'display="inline"' in render(r"a \(x\) b")


@pytest.mark.parametrize(
    "text",
    [
        "it costs $5, not 6$",
        r"$$\frac{1$$",
        r"\(x^\)",
        r"\[\undefined{x}\]",
        r"$$\frac{1}$$",
        r"\(a}{b\)",
        r"$$\begin{matrix}a$$",
        r"$$\end{matrix}\begin{matrix}$$",
        r"\(a^b^c\)",
        r"$$\href{javascript:alert(1)}{x}$$",
        r"$$\style{position:fixed}{x}$$",
        r"$$\class{rl-main}{x}$$",
        r"$$\def\a{\a}\a$$",
        r"$$\newcommand{\a}{xx}\a$$",
        "$$100% sure$$",
        r"\(&#60;\)",
        "$$" + "x" * (MAX_FORMULA + 1) + "$$",
        "$$" + "{" * 900 + "}" * 900 + "$$",
        r"\(" + r"\sqrt" * 300 + r"\)",
        "$$ $$",
    ],
)
def test_latex_that_is_wrong_or_too_much_shows_as_it_was_written(text):
    seen = Elements(render(text))
    assert seen.text.strip() == text
    assert "math" not in seen.tags


def test_code_shows_latex_as_code():
    assert "<code>$$x$$</code>" in render("`$$x$$`")
    assert Elements(render("```tex\n\\[x\\]\n```")).text.strip() == r"\[x\]"


def test_a_formula_cannot_leave_its_place():
    html = render(r"\(a \hspace{-900em} \hspace{1em} \color{red}{b} \rule{400em}{400em}\)")
    assert "900" not in html
    assert "400" not in html
    assert "red" not in html
    assert 'width="1em"' in html


def test_text_beyond_the_limit_shows_as_it_was_written():
    text = "*x* <b>\n" * (MAX_RENDERED // 8 + 1)
    assert Elements(render(text)).text == text + "\n"


LATEX = (
    r"\frac \sqrt { } x ^ _ \left( \right) \begin{matrix} \end{matrix} & \\ \text{<b>} \over $ < 1 "
    r"\limits \hat \mathbb ' \sum \operatorname \substack \middle| \genfrac \root \phantom{x} \not "
    r"\tag{1} \verb|<| &lt; \mbox{</math><script>} \rule{9em}{1em} \href{x}{y} \( \) $$ \[ \]"
)
latex = st.sampled_from(LATEX.split())


@given(st.lists(latex, max_size=40))
def test_any_latex_is_a_sound_formula_or_text(parts):
    html = render("$$" + " ".join(parts) + "$$")
    assert harmless(html)


@pytest.mark.parametrize(
    "part", ["[", "*a ", "`a``", "> ", "[a](", "$$", r"\(", "![a", "**_", r"\(x\) ", "~~a", "<!--"]
)
def test_no_text_keeps_the_server_busy(part):
    text = (part * MAX_RENDERED)[:MAX_RENDERED]
    start = time.process_time()
    render(text)
    assert time.process_time() - start < 5  # half a second here; quadratic would be minutes
