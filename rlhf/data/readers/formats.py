"""What rows mean: one small pure function per format, from a row to records."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from rlhf.config import Format
from rlhf.data.readers.cells import (
    PROMPT,
    RESPONSE,
    TURNS,
    chat_at,
    first,
    number_in,
    prompt_at,
    reply_at,
    response_at,
    text_at,
    tools_at,
    with_system,
)
from rlhf.data.readers.dialogue import Row, RowError, conversation, transcript
from rlhf.data.readers.foreign import READERS, Tool
from rlhf.data.readers.foreign_tasks import UNCLEAR, LeftOut, Names
from rlhf.data.readers.votes import Judged, is_voted, ranked, votes
from rlhf.records import (
    Comparison,
    Demonstration,
    Feedback,
    Message,
    Metadata,
    Preference,
    Prompt,
    from_json,
)

Item = Preference | Demonstration | Prompt | Feedback | Judged | str
Parse = Callable[[Row, Metadata], Iterable[Item | LeftOut]]


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of row: how it is told, and how it is read."""

    format: Format
    columns: str
    """The columns, for people who read an error message."""
    matches: Callable[[Row], bool]
    parse: Parse
    named: bool = False
    """Whether to tell people about it whose columns have other names."""


CHOSEN = (("chosen", "rejected"), ("sentence_good", "sentence_bad"), ("sent_less", "sent_more"))
GOOD = ("label", "good", "kto_tag", "reward", "toxicity")

_VERDICTS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "good", "up", "nontoxic"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "bad", "down", "toxic"), False),
}


def record(row: Row, metadata: Metadata) -> Iterable[Item]:
    """One of our own records, as `records.to_json` writes it."""
    data = _given(row)
    if isinstance(row.get("prompt"), Mapping):
        data["prompt"] = _given(cast("Row", row["prompt"]))
        data["prompt"]["messages"] = _turns_given(data["prompt"].get("messages"))
    kind, home = Preference, "provenance"
    if "messages" in data:
        asked = "id" in data or not _has_reply(data["messages"])
        kind, home = (Prompt if asked else Demonstration), "metadata"
        data["messages"] = _turns_given(data["messages"])
    elif "response_a" in data:
        kind, home = Comparison, "metadata"
    elif "response" in data:
        kind = Feedback
    known = data.get(home) or {}
    if not isinstance(known, Mapping):
        raise RowError(f"`{home}` must be an object")
    data[home] = {"origin": metadata["origin"], **_given(cast("Metadata", known))}
    found = from_json(kind, data)
    yield Judged(found, ()) if isinstance(found, Comparison) else found


def _given(row: Row) -> dict[str, Any]:
    """What a row says; columnar files fill up what it leaves out with None."""
    return {k: v for k, v in row.items() if v is not None}


def _turns_given(turns: object) -> object:
    entries = cast("list[object]", turns) if isinstance(turns, list) else []
    given = [_given(cast("Row", one)) if isinstance(one, Mapping) else one for one in entries]
    return given if isinstance(turns, list) else turns


def _has_reply(messages: object) -> bool:
    return "assistant" in (m.role for m in conversation(messages))


def preference(row: Row, metadata: Metadata) -> Iterable[Item]:
    """A chosen and a rejected response, plain or conversational, prompt explicit or shared."""
    good, bad = next((p for p in CHOSEN if row.get(p[0]) is not None), CHOSEN[0])
    shared: Sequence[Message] = ()
    if first(row, PROMPT) is None and isinstance(row.get(good), list):
        shared = shared_prompt(conversation(row[good]), conversation(row.get(bad)))
    before = with_system(row, shared) if shared else ()
    prompt = Prompt(before, tools=tools_at(row)) if shared else prompt_at(row, {}, (good, bad))
    margin = row.get("margin")
    if margin is not None and not isinstance(margin, (int, float)):
        margin = number_in("margin", margin)
    yield Preference(
        prompt,
        response_at(row, good, prompt),
        response_at(row, bad, prompt),
        margin=margin,
        provenance=metadata,
    )


def shared_prompt(chosen: Sequence[Message], rejected: Sequence[Message]) -> Sequence[Message]:
    """What two conversations have in common, if they differ in the last turn only."""
    if chosen[:-1] != rejected[:-1]:
        raise RowError("the two conversations must differ in their last turn only")
    return chosen[:-1]


def hh(row: Row, metadata: Metadata) -> Iterable[Item]:
    r"""Two transcripts, ``\n\nHuman: …\n\nAssistant: …``, that share all but the last turn."""
    chosen, rejected = (transcript(text_at(row, name)) for name in ("chosen", "rejected"))
    if (chosen[-1].role, rejected[-1].role) != ("assistant", "assistant"):
        raise RowError("both transcripts must end with an Assistant turn")
    before = with_system(row, shared_prompt(chosen, rejected))
    prompt = Prompt(before, tools=tools_at(row))
    yield Preference(prompt, chosen[-1].content, rejected[-1].content, provenance=metadata)


