"""Messages to token ids and back: the only tokenisation in the project.

Every stage sees the same ids: a prompt ends where the response starts, and a response ends exactly
with the end token, so that what a reward model was trained on is what PPO hands it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from rlhf.errors import ModelError, RenderError
from rlhf.records import Message, Prompt

IGNORED = -100
"""Label of a token that the loss does not count."""

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role | capitalize }}:\n"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + eos_token }}{% endgeneration %}"
    "{% else %}{{ message.content }}{% endif %}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
"""For tokenizers that bring no chat template; it needs no special token but the end."""

_MARK = "\u2042"
"""Stands for a text where only its place matters."""
_TURNS = tuple(Message(role, _MARK) for role in ("user", "assistant", "user"))


def plain_template(tokenizer: PreTrainedTokenizerFast) -> str:
    """:data:`PLAIN_TEMPLATE`, opened by the token with which the tokenizer opens plain text.

    So every stage's rows begin as those of pretraining do; a template that a tokenizer brings says
    itself how they begin.
    """
    return "{{ bos_token }}" * len(_opening(tokenizer)) + PLAIN_TEMPLATE


def _opening(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The beginning of text, where the tokenizer writes it without being told."""
    ids = tokenizer("")["input_ids"]
    assert isinstance(ids, list)
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []


