"""What rows mean: one small pure function per format, from a row to records."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import cast

from rlhf.config import Format
from rlhf.data.dialogue import Row, RowError, conversation, dialogue, transcript
from rlhf.records import (
    Comparison,
    Demonstration,
    Feedback,
    Message,
    Metadata,
    Outcome,
    Preference,
    Prompt,
    Response,
    Vote,
    from_json,
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A comparison with some of the votes on it; the rest may stand in other rows."""

    comparison: Comparison
    votes: tuple[Vote, ...]


Item = Preference | Demonstration | Prompt | Feedback | Judged | str
Parse = Callable[[Row, Metadata], Iterable[Item]]


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


RESPONSE = ("completion", "response", "output", "answer", "generation", "phrase")
PROMPT = ("prompt", "instruction", "question", "context")
CHOSEN = (("chosen", "rejected"), ("sentence_good", "sentence_bad"), ("sent_less", "sent_more"))
SIDES = (("response_a", "response_b"), ("response1", "response2"), ("arg1", "arg2"))
VOTE = ("vote", "outcome", "winner", "choice")
GOOD = ("label", "good", "reward", "toxicity")
TURNS = ("messages", "conversations", "conversation", "turns", "dialog", "dialogue")

_NUMBERED = re.compile(r"annotator_?\d+$")
_OUTCOMES: dict[str, Outcome] = {
    **dict.fromkeys(("a", "a1", "1", "1.0", "response_a", "model_a"), "a"),
    **dict.fromkeys(("b", "a2", "2", "2.0", "response_b", "model_b"), "b"),
    **dict.fromkeys(("tie", "equal", "0", "0.0", "same"), "tie"),
    **dict.fromkeys(("both_bad", "tie (bothbad)"), "both_bad"),
    **dict.fromkeys(("skip", ""), "skip"),
}
_VERDICTS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "good", "up", "nontoxic"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "bad", "down", "toxic"), False),
}


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


def record(row: Row, metadata: Metadata) -> Iterable[Item]:
    """One of our own records, as `records.to_json` writes it."""
    data = {k: v for k, v in row.items() if v is not None}
    kind, home = Preference, "provenance"
    if "messages" in data:
        asked = "id" in data or not _has_reply(data["messages"])
        kind, home = (Prompt if asked else Demonstration), "metadata"
    elif "response_a" in data:
        kind, home = Comparison, "metadata"
    elif "response" in data:
        kind = Feedback
    known = data.get(home) or {}
    if not isinstance(known, Mapping):
        raise RowError(f"`{home}` must be an object")
    data[home] = {"origin": metadata["origin"], **cast("Metadata", known)}
    found = from_json(kind, data)
    yield Judged(found, ()) if isinstance(found, Comparison) else found


def _has_reply(messages: object) -> bool:
    return "assistant" in (m.role for m in conversation(messages))


def preference(row: Row, metadata: Metadata) -> Iterable[Item]:
    """A chosen and a rejected response, plain or conversational, prompt explicit or shared."""
    good, bad = next((p for p in CHOSEN if row.get(p[0]) is not None), CHOSEN[0])
    if first(row, PROMPT) is None and isinstance(row.get(good), list):
        prompt = shared_prompt(conversation(row[good]), conversation(row.get(bad)))
    else:
        prompt = prompt_at(row, {})
    margin = row.get("margin")
    if margin is not None and not isinstance(margin, (int, float)):
        margin = _number("margin", margin)
    yield Preference(
        prompt,
        response_at(row, good, prompt),
        response_at(row, bad, prompt),
        margin=margin,
        provenance=metadata,
    )


