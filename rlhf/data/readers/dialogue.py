"""Conversations in the many ways that people write them down."""

import re
from collections.abc import Iterable, Mapping
from typing import cast

from rlhf.data.readers.message import Row, RowError, decoded, message
from rlhf.records import Message, Role

__all__ = ["Row", "RowError", "conversation", "dialogue", "transcript"]

_LABEL = re.compile(r"^[\W_]*user\s*([12])\W*:\**\s*", re.IGNORECASE)
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def conversation(value: object) -> tuple[Message, ...]:
    """The messages of a list (or of its JSON) of ``{role, content}`` or ``[speaker, text]``."""
    if isinstance(value, str):
        value = decoded("messages", value)
    if isinstance(value, Mapping):
        value = [cast("object", value)]
    if not isinstance(value, (list, tuple)):
        raise RowError("messages must be a list of {role, content}")
    return tuple(message(entry) for entry in cast("Iterable[object]", value))


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
    for one in messages:
        if joined and joined[-1].role == one.role != "tool" and joined[-1].plain and one.plain:
            joined.append(Message(one.role, f"{joined.pop().content}{between}{one.content}"))
        else:
            joined.append(one)
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
