"""The arena on the compare page: a prompt, two answers without names, a vote, the names.

The layout is static; ``battle.js`` fills it from the HTTP API.
"""

import json
from html import escape

from labeling_ui.arena.policies import MAX_PROMPT
from labeling_ui.pages import label, say
from labeling_ui.pages.rate import Layout

VOTES = ("left", "right", "tie", "both_bad", "skip")


class Battle(Layout):
    """The arena without any battle in it, with the keys of ``keymap`` on its buttons."""

    def html(self) -> str:
        """The two ways to compare, and the arena."""
        keys = {action: self._keymap[action] for action in VOTES}
        votes = {action: self._answer(action) for action in VOTES}
        return f"""
<div class="rl-rate rl-battle" data-state="loading" data-mode="battle"
  data-keys="{escape(json.dumps(keys))}">
  <nav class="rl-modes" {label("ways_to_compare")}>
    <a href="#battle" aria-current="true">{say.html("battle")}</a>
    <a href="#chosen">{say.html("chosen_policies")}</a></nav>
  <div class="rl-arena">
    <p class="rl-hint" data-t="battle_hint">{say("battle_hint")}</p>
    <p class="rl-notice" role="alert" dir="auto" hidden></p>
    <div class="rl-talk" role="region" {label("conversation")} hidden></div>
    <form class="rl-ask" hidden>
      <label for="rl-ask">{say.html("ask_label")}</label>
      <textarea id="rl-ask" class="rl-reason" rows="3" maxlength="{MAX_PROMPT}" dir="auto"
        enterkeyhint="send" data-t-placeholder="ask_hint"
        placeholder="{say("ask_hint")}"></textarea>
      <div class="rl-do"><button class="rl-main">{say.html("let_answer")}<kbd>↵</kbd></button>
        <button type="button" class="rl-side" data-do="next" hidden>{say.html("new_talk")}</button>
      </div>
    </form>
    <section class="rl-work" tabindex="-1" {label("battle")} hidden>
      <div class="rl-pair">{_paper("left", 1)}{_paper("right", 2)}</div>
      <div class="rl-answers" role="group" {label("your_answer")}>
        <p class="rl-told" data-told></p>
        <div data-votes>
          <div class="rl-keys">{votes["left"]}{votes["tie"]}{votes["right"]}</div>
          <div class="rl-keys rl-minor">{votes["both_bad"]}{votes["skip"]}</div>
        </div>
        <div class="rl-keys rl-minor" data-after hidden>
          <button type="button" class="rl-main" data-do="next">{say.html("next_prompt")}</button>
          <button type="button" class="rl-side" data-do="continue"
            hidden>{say.html("go_on")}</button>
        </div>
      </div>
    </section>
    <div class="rl-unseen" data-live role="status" aria-live="polite"></div>
  </div>
</div>"""


def _paper(side: str, number: int) -> str:
    return (
        f'<article class="rl-response" aria-labelledby="rl-{side}-title">'
        f'<h2 id="rl-{side}-title"><span data-number="{number}">'
        f'{say("response_n", number=number)}</span><b class="rl-name" dir="auto" hidden></b></h2>'
        f'<div class="rl-text" data-text="{side}" dir="auto"></div></article>'
    )