def _number(name: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise RowError(f"`{name}` must be a number, not {value!r}") from error


def shared_prompt(chosen: Sequence[Message], rejected: Sequence[Message]) -> Prompt:
    """What two conversations have in common, if they differ in the last turn only."""
    if chosen[:-1] != rejected[:-1]:
        raise RowError("the two conversations must differ in their last turn only")
    return Prompt(tuple(chosen[:-1]))


def hh(row: Row, metadata: Metadata) -> Iterable[Item]:
    r"""Two transcripts, ``\n\nHuman: …\n\nAssistant: …``, that share all but the last turn."""
    chosen, rejected = (transcript(text_at(row, name)) for name in ("chosen", "rejected"))
    if (chosen[-1].role, rejected[-1].role) != ("assistant", "assistant"):
        raise RowError("both transcripts must end with an Assistant turn")
    prompt = shared_prompt(chosen, rejected)
    yield Preference(prompt, chosen[-1].content, rejected[-1].content, provenance=metadata)


def votes(row: Row, metadata: Metadata) -> Iterable[Item]:
    """Two responses and who preferred which: a list, a column per rater, or a row per vote."""
    sides = next((s for s in SIDES if row.get(s[0]) is not None), SIDES[0])
    if "title" in row and "stance" in row:
        prompt = Prompt.from_text(f"{text_at(row, 'title')}\n{text_at(row, 'stance')}")
    else:
        prompt = prompt_at(row, {})
    a, b = (_response(row, side) for side in sides)
    comparison = Comparison(prompt, a, b, metadata)
    yield Judged(comparison, tuple(_votes(row, comparison.id)))


def _response(row: Row, name: str) -> Response:
    value = row.get(name)
    if isinstance(value, Mapping):
        inner = cast("Row", value)
        return Response(text_at(inner, "text"), str(inner.get("policy", inner.get("id", ""))))
    policy = row.get(f"policy{name.removeprefix('response')}")
    return Response(text_at(row, name), str(policy or ""))


def _votes(row: Row, comparison: str) -> Iterable[Vote]:
    given = row.get("votes")
    if isinstance(given, str):
        given = _decoded("votes", given)
    if isinstance(given, list):
        for number, ballot in enumerate(cast("list[object]", given), start=1):
            inner = cast("Row", ballot) if isinstance(ballot, Mapping) else {"value": ballot}
            name = first(inner, (*VOTE, "value")) or "value"
            rater = inner.get("worker", inner.get("rater", f"rater {number}"))
            reason = str(inner.get("reason") or "")
            yield _vote(comparison, str(rater), inner.get(name), reason)
        return
    single = first(row, VOTE)
    columns = [single] if single else sorted(k for k in row if _NUMBERED.match(k))
    if not columns:
        raise RowError("`votes` is missing")
    for name in columns:
        rater = str(row.get("rater", name)) if single else name
        yield _vote(comparison, rater, row.get(name), "")


def _vote(comparison: str, rater: str, value: object, reason: str) -> Vote:
    outcome = _OUTCOMES.get(str("" if value is None else value).strip().lower())
    if outcome is None:
        raise RowError(f"{value!r} is no vote; use a, b, tie, both_bad or skip")
    return Vote(comparison, rater, outcome, a_side="left", reason=reason)


def ranked(row: Row, metadata: Metadata) -> Iterable[Item]:
    """Numbered predictions and one verdict on each pair of them (0 tie, 1 first, 2 second)."""
    names = sorted(k for k in row if re.fullmatch(r"prediction \d", k))
    pairs = list(combinations(names, 2))
    verdicts = row.get("preference")
    if not isinstance(verdicts, list) or len(cast("list[object]", verdicts)) != len(pairs):
        raise RowError(f"`preference` must list a verdict on each of the {len(pairs)} pairs")
    passages = row.get("passages") or []
    if not isinstance(passages, list):
        raise RowError("`passages` must be a list")
    parts = [text_at(row, "question"), *map(_passage, cast("list[object]", passages))]
    prompt = Prompt.from_text("\n\n".join(parts))
    for (a, b), verdict in zip(pairs, cast("list[object]", verdicts), strict=True):
        first_, second = (Response(text_at(row, name), name) for name in (a, b))
        comparison = Comparison(prompt, first_, second, metadata)
        yield Judged(comparison, (_vote(comparison.id, "annotator", verdict, ""),))


def _passage(passage: object) -> str:
    return " ".join(map(str, cast("list[object]", passage))) if isinstance(passage, list) else ""


def unpaired(row: Row, metadata: Metadata) -> Iterable[Item]:
    """One response and whether it is good."""
    prompt = prompt_at(row, {})
    name, label = first(row, RESPONSE) or RESPONSE[0], first(row, GOOD) or GOOD[0]
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
    strict = name in ("messages", "conversations")
    messages = (conversation if strict else dialogue)(row[name])
    if strict and row.get("system") and messages and messages[0].role != "system":
        messages = (Message("system", text_at(row, "system")), *messages)
    if any(m.role == "assistant" for m in messages):
        yield Demonstration(messages, metadata)
    elif messages:
        yield Prompt(messages, metadata)


def prompt_completion(row: Row, metadata: Metadata) -> Iterable[Item]:
    """A prompt and, if there is one, the response worth imitating."""
    if first(row, PROMPT) is None:
        raise RowError("`prompt` is missing")
    prompt = prompt_at(row, metadata)
    name = first(row, RESPONSE)
    if name is None:
        yield prompt
    else:
        reply = Message("assistant", response_at(row, name, prompt))
        yield Demonstration((*prompt.messages, reply), metadata)


def text(row: Row, metadata: Metadata) -> Iterable[Item]:  # noqa: ARG001 - as all others
    """Plain text to learn the language from."""
    content = text_at(row, "text")
    if content.strip():
        yield content


def _decoded(name: str, value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError(f"`{name}` is neither a list nor JSON for one") from error


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


def _is_voted(row: Row) -> bool:
    return any(row.get(side[0]) is not None for side in SIDES) and (
        first(row, ("votes", *VOTE)) is not None or any(map(_NUMBERED.match, row))
    )


def _is_preference(row: Row) -> bool:
    return any(row.get(a) is not None and row.get(b) is not None for a, b in CHOSEN)


SHAPES = (
    Shape("records", "prompt {messages}, chosen, rejected", _is_record, record),
    Shape("votes", "prompt, response_a, response_b, votes", _is_voted, votes, named=True),
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
