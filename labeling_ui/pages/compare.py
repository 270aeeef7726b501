"""The compare page: blind battles, and two chosen policies that answer a prompt side by side.

A battle tells who answered once the vote is cast; see ``battle.py``. Chosen policies have their
names for admins only; ``chosen.js`` fills in what they answer.
"""

import gradio as gr

from labeling_ui.arena.policies import MAX_PROMPT
from labeling_ui.pages import header, say, script
from labeling_ui.pages.battle import Battle
from labeling_ui.pages.keymap import Keymap

_HOW = "<code>--policies RUN RUN</code>"


def page(num_policies: int, keymap: Keymap) -> gr.Blocks:
    """The page for so many policies."""
    with gr.Blocks(title="Compare · rlhf label", analytics_enabled=False) as blocks:
        header("compare")
        with gr.Column(elem_classes="rl-compare", elem_id="rl-content"):
            title = f"<h1>{say.html('compare_title')}</h1>"
            if num_policies > 1:
                gr.HTML(
                    title + Battle(keymap).html(),
                    js_on_load=script("calls.js") + script("battle.js"),
                    apply_default_css=False,
                )
                title = ""
            if num_policies:
                gr.HTML(
                    title + _chosen(),
                    js_on_load=script("calls.js") + script("chosen.js"),
                    apply_default_css=False,
                )
            else:
                none = f'<p class="rl-wait">{say.html("no_policies")} {_HOW}</p>'
                gr.HTML(title + none, js_on_load=script("fill.js"), apply_default_css=False)
    return blocks


def _chosen() -> str:
    return f"""
<div class="rl-rate rl-chosen">
  <p class="rl-notice" role="alert" dir="auto" hidden></p>
  <form class="rl-ask">
    <label for="rl-prompt">{say.html("prompt")}</label>
    <textarea id="rl-prompt" class="rl-reason" rows="3" maxlength="{MAX_PROMPT}" dir="auto"
      enterkeyhint="send" data-t-placeholder="prompt_hint"
      placeholder="{say("prompt_hint")}"></textarea>
    <div class="rl-do"><button class="rl-main">{say.html("answer")}<kbd>↵</kbd></button></div>
  </form>
  <div class="rl-pair">{_paper("left_policy")}{_paper("right_policy")}</div>
  <div class="rl-unseen" data-live role="status" aria-live="polite"></div>
</div>"""


def _paper(name: str) -> str:
    return (
        '<article class="rl-response">'
        f'<label>{say.html(name)} <select class="rl-pick"></select></label>'
        '<div class="rl-text" dir="auto"></div></article>'
    )