def _opened(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of plain text with its opening, once if the text spells it out."""
    ids, opening = _ids(tokenizer, text), _opening(tokenizer)
    return ids if ids[:1] == opening else [*opening, *ids]


def render(
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[Message],
    *,
    respond: bool,
    tools: str = "",
) -> str:
    """The messages as the chat template writes them; ``respond`` opens the assistant's turn.

    Raises:
        RenderError: the template refuses the conversation (some know no system role), or leaves
            out what a message holds: its text, thoughts, or calls, or the schemas of the tools.
    """
    text = _render(tokenizer, messages, respond=respond, tools=tools)
    for place, message in enumerate(messages):
        if (part := _unknown_part(tokenizer, messages[: place + 1], text, tools)) is not None:
            raise RenderError(
                f"the tokenizer's chat template leaves out {part} of message {place + 1} "
                f"({message.role}); take another base, or write it into a message's text"
            )
    if tools and not _names_tools(tokenizer, messages, respond=respond, tools=tools):
        raise RenderError(
            "the tokenizer's chat template leaves out `tools`; take another base, or write them "
            "into a system message"
        )
    return text


def _render(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], *, respond: bool, tools: str
) -> str:
    try:
        text = tokenizer.apply_chat_template(
            [message.turn for message in messages],
            tools=json.loads(tools) if tools else None,
            tokenize=False,
            add_generation_prompt=respond,
        )
    except (
        TemplateError,
        TypeError,
        ValueError,
    ) as error:  # templates call Python on what they get
        roles = ", ".join(message.role for message in messages) or "no messages"
        raise RenderError(
            f"the tokenizer's chat template refuses a conversation of {roles} ({error}); "
            "reorder the turns, or put a system message into the first user turn"
        ) from error
    assert isinstance(text, str)
    return text


def _unknown_part(
    tokenizer: PreTrainedTokenizerFast, until: Sequence[Message], text: str, tools: str
) -> str | None:
    """What the template makes nothing of in the last message of ``until``.

    It may leave out older thoughts and answers: it is asked about a conversation that ends here.
    """
    last = until[-1]
    if last.role != "assistant":
        if last.role != "tool" and last.content.strip() in text:
            return None
        marked = {"the text": replace(last, content=_MARK)}
    else:
        marked = {
            "`thinking`": replace(last, thinking=_MARK) if last.thinking else None,
            "`tool_calls`": _with_marked_call(last) if last.tool_calls else None,
            "the text": (
                replace(last, content=_MARK) if last.tool_calls and last.content.strip() else None
            ),
        }
    for part, message in marked.items():
        if message and _MARK not in _render(
            tokenizer, (*until[:-1], message), respond=False, tools=tools
        ):
            return part
    return None


def _with_marked_call(message: Message) -> Message:
    calls = json.loads(message.tool_calls)
    for call in calls:
        call["function"]["name"] = _MARK
    return replace(message, tool_calls=json.dumps(calls))


def _names_tools(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], *, respond: bool, tools: str
) -> bool:
    schemas = json.loads(tools)
    for schema in schemas:
        schema["function"]["name"] = _MARK
    marked = json.dumps(schemas)
    text = _render(tokenizer, messages, respond=respond, tools=marked)
    return _MARK in text or json.dumps(_MARK)[1:-1] in text


@lru_cache(maxsize=8)
def end_token_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The token that ends an assistant turn: the first special one that the template puts there.

    Where it puts none after the last turn, it may close a turn by what opens the next (GLM-4).

    Raises:
        ModelError: neither the template nor the tokenizer has one.
    """
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    last = _render(tokenizer, _TURNS[:2], respond=False, tools="")
    for token in _ids(tokenizer, last.rpartition(_MARK)[2]):
        if token in special:
            return token
    turns = _render(tokenizer, _TURNS, respond=False, tools="")
    between = turns.rpartition(_MARK)[0].rpartition(_MARK)[2]
    next_token = _ids(tokenizer, between.lstrip())[:1]
    if next_token and next_token[0] in special and next_token[0] != tokenizer.bos_token_id:
        return next_token[0]
    eos = tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise ModelError(
            f"{tokenizer.name_or_path}: no token ends a response; set eos_token in the tokenizer"
        )
    return eos


def fixed_token_ids(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """Every token that rows hold whatever is said in them: the template's, ends and padding."""
    written = _ids(tokenizer, _render(tokenizer, _TURNS, respond=True, tools=""))
    stops, pad = stop_token_ids(tokenizer), tokenizer.pad_token_id
    assert isinstance(pad, int)
    return {*written, *stops, pad}


def stop_token_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Every token at which sampling stops: the end of a turn, and the end of text."""
    eos = tokenizer.eos_token_id
    return sorted({end_token_id(tokenizer), *([eos] if isinstance(eos, int) else [])})


def encode_prompt(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> list[int]:
    """Ids up to where the response starts."""
    return _ids(tokenizer, render(tokenizer, prompt.messages, respond=True, tools=prompt.tools))


def encode_response(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, text: str) -> list[int]:
    """Ids of ``text`` as they stand after ``prompt``, closed by the end token.

    White space that the template writes around every response is part of it.
    """
    before, after = _around_response(tokenizer)
    head = render(tokenizer, prompt.messages, respond=True, tools=prompt.tools)
    return _response_ids(tokenizer, head, f"{before}{text}{after}")


def _response_ids(tokenizer: PreTrainedTokenizerFast, head: str, text: str) -> list[int]:
    """Ids of ``text`` after ``head``, closed by the end token.

    Where a tokenizer would merge across the boundary, the response is encoded by itself, so that
    the prompt's ids are always a prefix of the whole.
    """
    prompt_ids, joint = _ids(tokenizer, head), _ids(tokenizer, head + text)
    if joint[: len(prompt_ids)] == prompt_ids:
        response = joint[len(prompt_ids) :]
    else:
        response = _ids(tokenizer, text)
    return [*response, end_token_id(tokenizer)]


@lru_cache(maxsize=8)
def _around_response(tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """White space that the template writes before and after a response (Llama 2: one blank each).

    Anything else there, such as the empty thoughts that Qwen3 writes, is no part of a response.
    """
    asked = (Message("user", _MARK),)
    head = _render(tokenizer, asked, respond=True, tools="")
    text = _as_generated(tokenizer, head, (*asked, Message("assistant", _MARK)), "")
    before, _, after = (text or "").partition(_MARK)
    return ("", "") if (before + after).strip() else (before, after)


def _as_generated(
    tokenizer: PreTrainedTokenizerFast, head: str, messages: Sequence[Message], tools: str
) -> str | None:
    """What the template writes of the last message after ``head``, without the end token.

    None where it writes other text before it than in a prompt, or no end token.
    """
    whole = _render(tokenizer, messages, respond=False, tools=tools)
    end = tokenizer.convert_ids_to_tokens(end_token_id(tokenizer))
    assert isinstance(end, str)
    text, found, _ = whole[len(head) :].rpartition(end)
    if not found:  # what opens the next turn may end this one
        turns = (*messages, _TURNS[0])
        whole = _render(tokenizer, turns, respond=False, tools=tools)
        text, found, _ = whole[len(head) :].rpartition(_MARK)[0].rpartition(end)
    return text if whole.startswith(head) and found else None


def encode_demonstration(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], tools: str = ""
) -> tuple[list[int], list[int]]:
    """Ids of a conversation up to its last answer that counts, and labels that count answers only.

    An answer is what a model would have generated after the prompt. It counts if it says anything,
    does not weigh 0, and is not what opens the conversation. Where the template rewrites earlier
    turns once later ones follow (Qwen3 drops old thoughts), those no longer read as they were
    generated and are not counted.

    Raises:
        RenderError: no answer counts, or the template cannot write the conversation.
    """
    answers = [
        _answer(tokenizer, messages[: turn + 1], tools)
        for turn, message in enumerate(messages)
        if turn and message.imitated
    ]
    if not answers:
        raise RenderError("a demonstration needs an assistant turn that answers something")
    ids = [token for part in answers[-1] for token in part]
    labels = [IGNORED] * len(ids)
    for head, response in answers:
        until = len(head) + len(response)
        if ids[:until] == [*head, *response]:
            labels[len(head) : until] = response
    return ids, labels


def _answer(
    tokenizer: PreTrainedTokenizerFast, until: Sequence[Message], tools: str
) -> tuple[list[int], list[int]]:
    """Ids of the prompt and of the answer with which ``until`` ends."""
    head = render(tokenizer, until[:-1], respond=True, tools=tools)
    last = until[-1]
    written = _as_generated(tokenizer, head, until, tools)
    if last.thinking or last.tool_calls:
        render(tokenizer, until, respond=False, tools=tools)  # refuses what it does not know
        if written is None:
            raise RenderError(
                f"the tokenizer's chat template writes message {len(until)} (assistant) otherwise "
                "than a model could generate it; take another base, or write it as text alone"
            )
    elif written is None or written.strip() != last.content.strip():
        written = last.content.join(_around_response(tokenizer))
    return _ids(tokenizer, head), _response_ids(tokenizer, head, written)


def sign_in(tokenizer: PreTrainedTokenizerFast, messages: Iterable[Message]) -> str | None:
    """The first special token spelled out in what a user says, if any.

    It would be encoded as that token: who types it could write turns of the system or the model.
    """
    signs = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    texts = [message.content for message in messages if message.role == "user"]
    return next((sign for sign in signs for text in texts if sign in text), None)


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of plain text, closed by the end of text."""
    ids, eos = _opened(tokenizer, text), tokenizer.eos_token_id
    return [*ids, eos] if isinstance(eos, int) and ids[-1:] != [eos] else ids


def decode_response(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """The text before the first stop token, without special tokens.

    A NUL, which a byte-level model may well sample and no record holds, is shown as unreadable.
    """
    stops = set(stop_token_ids(tokenizer))
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
    text = tokenizer.decode(list(ids[:end]), skip_special_tokens=True)
    assert isinstance(text, str)
    before, after = _around_response(tokenizer)
    text = text.removeprefix(before).removesuffix(after)
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert isinstance(ids, list)
    return ids


def encode_completion(
    tokenizer: PreTrainedTokenizerFast, prompt: str, completion: str
) -> tuple[list[int], list[int]]:
    """Ids of a raw text in two halves, and labels that count the second only.

    It begins as plain text does; other special tokens are those that the text spells out.
    """
    head, tail = _opened(tokenizer, prompt), _ids(tokenizer, completion)
    return [*head, *tail], [*[IGNORED] * len(head), *tail]
