"""The rating page: one task, one key per answer, nothing in the way.

The layout is static; ``rate.js`` fills it from the HTTP API, so that no text of a comparison ever
passes through a template.
"""

import json
from html import escape

import gradio as gr

from labeling_ui.campaigns.service import FLAGS
from labeling_ui.pages import header, label, say, script
from labeling_ui.pages.keymap import OWN, Keymap, of_kind

ANSWERS = ("left", "right", "tie", "both_bad", "skip")
STRENGTHS = ("strength_1", "strength_2", "strength_3")


class Layout:
    """The page without any comparison in it, with the keys of ``keymap`` on its buttons."""

    def __init__(self, keymap: Keymap) -> None:
        self._keymap = keymap

    def _key(self, action: str) -> str:
        return f"<kbd>{escape(self._keymap[action][0])}</kbd>"

    def _shortcut(self, action: str) -> str:
        return f'aria-keyshortcuts="{escape(" ".join(self._keymap[action]))}"'

    def _answer(self, action: str) -> str:
        look = "rl-main" if action in ("left", "right") else "rl-side"
        return (
            f'<button type="button" class="{look} rl-{action}" data-do="{action}" '
            f"{self._shortcut(action)}>{say.html(action)}{self._key(action)}</button>"
        )

    def _chip(self, number: int, action: str) -> str:
        return (
            f'<button type="button" class="rl-chip" data-do="{action}" data-strength="{number}" '
            f'aria-pressed="false" {self._shortcut(action)}>'
            f"{say.html(action)}{self._key(action)}</button>"
        )

    def _help(self) -> str:
        named = {
            **{action: action for action in (*ANSWERS, "undo")},
            **dict.fromkeys(("reason", "guidelines", "exact", "flag", "history", "help"), ""),
        }
        rows = [(a, self._keymap[a], say.html(key or f"help_{a}")) for a, key in named.items()]
        words = " · ".join(say.html(action) for action in STRENGTHS)
        keys = tuple(key for action in STRENGTHS for key in self._keymap[action])
        rows.insert(len(ANSWERS) + 1, (STRENGTHS[0], keys, f"{say.html('how_much')} {words}"))
        entries = "".join(_entry(action, keys, text) for action, keys, text in rows)
        return (
            '<dialog class="rl-dialog rl-help" aria-labelledby="rl-help-title">'
            f'<h2 id="rl-help-title">{say.html("keys")}</h2><dl>{entries}</dl>'
            f'<button type="button" class="rl-side" data-do="close">{say.html("close")}</button>'
            "</dialog>"
        )

    def html(self) -> str:
        """The whole page below the bar."""
        keys = {kind: of_kind(self._keymap, kind) for kind in OWN}
        answers = {action: self._answer(action) for action in (*ANSWERS, "undo")}
        chips = "".join(self._chip(number, a) for number, a in enumerate(STRENGTHS, start=1))
        return f"""
<div class="rl-rate" id="rl-content" data-state="loading" data-keys="{escape(json.dumps(keys))}">
  <div class="rl-status">
    <h1 data-campaign dir="auto">{say.html("rating")}</h1>
    <select class="rl-pick" {label("campaign")} hidden></select>
    <div class="rl-progress" role="progressbar" {label("progress")} aria-valuemin="0">
      <i></i></div>
    <span class="rl-count" data-count></span>
    <span class="rl-saved" data-saved></span>
    <button type="button" class="rl-quiet" data-do="exact" aria-pressed="false"
      {self._shortcut("exact")}>{say.html("exact_text")} {self._key("exact")}</button>
    <button type="button" class="rl-quiet" data-do="help"
      {self._shortcut("help")}>{say.html("keys")} {self._key("help")}</button>
  </div>
  <p class="rl-notice" role="alert" dir="auto" hidden></p>
  <details class="rl-guidelines" hidden><summary {self._shortcut("guidelines")}>
    {say.html("guidelines")}</summary><div class="rl-text" dir="auto"></div></details>
  <p class="rl-wait" data-t="loading">{say("loading")}</p>
  <div class="rl-done" hidden>
    <h2>{say.html("all_done")}</h2><p data-done></p>
    <button type="button" class="rl-side" data-do="again">{say.html("look_for_more")}</button>
    <button type="button" class="rl-side" data-do="undo">{say.html("undo_last")}
      {self._key("undo")}</button>
  </div>
  <div class="rl-work" hidden>
    <section class="rl-talk" {label("conversation")}></section>
    <section class="rl-pair" {label("responses")}></section>
    <details class="rl-heard" hidden><summary data-t="raters_said">{say("raters_said")}</summary>
      <ul class="rl-past"></ul></details>
    <section class="rl-answers" {label("your_answer")}>
      <div class="rl-extra">
        <div class="rl-chips rl-strengths" role="group" {label("how_much_optional")}>
          <span class="rl-hint" data-t="how_much">{say("how_much")}</span>{chips}</div>
        <textarea class="rl-reason" rows="1" maxlength="4000" dir="auto" {label("reason_label")}
          {self._shortcut("reason")} data-t-placeholder="reason_hint"
          placeholder="{say("reason_hint")}"></textarea>
      </div>
      <div class="rl-own"></div>
      <div class="rl-keys" data-pair>{answers["left"]}{answers["tie"]}{answers["right"]}</div>
      <div class="rl-keys rl-minor">{answers["both_bad"]}{answers["skip"]}{answers["undo"]}
        {self._quiet("flag")}{self._quiet("history")}</div>
    </section>
  </div>
  <div class="rl-unseen" data-live role="status" aria-live="polite"></div>
  {self._help()}{self._flags()}
  <dialog class="rl-dialog rl-history" aria-labelledby="rl-history-title">
    <h2 id="rl-history-title">{say.html("history")}</h2><ul class="rl-past"></ul>
    <button type="button" class="rl-side" data-do="close">{say.html("close")}</button></dialog>
</div>"""

    def _quiet(self, action: str) -> str:
        return (
            f'<button type="button" class="rl-quiet" data-do="{action}" {self._shortcut(action)}>'
            f"{say.html(action)} {self._key(action)}</button>"
        )

    def _flags(self) -> str:
        kinds = "".join(
            f'<button type="button" class="rl-side" data-do="flag_{kind}">'
            f"{say.html(f'flag_{kind}')}</button>"
            for kind in FLAGS
        )
        return (
            '<dialog class="rl-dialog rl-flags" aria-labelledby="rl-flag-title">'
            f'<h2 id="rl-flag-title">{say.html("flag_title")}</h2><div class="rl-stack">{kinds}'
            f'<button type="button" class="rl-quiet" data-do="close">{say.html("close")}</button>'
            "</div></dialog>"
        )


def _entry(action: str, keys: tuple[str, ...], text: str) -> str:
    shown = " ".join(f"<kbd>{escape(key)}</kbd>" for key in keys)
    only = " data-pair" if action in OWN["pairwise"] else ""
    return f"<dt{only}>{shown}</dt><dd{only}>{text}</dd>"


def page(keymap: Keymap) -> gr.Blocks:
    """The page; it has no Gradio event, so there is nothing to call behind its back."""
    with gr.Blocks(title="Rate · rlhf label", analytics_enabled=False) as blocks:
        header("rate")
        gr.HTML(
            Layout(keymap).html(),
            js_on_load=script("calls.js") + script("kinds.js") + script("rate.js"),
            apply_default_css=False,
        )
    return blocks
