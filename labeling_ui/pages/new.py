"""Where an admin makes a campaign: from a file, or from prompts that policies answer."""

from collections.abc import Mapping, Sequence
from html import escape

from labeling_ui.locales import Words
from labeling_ui.pages.plain import brand, language_menu, plain

_SAID = (
    *("server_silent", "too_many_tries", "line_unreadable", "file_first", "file_too_big"),
    *("campaign_made", "campaign_going", "campaign_stopped"),
)

_KINDS = {
    "pairwise": "task_kind_pairwise",
    "ranking": "task_kind_ranking",
    "rating": "task_kind_rating",
    "thumbs": "task_kind_thumbs",
    "rewrite": "task_kind_rewrite",
}
_SKIPS = {"others": "skips_others", "later": "skips_later", "drop": "skips_drop"}


def page(words: Words, policies: Sequence[str]) -> str:
    """The whole page on a server with these policies."""
    body = f"""<header class="rl-top">{brand()}<nav aria-label="{words("pages")}">
  <a href="/rate/">{words("rate")}</a><a href="/compare/">{words("compare")}</a>
  <a href="/admin/">{words("admin")}</a></nav><span class="rl-grow"></span>{language_menu(words)}
</header>
<main class="rl-cards rl-account rl-new" id="rl-content"><h1>{words("new_campaign")}</h1>
<form class="rl-card" data-part="new" novalidate>
  {_field(words, "campaign_name", '<input id="campaign_name" maxlength="80" required dir="auto">')}
  {
        _field(
            words,
            "guidelines",
            '<textarea id="guidelines" rows="4" maxlength="20000" dir="auto"></textarea>',
        )
    }
  <div class="rl-fields">{_field(words, "task_kind", _menu(words, "task_kind", _KINDS))}
  {_field(words, "overlap", '<input id="overlap" type="number" min="1" max="100" value="1">')}
  {_field(words, "skips", _menu(words, "skips", _SKIPS))}</div>
  {_field(words, "aspects", '<input id="aspects" dir="auto" placeholder="helpful, honest">')}
  <p><label class="rl-check"><input type="checkbox" id="ties" checked> {words("ties")}</label></p>
  <fieldset><legend>{words("tasks_from")}</legend>{_sources(words, policies)}</fieldset>
  <p class="rl-problem" role="status" dir="auto"></p>
  <button type="submit" class="rl-main">{words("make_campaign")}</button></form></main>"""
    return plain(words, words("new_campaign"), body, "new.js", _SAID)


def _sources(words: Words, policies: Sequence[str]) -> str:
    file = f"""<label class="rl-check"><input type="radio" name="source" value="file" checked>
  {words("from_file")}</label>
  <div data-source="file"><input id="file" type="file" accept=".jsonl,.json"
    aria-label="{words("from_file")}"><p class="rl-hint">{words("file_help")}</p></div>"""
    if not policies:
        return (
            f"{file}<p class='rl-hint'>{words('no_policies')} <code>--policies RUN RUN</code></p>"
        )
    boxes = "".join(
        f'<label class="rl-check"><input type="checkbox" name="policy" value="{number}" checked> '
        f"<bdi>{escape(name)}</bdi></label>"
        for number, name in enumerate(policies)
    )
    return f"""{file}<label class="rl-check"><input type="radio" name="source" value="prompts">
  {words("from_prompts")}</label>
  <div data-source="prompts" hidden>{boxes}
  {_field(words, "prompts", '<textarea id="prompts" rows="6" dir="auto"></textarea>')}</div>"""


def _field(words: Words, name: str, control: str) -> str:
    return f'<div><label for="{name}">{words(name)}</label>{control}</div>'


def _menu(words: Words, name: str, values: Mapping[str, str]) -> str:
    """A choice; the first is the usual one."""
    options = "".join(f'<option value="{v}">{words(key)}</option>' for v, key in values.items())
    return f'<select id="{name}">{options}</select>'
