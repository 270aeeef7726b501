r"""LaTeX between ``$$ $$``, ``\( \)`` and ``\[ \]`` to MathML that can only ever be a formula.

A single ``$`` is a price. What the parser does not know, or what would hide a part of the text,
shows as it was written.
"""

import re
from html import escape
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

MAX_FORMULA = 2000
MAX_FORMULAS = 20_000
"""LaTeX of one text that is converted, in characters (about half a second); the rest is not."""

_CLOSING = {"$$": "$$", r"\(": r"\)", r"\[": r"\]"}

# How many children each element needs; a browser shows a formula with others as an error.
_ARITY = {
    **dict.fromkeys(("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mstyle", "mpadded")),
    **dict.fromkeys(("msqrt", "mtable", "mtr", "mtd")),
    **dict.fromkeys(("mfrac", "mroot", "msub", "msup", "munder", "mover"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}
TAGS = frozenset(_ARITY)

# No colours, links, classes or styles. Lengths are short, so that nothing leaves its place.
_KEPT = (
    "accent columnalign columnlines depth display displaystyle fence form height linethickness "
    "lspace mathvariant maxsize minsize rspace scriptlevel stretchy voffset width"
)
ATTRIBUTES = frozenset(_KEPT.split())
_VALUE = re.compile(r"[a-z ]+|[+-]?(\d|[12]?\.\d+)(em)?")

_SYMBOL = re.compile(r"&#x([0-9A-Fa-f]{2,6});")
# A comment or a macro would hide text; the parser writes entities, so the source may not.
_NOT_OURS = re.compile(r"(?<!\\)%|&#|\\(def|newcommand|href|style|class)(?![a-zA-Z])")
_BRACE = re.compile(r"\\.|([{}])", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([a-zA-Z]+\*?)\}")


def to_mathml(latex: str, *, block: bool) -> str | None:
    """``latex`` as a ``<math>`` element, or None if it should show as it was written."""
    if len(latex) > MAX_FORMULA or _NOT_OURS.search(latex) or not _balanced(latex):
        return None
    try:
        return _markup(convert_to_element(latex, display="block" if block else "inline"))
    except Exception:  # noqa: BLE001 - whatever this parser fails with, the text is still there
        return None


def _balanced(latex: str) -> bool:
    depth = 0
    for brace in _BRACE.findall(latex):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    opened: list[str] = []
    for word, name in _ENVIRONMENT.findall(latex):
        if word == "begin":
            opened.append(name)
        elif not opened or opened.pop() != name:
            return False
    return depth == 0 and not opened


def _markup(element: Element, levels: int = 60) -> str:
    """Only what a browser can show; ValueError for the rest."""
    tag, children = element.tag, list(element)
    unknown = tag != "mtext" and not children and (element.text or "").startswith("\\")
    if unknown or not levels or _ARITY.get(tag, -1) not in (None, len(children)):
        raise ValueError(tag)
    attributes = "".join(
        f' {name}="{value}"'
        for name, value in element.attrib.items()
        if name in ATTRIBUTES and _VALUE.fullmatch(value)
    )
    text = _SYMBOL.sub(lambda symbol: chr(int(symbol[1], 16)), element.text or "")
    inner = "".join(_markup(child, levels - 1) for child in children)
    return f"<{tag}{attributes}>{escape(text)}{inner}</{tag}>"


def formulas(markdown: MarkdownIt) -> None:
    """Teach ``markdown`` formulas, in a line and on lines of their own."""
    markdown.inline.ruler.before("escape", "formula", _in_line)
    markdown.block.ruler.before("fence", "formula", _on_lines, {"alt": ["paragraph"]})


def _in_line(state: StateInline, silent: bool) -> bool:
    opening = state.src[state.pos : state.pos + 2]
    if opening not in _CLOSING:
        return False
    start = state.pos + 2
    end = state.src.find(_CLOSING[opening], start, start + MAX_FORMULA + 2)
    if end < 0:
        return False
    if not silent:
        html = _convert(state, state.src[start:end], opening)
        token = state.push("html_inline" if html else "text", "", 0)
        token.content = html or state.src[state.pos : end + 2]
    state.pos = end + 2
    return True


def _on_lines(state: StateBlock, line: int, end_line: int, silent: bool) -> bool:
    """A formula that begins and ends a line, whatever Markdown would make of what is between."""
    begin = state.bMarks[line] + state.tShift[line]
    opening = state.src[begin : begin + 2]
    if opening not in ("$$", r"\[") or state.is_code_block(line):
        return False
    end = state.src.find(_CLOSING[opening], begin + 2, begin + MAX_FORMULA + 4)
    last = next((n for n in range(line, end_line) if end + 2 <= state.eMarks[n]), None)
    if end < 0 or last is None or state.src[end + 2 : state.eMarks[last]].strip():
        return False
    html = _convert(state, state.src[begin + 2 : end], opening)
    if html is None:
        return False
    if not silent:
        state.push("html_block", "", 0).content = f"<p>{html}</p>\n"
        state.line = last + 1
    return True


def _convert(state: StateInline | StateBlock, latex: str, opening: str) -> str | None:
    """The formula, while the text has not used up its share."""
    done: dict[tuple[str, str], str | None] = state.env.setdefault("formulas", {})
    if (latex, opening) not in done:
        spent = state.env["spent"] = state.env.get("spent", 0) + len(latex)
        within = spent <= MAX_FORMULAS
        done[latex, opening] = to_mathml(latex, block=opening != r"\(") if within else None
    return done[latex, opening]
