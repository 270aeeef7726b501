"""The compare page: blind battles, and two chosen policies that answer a prompt side by side.

Of chosen policies the names go to admins only: a rater who could ask a named policy whatever helps
to recognise it would do so in blind comparisons, so raters see numbers. A battle tells who answered
once the vote is cast; see ``battle.py``.
"""

from collections.abc import Iterator

import gradio as gr

from labeling_ui.accounts import Accounts
from labeling_ui.callers import signed_in
from labeling_ui.keymap import Keymap
from labeling_ui.live import MAX_PROMPT, Live
from labeling_ui.pages import header, say, script
from labeling_ui.pages.battle import Battle
from labeling_ui.render import render
from labeling_ui.words import words_of
from rlhf.errors import RLHFError
from rlhf.records import Message

_HOW = "<code>--policies RUN RUN</code>"


class Answers:
    """The handlers of the page; nothing is loaded before the first prompt."""

    def __init__(self, live: Live, accounts: Accounts) -> None:
        self._live, self._accounts = live, accounts

    def _sees_names(self, request: gr.Request) -> bool:
        account = signed_in(self._accounts, request.cookies)
        if account is None:
            raise gr.Error("sign in first", print_exception=False)
        return account.may("admin")

    def choices(self, request: gr.Request) -> tuple[gr.Component, ...]:
        """What the two menus offer to this person, and the words around them."""
        named, words = self._sees_names(request), words_of(request)
        options = [
            (run.name if named else words("policy", number=index + 1), index)
            for index, run in enumerate(self._live.runs)
        ]
        last = min(1, len(options) - 1)
        return (
            gr.Dropdown(options, value=0, label=words("left_policy")),
            gr.Dropdown(options, value=last, label=words("right_policy")),
            gr.Textbox(label=words("prompt"), placeholder=words("prompt_hint")),
            gr.Button(words("answer")),
        )

    def answer(
        self, prompt: str, first: int | None, second: int | None, request: gr.Request
    ) -> Iterator[tuple[str, str]]:
        """Both answers as they grow."""
        named = self._sees_names(request)
        if not 0 < len(prompt.strip()) <= MAX_PROMPT:
            raise gr.Error(
                words_of(request)("prompt_length", most=MAX_PROMPT), print_exception=False
            )
        messages = (Message("user", prompt),)
        # who sends before the menus have come gets the policies that they would show
        shown = 0, min(1, len(self._live.runs) - 1)
        one, other = (b if a is None else a for a, b in zip((first, second), shown, strict=True))
        try:
            for left, right in self._live.answers(one, other, messages):
                yield _text(left), _text(right)
        except RLHFError as error:
            # The sentence may name a run folder, which raters must not see.
            reason = str(error) if named else words_of(request)("cannot_answer")
            raise gr.Error(reason, print_exception=False) from error


def page(live: Live, accounts: Accounts, keymap: Keymap) -> gr.Blocks:
    """The page for the policies of ``live``."""
    with gr.Blocks(title="Compare · rlhf label", analytics_enabled=False) as blocks:
        header("compare")
        with gr.Column(elem_classes="rl-compare", elem_id="rl-content"):
            title = f"<h1>{say.html('compare_title')}</h1>"
            none = f'<p class="rl-wait">{say.html("no_policies")} {_HOW}</p>'
            if len(live.runs) > 1:
                gr.HTML(
                    title + Battle(keymap).html(),
                    js_on_load=script("calls.js") + script("battle.js"),
                    apply_default_css=False,
                )
            else:
                gr.HTML(
                    title if live.runs else title + none,
                    js_on_load=script("fill.js"),
                    apply_default_css=False,
                )
            if live.runs:
                with gr.Column(elem_classes="rl-chosen"):
                    _chosen(Answers(live, accounts))
    return blocks


def _chosen(answers: Answers) -> None:
    prompt = gr.Textbox(
        label=say("prompt"),
        placeholder=say("prompt_hint"),
        lines=3,
        max_lines=12,
        max_length=MAX_PROMPT,
    )
    send = gr.Button(say("answer"), variant="primary", elem_classes="rl-send")
    with gr.Row(elem_classes="rl-two"):
        with gr.Column():
            first = gr.Dropdown([], label=say("left_policy"), interactive=True)
            left = gr.HTML(_text(""), apply_default_css=False)
        with gr.Column():
            second = gr.Dropdown([], label=say("right_policy"), interactive=True)
            right = gr.HTML(_text(""), apply_default_css=False)
    gr.on(
        None,  # when the page loads
        answers.choices,
        outputs=[first, second, prompt, send],
        show_progress="hidden",
        api_visibility="private",
    )
    # A second press while it answers does nothing.
    gr.on(
        [send.click, prompt.submit],
        answers.answer,
        inputs=[prompt, first, second],
        outputs=[left, right],
        concurrency_limit=1,
        trigger_mode="once",
        show_progress="hidden",
        api_visibility="private",
    )


def _text(answer: str) -> str:
    text = f'<div class="rl-text" dir="auto" tabindex="0">{render(answer)}</div>'
    return f'<div class="rl-response">{text}</div>'
