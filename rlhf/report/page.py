"""The frame of a page: one file, nothing fetched, and text that can only ever be text."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, cast

from rlhf.records import Prompt
from rlhf.report.plots import DASH, number
from rlhf.report.records import Estimate

_HERE = Path(__file__).parent
_STYLE = (_HERE / "page.css").read_text(encoding="utf-8")
_SCRIPT = (_HERE / "page.js").read_text(encoding="utf-8")


def document(title: str, body: Iterable[str], *, reload_after: int | None = None) -> str:
    """A whole page. Its policy lets no request leave and no script but ours run.

    It loads itself again after so many seconds, while what it shows is still going on.
    """
    again = f'<meta http-equiv="refresh" content="{reload_after}">' if reload_after else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{again}'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"{''.join(body)}<script>{_SCRIPT}</script></body></html>\n"
    )


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )


def heading(title: str, lead: str) -> str:
    """The title and the line beneath it."""
    return f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'


def section(title: str, *content: str) -> str:
    """A titled part of the page; nothing if it would be empty."""
    inner = "".join(content)
    return f"<section><h2>{escape(title)}</h2>{inner}</section>" if inner else ""


def charts(figures: Iterable[str]) -> str:
    """Figures side by side, as many as fit; nothing without any."""
    inner = "".join(figures)
    return f'<div class="charts">{inner}</div>' if inner else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of HTML cells; the first cell of a row names it."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="card scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(data: Mapping[str, Any]) -> str:
    """Keys and values, nested keys joined by dots."""
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>'
        for key, value in _flat(data)
    )
    return f'<div class="card scroll"><table class="facts">{rows}</table></div>' if rows else ""


def estimate(value: Estimate | None, *, share: bool = False) -> str:
    """A number, or a share in percent, with its interval; a dash where there is none."""
    if value is None:
        return DASH
    if share:
        low, high = (f"{100 * bound:.1f}" for bound in (value.low, value.high))
    else:
        low, high = number(value.low), number(value.high)
    shown = percent(value.value) if share else number(value.value)
    return f'{shown} <span class="range-text">[{low}, {high}]</span>'


def conversation(prompt: Prompt) -> str:
    """The turns of a prompt."""
    named = len(prompt.messages) > 1
    return "".join(
        f'<div class="turn" dir="auto">{f"<b>{m.role.capitalize()}</b>" if named else ""}'
        f"{escape(m.content)}</div>"
        for m in prompt.messages
    )


def percent(value: float) -> str:
    """A share of 1, in percent."""
    return f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{name}.")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(str, cast("Sequence[object]", value)))
        else:
            yield name, DASH if value is None else str(value)