def unpaired(row: Row, metadata: Metadata) -> Iterable[Item]:
    """One response and whether it is good."""
    name, label = first(row, RESPONSE) or RESPONSE[0], first(row, GOOD) or GOOD[0]
    prompt = prompt_at(row, {}, (name,))
    value = row.get(label)
    if value is None:
        raise RowError(f"`{label}` is missing")
    good = _VERDICTS.get(str(value).strip().lower())
    if good is None:
        raise RowError(f"`{label}` must be true or false, not {value!r}")
    yield Feedback(prompt, response_at(row, name, prompt), good, metadata)


def turns(row: Row, metadata: Metadata) -> Iterable[Item]:
    """A conversation under one of many names. One without a reply is a prompt."""
    name = first(row, TURNS)
    if name is None:
        raise RowError("`messages` is missing")
    messages, tools = chat_at(row, name), tools_at(row)
    if not messages:
        return
    messages = with_system(row, messages)
    good = _verdict(row)
    if good is not None and messages[-1].role == "assistant":
        if messages[-1].thinking or messages[-1].tool_calls:
            raise RowError("a rated answer thinks or calls tools; write it as one text")
        yield Feedback(Prompt(messages[:-1], tools=tools), messages[-1].content, good, metadata)
    elif any(m.role == "assistant" for m in messages):
        yield Demonstration(messages, metadata, tools)
    else:
        yield Prompt(messages, metadata, tools)


def _verdict(row: Row) -> bool | None:
    """Whether a conversation is said to be good; a class or a number is no verdict."""
    given = (row.get(name) for name in ("label", "good", "kto_tag"))
    said = next((value for value in given if value is not None), None)
    return said if isinstance(said, bool) else {"true": True, "false": False}.get(str(said).lower())


def prompt_completion(row: Row, metadata: Metadata) -> Iterable[Item]:
    """A prompt and, if there is one, the response worth imitating."""
    if first(row, PROMPT) is None:
        raise RowError("`prompt` is missing")
    name = first(row, RESPONSE)
    prompt = prompt_at(row, metadata, (name,) if name else ())
    if name is None:
        yield prompt
    else:
        reply = reply_at(row, name, prompt)
        yield Demonstration((*prompt.messages, reply), metadata, prompt.tools)


def text(row: Row, metadata: Metadata) -> Iterable[Item]:  # noqa: ARG001 - as all others
    """Plain text to learn the language from."""
    content = text_at(row, "text")
    if content.strip():
        yield content


def _foreign(tool: Tool, form: Format, columns: str) -> Shape:
    """What another labelling tool exported: its comparisons, with the votes that it has."""

    def parse(row: Row, metadata: Metadata) -> Iterable[Item | LeftOut]:
        found = READERS[tool].parse(row, Names())
        if isinstance(found, LeftOut):
            yield found
        elif len(found.responses) == 1:
            yield LeftOut("one answer")
        else:
            notes = {"origin": metadata["origin"], **found.metadata}
            yield from replace(found, metadata=notes).judged()
            yield from [UNCLEAR] * found.unclear
            yield from map(LeftOut, found.no_answers)

    return Shape(form, columns, READERS[tool].matches, parse)


def _has(*groups: Sequence[str]) -> Callable[[Row], bool]:
    return lambda row: all(first(row, group) is not None for group in groups)


def _is_record(row: Row) -> bool:
    return isinstance(row.get("prompt"), Mapping) or (
        "messages" in row and (isinstance(row.get("metadata"), Mapping) or _is_id(row.get("id")))
    )


def _is_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value) is not None


def _is_hh(row: Row) -> bool:
    chosen = row.get("chosen")
    return (
        first(row, PROMPT) is None
        and isinstance(chosen, str)
        and chosen.lstrip().startswith("Human:")
    )


def _is_preference(row: Row) -> bool:
    return any(row.get(a) is not None and row.get(b) is not None for a, b in CHOSEN)


SHAPES = (
    _foreign("arena", "arena", "conversation_a, conversation_b, winner"),
    _foreign("argilla", "argilla", "fields, responses"),
    _foreign("label-studio", "label_studio", "data, annotations"),
    Shape("records", "prompt {messages}, chosen, rejected", _is_record, record),
    Shape("votes", "prompt, response_a, response_b, votes", is_voted, votes, named=True),
    Shape("votes", "prediction 1, prediction 2, preference", _has(("prediction 1",)), ranked),
    Shape("hh", "chosen, rejected (transcripts)", _is_hh, hh),
    Shape("preference", "prompt, chosen, rejected", _is_preference, preference, named=True),
    Shape("unpaired", "prompt, completion, label", _has(RESPONSE, GOOD), unpaired, named=True),
    Shape("sharegpt", "conversations", _has(("conversations", "conversation")), turns),
    Shape("messages", "messages", _has(TURNS), turns, named=True),
    Shape("records", "messages", _has(("messages",)), record),
    Shape("alpaca", "instruction, output", _has(("instruction",), ("output",)), prompt_completion),
    Shape("prompt_completion", "prompt, completion", _has(PROMPT), prompt_completion, named=True),
    Shape("text", "text", _has(("text",)), text, named=True),
)
