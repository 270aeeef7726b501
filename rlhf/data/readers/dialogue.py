"""Conversations in the many ways that people write them down."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from rlhf.records import Message, Role

Row = Mapping[str, Any]


class RowError(ValueError):
    """What is wrong with one row; the caller adds where it stands."""


_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "u", "user 1", "customer", "prompter"), "user"),
    # What a tool answers comes to the model from outside, and many templates have no role for it.
    **dict.fromkeys(("tool", "api", "function", "observation", "ipython"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "bot", "model", "agent", "s", "user 2"), "assistant"
    ),
}
_SPEAKER = ("role", "from", "speaker")
_CONTENT = ("content", "value", "text")
_LABEL = re.compile(r"^[\W_]*user\s*([12])\W*:\**\s*", re.IGNORECASE)
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def conversation(value: object) -> tuple[Message, ...]:
    """The messages of a list (or of its JSON) of ``{role, content}`` or ``[speaker, text]``."""
    if isinstance(value, str):
        value = _decoded(value)
    if isinstance(value, Mapping):
        value = [cast("object", value)]
    if not isinstance(value, (list, tuple)):
        raise RowError("messages must be a list of {role, content}")
    return tuple(_message(entry) for entry in cast("Iterable[object]", value))


def dialogue(value: object) -> tuple[Message, ...]:
    """The turns of a transcribed talk; what one speaker says in a row is one message.

    Turns may be plain lines, labelled ``User 1:`` and ``User 2:``; a line without a label goes on
    with the turn before it, and where no line has a label, speakers take turns.
    """
    if isinstance(value, list) and all(isinstance(v, str) for v in cast("list[object]", value)):
        return _joined(_lines([line for line in cast("list[str]", value) if line.strip()]), "\n")
    return _joined(conversation(value), "\n")


def transcript(text: str) -> tuple[Message, ...]:
    r"""The messages of ``\n\nHuman: …\n\nAssistant: …``."""
    start, *parts = _TURN.split(text.strip())
    if start or not parts:
        raise RowError("a transcript must start with `Human:` or `Assistant:`")
    roles: list[Role] = ["user" if who == "Human" else "assistant" for who in parts[::2]]
    messages = [Message(r, t.strip()) for r, t in zip(roles, parts[1::2], strict=True)]
    return _joined(messages, "\n\n")


def _joined(messages: Iterable[Message], between: str) -> tuple[Message, ...]:
    """What one speaker says in a row as one message."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            content = f"{joined.pop().content}{between}{message.content}"
            joined.append(Message(message.role, content))
        else:
            joined.append(message)
    return tuple(joined)


def _lines(lines: list[str]) -> tuple[Message, ...]:
    labels = [_LABEL.match(line) for line in lines]
    if not any(labels):
        roles: tuple[Role, Role] = ("user", "assistant")
        return tuple(Message(roles[n % 2], line.strip()) for n, line in enumerate(lines))
    role: Role = "user"
    messages: list[Message] = []
    for line, label in zip(lines, labels, strict=True):
        if label:
            role = "user" if label[1] == "1" else "assistant"
        messages.append(Message(role, line[label.end() if label else 0 :].strip()))
    return tuple(messages)


def _message(entry: object) -> Message:
    if isinstance(entry, (list, tuple)) and len(cast("list[object]", entry)) == 2:
        speaker, content = cast("list[object]", entry)
    elif isinstance(entry, Mapping):
        turn = cast("Row", entry)
        speaker = next((turn[k] for k in _SPEAKER if turn.get(k) is not None), None)
        content = next((turn[k] for k in _CONTENT if turn.get(k) is not None), None)
        if content is None:
            content = _call(turn)
    else:
        raise RowError("a message must be {role, content}")
    role = _ROLES.get(str(speaker).strip().lower())
    if role is None:
        raise RowError(f"unknown role {speaker!r}; use system, user or assistant")
    return Message(role, _flat(content))


def _flat(content: object) -> str:
    """Text, or the text parts of a list of parts."""
    if isinstance(content, list):
        parts = [cast("Row", p) for p in cast("list[object]", content) if isinstance(p, Mapping)]
        if len(parts) == len(cast("list[object]", content)):
            content = "".join(str(p["text"]) for p in parts if p.get("text") is not None)
    if not isinstance(content, str):
        raise RowError(f"a message's content must be text, not {type(content).__name__}")
    return content


def _call(turn: Row) -> str:
    """A turn without text is a call of a tool or its answer: what else it holds, as JSON."""
    rest = {k: v for k, v in turn.items() if k not in (*_SPEAKER, *_CONTENT) and v is not None}
    if not rest:
        raise RowError("a message has no content")
    return json.dumps(rest, ensure_ascii=False, default=str)


def _decoded(value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError("messages are neither a list nor JSON for one") from error
