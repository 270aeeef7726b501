"""The cells of a row: its prompt, its responses, its texts."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

from rlhf.data.readers.dialogue import Row, RowError, conversation, dialogue, transcript
from rlhf.data.readers.message import encoded_tools
from rlhf.records import Message, Metadata, Prompt

RESPONSE = ("completion", "response", "output", "answer", "generation", "phrase")
PROMPT = ("prompt", "instruction", "question", "query", "input", "context")
TURNS = ("messages", "conversations", "conversation", "turns", "dialog", "dialogue")
STRICT_TURNS = ("messages", "conversations")
"""Columns whose entries are one message each; the others are transcripts of talks."""
_MATERIAL = ("input", "context")
"""What stands under an instruction or a question."""
_SYSTEM = ("system", "system_prompt", "system_message")
_TOOLS = ("tools", "functions")
_ALONE = ("sentence_good", "sent_less", "phrase")
"""Texts that are judged by themselves, without any prompt."""
_BESIDE = re.compile(
    r"(?:.*_)?(?:id|uuid|model|policy|score|rating|rating_?\d|rater|worker|annotator_?\d*|source|origin|"
    r"dataset|split|language|lang|category|topic|tags?|date|time|timestamp|url|license|hash|margin|"
    r"votes?|outcome|winner|choice|label|good|kto_tag|reward|toxicity|reason|metadata|provenance|"
    r"aspects|strength|agreement|preference)(?:_[ab12])?|policy_?\w|chosen|rejected|"
    r"response_?[ab12]|arg[12]|system\w*|tools|functions|completion|response|output|answer|generation",
    re.IGNORECASE,
)
"""Columns that hold anything but a prompt."""


def first(row: Row, names: Sequence[str]) -> str | None:
    """The first of ``names`` that ``row`` has a value for."""
    return next((name for name in names if row.get(name) is not None), None)


def text_at(row: Row, name: str) -> str:
    """The text in column ``name``; a number or a truth value is what some writer made of text."""
    value = row.get(name)
    if value is None:
        raise RowError(f"`{name}` is missing")
    if not isinstance(value, (str, bool, int, float)):
        raise RowError(f"`{name}` must be text, not {type(value).__name__}")
    return str(value)


def prompt_at(row: Row, metadata: Metadata, replies: Sequence[str] = ()) -> Prompt:
    """The prompt of a row: text, an HH transcript, messages, or an instruction with its input.

    ``replies`` are the columns of the responses; messages may end with one of these.

    Raises:
        RowError: there is none, although some column could have held it. A row without any such
            column is about its responses alone; its prompt is an empty message.
    """
    name = _filled(row, PROMPT) or _filled(row, TURNS) or first(row, PROMPT)
    if name is None:
        _refuse_lost_prompt(row)
        messages: Sequence[Message] = (Message("user", ""),)
    elif name in TURNS or _is_chat(row[name]):
        messages = _until_response(row, name, replies)
    else:
        messages = (*_history(row), *_asked(row, name))
    return Prompt(with_system(row, messages), metadata, tools_at(row))


def chat_at(row: Row, name: str) -> tuple[Message, ...]:
    """The messages in column ``name``."""
    value: object = row.get(name)
    return (conversation if name not in TURNS or name in STRICT_TURNS else dialogue)(value)


def _until_response(row: Row, name: str, replies: Sequence[str]) -> tuple[Message, ...]:
    """The messages in column ``name``, without the response with which some writers end them."""
    messages = chat_at(row, name)
    if not replies or not messages or messages[-1].role != "assistant":
        return messages
    if messages[-1].content not in [_reply_text(row.get(reply)) for reply in replies]:
        raise RowError(f"`{name}` ends with an answer that is not in {', '.join(replies)}")
    return messages[:-1]


def _reply_text(value: object) -> object:
    if isinstance(value, Mapping) and "text" in value:
        return cast("Row", value)["text"]
    last = conversation(value)[-1:] if isinstance(value, (list, Mapping)) else ()
    return last[0].content if last else value


def with_system(row: Row, messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages, after the system message that a column of its own may hold."""
    name = _filled(row, _SYSTEM)
    if name is None:
        return tuple(messages)
    system = Message("system", text_at(row, name))
    if not messages or messages[0].role != "system":
        return (system, *messages)
    if messages[0] != system:
        raise RowError(f"`{name}` is another system message than that of the conversation")
    return tuple(messages)


