"""The rating page: one comparison, one key per answer, nothing in the way.

The layout is static; ``rate.js`` fills it from the HTTP API, so that no text of a comparison ever
passes through a template.
"""

import gradio as gr

from labeling_ui.pages import header, script

# What a key does; the buttons and the help show it from here.
KEYS = (
    ("left", "1", "Response 1 is better"),
    ("right", "2", "Response 2 is better"),
    ("tie", "0", "Tie"),
    ("both_bad", "b", "Both bad"),
    ("skip", "s", "Skip"),
    ("undo", "u", "Undo"),
)
STRENGTHS = (("7", "Slightly"), ("8", "Clearly"), ("9", "Much"))
_MORE_KEYS = (
    ("t", "Tie, like 0"),
    ("7 8 9", "How much better: slightly, clearly, much"),
    ("r", "Write a reason (Esc leaves the box)"),
    ("x", "Exact text, without formatting"),
    ("?", "This help"),
)


def _answer(action: str, key: str, label: str) -> str:
    look = "rl-main" if action in ("left", "right") else "rl-side"
    return (
        f'<button type="button" class="{look} rl-{action}" data-do="{action}" data-key="{key}" '
        f'aria-keyshortcuts="{key}"><span>{label}</span><kbd>{key}</kbd></button>'
    )


def _response(side: str, number: int) -> str:
    return (
        f'<article class="rl-response" aria-labelledby="rl-{side}-title">'
        f'<h2 id="rl-{side}-title">Response {number}</h2>'
        f'<div class="rl-text" dir="auto" data-text="{side}"></div></article>'
    )


def _help() -> str:
    rows = [(key, label) for _, key, label in KEYS] + list(_MORE_KEYS)
    entries = "".join(f"<dt><kbd>{key}</kbd></dt><dd>{label}</dd>" for key, label in rows)
    return (
        '<dialog class="rl-help" aria-labelledby="rl-help-title">'
        f'<h2 id="rl-help-title">Keys</h2><dl>{entries}</dl>'
        '<button type="button" class="rl-side" data-do="close">Close</button></dialog>'
    )


def layout() -> str:
    """The page without any comparison in it."""
    buttons = {action: _answer(action, key, label) for action, key, label in KEYS}
    strengths = "".join(
        f'<button type="button" class="rl-chip" data-do="strength" data-strength="{number}" '
        f'data-key="{key}" aria-pressed="false" aria-keyshortcuts="{key}">{label}'
        f"<kbd>{key}</kbd></button>"
        for number, (key, label) in enumerate(STRENGTHS, start=1)
    )
    return f"""
<div class="rl-rate" data-state="loading">
  <div class="rl-status">
    <h1 data-campaign>Rating</h1>
    <select class="rl-pick" aria-label="Campaign" hidden></select>
    <div class="rl-progress" role="progressbar" aria-label="Your progress" aria-valuemin="0">
      <i></i></div>
    <span class="rl-count" data-count></span>
    <span class="rl-saved" data-saved></span>
    <button type="button" class="rl-quiet" data-do="exact" aria-pressed="false"
      aria-keyshortcuts="x">Exact text <kbd>x</kbd></button>
    <button type="button" class="rl-quiet" data-do="help" aria-keyshortcuts="?">Keys
      <kbd>?</kbd></button>
  </div>
  <p class="rl-notice" role="alert" hidden></p>
  <details class="rl-guidelines" hidden><summary>Guidelines</summary>
    <div class="rl-text" dir="auto"></div></details>
  <p class="rl-wait">Loading…</p>
  <div class="rl-done" hidden>
    <h2>All done</h2><p data-done></p>
    <button type="button" class="rl-side" data-do="again">Look for more</button>
    <button type="button" class="rl-side" data-do="undo">Undo the last answer <kbd>u</kbd></button>
  </div>
  <div class="rl-work" hidden>
    <section class="rl-talk" aria-label="Conversation"></section>
    <section class="rl-pair" aria-label="Responses">
      {_response("left", 1)}{_response("right", 2)}
    </section>
    <div class="rl-answers" role="group" aria-label="Your answer">
      <div class="rl-extra">
        <div class="rl-chips" role="group" aria-label="How much better, optional">
          <span class="rl-hint">How much better?</span>{strengths}</div>
        <textarea class="rl-reason" rows="1" maxlength="4000" aria-label="Reason, optional"
          placeholder="Why? (optional)"></textarea>
      </div>
      <div class="rl-keys">
        {buttons["left"]}{buttons["tie"]}{buttons["right"]}
      </div>
      <div class="rl-keys rl-minor">
        {buttons["both_bad"]}{buttons["skip"]}{buttons["undo"]}
      </div>
    </div>
  </div>
  <div class="rl-unseen" data-live role="status" aria-live="polite"></div>
  {_help()}
</div>"""


def page() -> gr.Blocks:
    """The page; it has no Gradio event, so there is nothing to call behind its back."""
    with gr.Blocks(title="Rate · rlhf label", analytics_enabled=False) as blocks:
        header("rate")
        gr.HTML(layout(), js_on_load=script("rate.js"), apply_default_css=False)
    return blocks
