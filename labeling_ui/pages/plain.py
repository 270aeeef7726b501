"""Pages of plain HTML, written by the server in the reader's language."""

import json
from collections.abc import Iterable
from html import escape

from labeling_ui.locales import Words, languages
from labeling_ui.pages import STYLE, script


def plain(words: Words, title: str, body: str, code: str = "", texts: Iterable[str] = ()) -> str:
    """A whole page; its script ``code`` can say ``texts``."""
    said = json.dumps({key: words.texts[key] for key in texts}, ensure_ascii=False)
    scripts = f"<script>{script('plain.js')}\n{script(code)}</script>" if code else ""
    return f"""<!doctype html>
<html lang="{words.language}" dir="{words.direction}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · rlhf label</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body class="rl-plain" data-texts="{escape(said)}">
{body}
{scripts}
</body>
</html>
"""


def brand() -> str:
    """The name of the app."""
    return '<p class="rl-brand" dir="ltr">rlhf <b>label</b></p>'


def language_menu(words: Words) -> str:
    """Where a reader chooses another language."""
    options = "".join(
        f'<option value="{code}" lang="{code}"{" selected" * (code == words.language)}>'
        f"{escape(one.name)}</option>"
        for code, one in languages().items()
    )
    return f'<select class="rl-language" aria-label="{words("language")}">{options}</select>'


def field(words: Words, name: str, kind: str, complete: str) -> str:
    """A label with its field; ``name`` is both."""
    return (
        f'<label for="{name}">{words(name)}</label><input id="{name}" name="{name}" type="{kind}" '
        f'autocomplete="{complete}" autocapitalize="none" dir="auto" required>'
    )
