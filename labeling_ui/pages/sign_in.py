"""The sign-in page: plain HTML, because whoever sees it may see nothing else yet."""

import json
from html import escape

from labeling_ui.pages import STYLE, script
from labeling_ui.words import Words, languages


def _plain(words: Words, title: str, body: str, code: str = "") -> str:
    return f"""<!doctype html>
<html lang="{words.language}" dir="{words.direction}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · rlhf label</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body class="rl-plain">
<main class="rl-door">
{body}
</main>
{code}
</body>
</html>
"""


def page(words: Words) -> str:
    """The whole page."""
    menu = "".join(
        f'<option value="{code}" lang="{code}"{" selected" * (code == words.language)}>'
        f"{escape(one.name)}</option>"
        for code, one in languages().items()
    )
    texts = {key: words(key) for key in ("wrong_password", "server_silent")}
    texts["too_many_tries"] = words.texts["too_many_tries"]
    body = f"""<form class="rl-card" novalidate data-texts="{escape(json.dumps(texts))}">
    <p class="rl-brand" dir="ltr">rlhf <b>label</b></p>
    <h1>{words("sign_in")}</h1>
    <label for="name">{words("name")}</label>
    <input id="name" name="name" autocomplete="username" autocapitalize="none" dir="auto"
      autofocus required>
    <label for="password">{words("password")}</label>
    <input id="password" name="password" type="password" autocomplete="current-password" required>
    <p class="rl-problem" role="alert" dir="auto"></p>
    <button type="submit" class="rl-main">{words("sign_in")}</button>
    <select class="rl-language" aria-label="{words("language")}">{menu}</select>
  </form>"""
    return _plain(words, words("sign_in"), body, f"<script>{script('sign_in.js')}</script>")


def refused(words: Words) -> str:
    """What somebody sees who may not open a page."""
    body = f"""<div class="rl-card">
    <p class="rl-brand" dir="ltr">rlhf <b>label</b></p>
    <h1>{words("not_for_you")}</h1>
    <p><a href="/rate/">{words("go_to_rating")}</a></p>
  </div>"""
    return _plain(words, words("not_for_you"), body)