def tools_at(row: Row) -> str:
    """The schemas of the tools that the assistant may call, as the JSON of a list, or nothing."""
    name = first(row, _TOOLS)
    return encoded_tools(name, row[name]) if name else ""


def reply_at(row: Row, name: str, prompt: Prompt) -> Message:
    """The response in column ``name``: text, or messages with or without the prompt before."""
    value: object = row.get(name)
    if not isinstance(value, (list, Mapping)) and not _is_chat(value):
        return Message("assistant", text_at(row, name))
    messages = conversation(value)
    for before in (prompt.messages, prompt.messages[1:]):  # the system message may stand apart
        if before and messages[: len(before)] == before:
            messages = messages[len(before) :]
            break
    if len(messages) != 1 or messages[0].role != "assistant":
        raise RowError(f"`{name}` must add one assistant message to the prompt")
    return messages[0]


def response_at(row: Row, name: str, prompt: Prompt) -> str:
    """As :func:`reply_at`, where the response is nothing but text."""
    reply = reply_at(row, name, prompt)
    if reply.thinking or reply.tool_calls:
        what = "thoughts" if reply.thinking else "calls of tools"
        raise RowError(f"`{name}` holds {what} beside its text; write the response as one text")
    return reply.content


def number_in(name: str, value: object) -> float:
    """A number that may be written as text."""
    try:
        return float(str(value))
    except ValueError as error:
        raise RowError(f"`{name}` must be a number, not {value!r}") from error


def _filled(row: Row, names: Sequence[str]) -> str | None:
    """The first of ``names`` under which there is more than white space."""
    values = ((name, row.get(name)) for name in names)
    return next((n for n, v in values if v not in (None, [], {}) and str(v).strip()), None)


def _is_chat(value: object) -> bool:
    """Whether a cell holds messages, or the JSON of some."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
        turns = cast("list[object]", value) if isinstance(value, list) else [value]
        speakers = [isinstance(t, Mapping) and ("role" in t or "from" in t) for t in turns]
        return bool(speakers) and all(speakers)
    return isinstance(value, (list, Mapping))


def _asked(row: Row, name: str) -> Sequence[Message]:
    value = text_at(row, name)
    if value.lstrip().startswith("Human:"):
        messages = transcript(value)
        return messages[:-1] if messages[-1] == Message("assistant", "") else messages
    material = _filled(row, _MATERIAL) if name in ("instruction", "question", "query") else None
    if material and _is_chat(row[material]):
        return (*chat_at(row, material), Message("user", value))
    if material:
        value = f"{value}\n\n{text_at(row, material)}"
    return (Message("user", value),)


def _history(row: Row) -> tuple[Message, ...]:
    """What was said before: messages, or the pairs of questions and answers of Alpaca."""
    column = _filled(row, ("history",))
    if column is None:
        return ()
    value: object = row[column]
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value
    pairs = cast("list[object]", value) if isinstance(value, list) else []
    if not pairs:
        raise RowError(f"`{column}` must be a list of [question, answer], not text")
    if not all(isinstance(p, (list, tuple)) and len(cast("list[object]", p)) == 2 for p in pairs):
        return conversation(value)
    if not all(
        isinstance(text, str) for pair in cast("list[list[object]]", pairs) for text in pair
    ):
        raise RowError(f"`{column}` must be a list of [question, answer]")
    texts = [text for pair in cast("list[list[str]]", pairs) for text in pair]
    return tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))


def _refuse_lost_prompt(row: Row) -> None:
    if first(row, _ALONE):
        return
    others = [name for name in row if not _BESIDE.fullmatch(name)]
    could = [
        f"`{name}`" for name in others if isinstance(row[name], (str, list, Mapping)) and row[name]
    ]
    if could:
        raise RowError(
            f"there is no prompt, which {', '.join(could)} could hold; call the column that does "
            "`prompt`, or take these away"
        )
