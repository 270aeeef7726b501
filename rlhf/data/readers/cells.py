"""The cells of a row: its prompt, its responses, its texts."""

from collections.abc import Mapping, Sequence
from typing import cast

from rlhf.data.readers.dialogue import Row, RowError, conversation, transcript
from rlhf.records import Message, Metadata, Prompt

RESPONSE = ("completion", "response", "output", "answer", "generation", "phrase")
PROMPT = ("prompt", "instruction", "question", "context")


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


def prompt_at(row: Row, metadata: Metadata) -> Prompt:
    """The prompt of a row: text, an HH transcript, messages, or an instruction with its input.

    A row without one is about its responses alone; its prompt is an empty message.
    """
    name = first(row, PROMPT)
    value = row.get(name) if name else None
    if isinstance(value, (list, Mapping)) or name == "context":
        return Prompt(conversation(cast("object", value)), metadata)
    value = text_at(row, name) if name else ""
    if value.lstrip().startswith("Human:"):
        messages = transcript(value)
        due = messages[-1] == Message("assistant", "")
        return Prompt(messages[:-1] if due else messages, metadata)
    if name == "instruction" and row.get("input"):
        value = f"{value}\n\n{text_at(row, 'input')}"
    system = (Message("system", text_at(row, "system")),) if row.get("system") else ()
    return Prompt((*system, Message("user", value)), metadata)


def response_at(row: Row, name: str, prompt: Prompt) -> str:
    """The response in column ``name``: text, or messages with or without the prompt before."""
    value = row.get(name)
    if name != "generation" and not isinstance(value, (list, Mapping)):
        return text_at(row, name)
    messages = conversation(value)
    if messages[: len(prompt.messages)] == prompt.messages:
        messages = messages[len(prompt.messages) :]
    if len(messages) != 1 or messages[0].role != "assistant":
        raise RowError(f"`{name}` must add one assistant message to the prompt")
    return messages[0].content


def number_in(name: str, value: object) -> float:
    """A number that may be written as text."""
    try:
        return float(str(value))
    except ValueError as error:
        raise RowError(f"`{name}` must be a number, not {value!r}") from error
