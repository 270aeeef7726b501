"""The page of one's own account, and for admins of invitations and of what was done."""

from labeling_ui.accounts.users import ROLES, Account
from labeling_ui.locales import Words
from labeling_ui.pages.plain import brand, field, language_menu, plain

_SAID = (
    *("server_silent", "too_many_tries", "password_changed", "none_yet", "copy_now"),
    *("token_of", "revoke", "invitation_of", "withdraw", *ROLES),
)


def page(words: Words, account: Account) -> str:
    """The whole page of ``account``."""
    sections = _password(words) + _tokens(words, account)
    if account.has_role("admin"):
        sections += _invitations(words) + _log(words)
    body = f"""<header class="rl-top">{brand()}<nav aria-label="{words("pages")}">
  <a href="/">{words("rate")}</a><a href="/compare/">{words("compare")}</a>
  </nav><span class="rl-grow"></span>{language_menu(words)}
  <button type="button" class="rl-quiet" data-out>{words("sign_out")}</button></header>
<main class="rl-cards rl-account" id="rl-content"><h1>{words("account")}</h1>{sections}</main>"""
    return plain(words, words("account"), body, "account.js", _SAID)


def _password(words: Words) -> str:
    return f"""<form class="rl-card" data-part="password" novalidate>
  <h2>{words("change_password")}</h2>
  {field(words, "old_password", "password", "current-password")}
  {field(words, "new_password", "password", "new-password")}
  <p class="rl-problem" role="status" dir="auto"></p>
  <button type="submit" class="rl-main">{words("change_password")}</button></form>"""


def _tokens(words: Words, account: Account) -> str:
    api = '<p><a href="/api/docs" lang="en" dir="ltr">HTTP API</a></p>' * account.has_role("rater")
    return f"""<form class="rl-card" data-part="tokens" novalidate>
  <h2>{words("tokens")}</h2>{api}<ul data-list></ul>
  <p class="rl-problem" role="status" dir="auto"></p><output class="rl-once" dir="ltr"></output>
  <button type="submit" class="rl-main">{words("make_token")}</button></form>"""


def _invitations(words: Words) -> str:
    roles = "".join(
        f'<option value="{role}"{" selected" * (role == "rater")}>{words(role)}</option>'
        for role in ROLES
    )
    return f"""<form class="rl-card" data-part="invitations" novalidate>
  <h2>{words("invitations")}</h2><ul data-list></ul>
  <div class="rl-fields">
    <div><label for="role">{words("role")}</label><select id="role" name="role">{roles}</select>
    </div><div><label for="uses">{words("uses")}</label>
    <input id="uses" name="uses" type="number" min="1" max="1000" value="1"></div>
    <div><label for="days">{words("days")}</label>
    <input id="days" name="days" type="number" min="1" max="90" value="7"></div></div>
  <p class="rl-problem" role="status" dir="auto"></p><output class="rl-once" dir="ltr"></output>
  <button type="submit" class="rl-main">{words("make_invitation")}</button></form>"""


def _log(words: Words) -> str:
    return f"""<section class="rl-card" data-part="log"><h2>{words("log")}</h2>
  <ol class="rl-log" tabindex="0" lang="en" dir="ltr"></ol></section>"""
