"""The sign-in page, the page for those who were invited, and the one for those who may not."""

from labeling_ui.locales import Words
from labeling_ui.pages.plain import brand, field, language_menu, plain

_SAID = ("wrong_password", "too_many_tries", "server_silent")


def page(words: Words) -> str:
    """Name and password of somebody who has an account."""
    body = f"""<main class="rl-door"><form class="rl-card" novalidate>
    {brand()}
    <h1>{words("sign_in")}</h1>
    {field(words, "name", "text", "username").replace(" required", " autofocus required")}
    {field(words, "password", "password", "current-password")}
    <p class="rl-problem" role="alert" dir="auto"></p>
    <button type="submit" class="rl-main">{words("sign_in")}</button>
    {language_menu(words)}
  </form></main>"""
    return plain(words, words("sign_in"), body, "sign_in.js", _SAID)


def join(words: Words) -> str:
    """Name and password of somebody who was invited; the code is in the link."""
    body = f"""<main class="rl-door"><form class="rl-card" novalidate>
    {brand()}
    <h1>{words("join_title")}</h1>
    <p>{words("join_hint")}</p>
    {field(words, "name", "text", "username")}
    {field(words, "password", "password", "new-password")}
    <p class="rl-problem" role="alert" dir="auto"></p>
    <button type="submit" class="rl-main">{words("join")}</button>
    {language_menu(words)}
  </form></main>"""
    said = ("too_many_tries", "server_silent", "no_code")
    return plain(words, words("join_title"), body, "join.js", said)


def refused(words: Words) -> str:
    """What somebody sees who may not open a page."""
    body = f"""<main class="rl-door"><div class="rl-card">
    {brand()}
    <h1>{words("not_for_you")}</h1>
    <p><a href="/">{words("go_to_rating")}</a></p>
  </div></main>"""
    return plain(words, words("not_for_you"), body)
