"""The six records that travel between rooms, and how votes on a comparison are settled.

Each record is frozen and is one JSON object on disk: :func:`to_json` and :func:`from_json`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from functools import cache
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

Role = Literal["system", "user", "assistant", "tool"]
Outcome = Literal["a", "b", "tie", "both_bad", "skip"]
Side = Literal["left", "right"]
Metadata = Mapping[str, Any]

_STRICT = ConfigDict(extra="forbid")


UNSTORABLE = "text must not contain the NUL character or lone surrogates"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _storable(text: str) -> str:
    """Refuse what PostgreSQL and UTF-8 files cannot hold."""
    if _UNSTORABLE.search(text):
        raise ValueError(UNSTORABLE)
    return text


STORABLE = AfterValidator(_storable)
"""What makes a string a :data:`Text`. A limit stands before it, as in ``Annotated[str,
Field(max_length=9), STORABLE]``: of what comes out of a validator, pydantic counts "items"."""

Text = Annotated[str, STORABLE]


def content_hash(*parts: str) -> str:
    """16 hex digits of SHA-256 over ``parts``; the same text has the same id everywhere."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, config=_STRICT)
class Message:
    """One turn of a conversation, with what chat templates may write of it besides its text."""

    role: Role
    content: Text
    thinking: Text = ""
    """What an assistant thought before it said this."""
    tool_calls: Text = ""
    """The calls of an assistant, as the JSON of a list. As text, because columnar files would give
    each call the arguments of all others."""
    tool_call_id: Text = ""
    """Which call a tool answers."""
    name: Text = ""
    """Which tool answers, or who of several speakers it is."""
    weight: Literal[0, 1] = 1
    """0 for an assistant turn that is context only and is not imitated."""

    @property
    def plain(self) -> bool:
        """Whether there is nothing but a role and its text."""
        return self == Message(self.role, self.content)

    @property
    def imitated(self) -> bool:
        """Whether an assistant said something here that a policy shall learn."""
        said = bool(self.content.strip() or self.thinking or self.tool_calls)
        return self.role == "assistant" and self.weight == 1 and said

    @property
    def turn(self) -> dict[str, Any]:
        """The keys that chat templates read. Thoughts stand under each of their usual names."""
        thoughts = ("thinking", "reasoning_content", "reasoning") if self.thinking else ()
        given = {"tool_call_id": self.tool_call_id, "name": self.name}
        return {
            "role": self.role,
            "content": self.content,
            **dict.fromkeys(thoughts, self.thinking),
            **({"tool_calls": json.loads(self.tool_calls)} if self.tool_calls else {}),
            **{key: value for key, value in given.items() if value},
        }


@dataclass(frozen=True, slots=True, config=_STRICT)
class Prompt:
    """A conversation that ends where a response is due.

    ``id`` is the hash of the messages, so equal conversations are the same prompt wherever they
    came from; metadata does not enter it.
    """

    messages: tuple[Message, ...]
    metadata: Metadata = field(default_factory=dict, hash=False)
    tools: Text = ""
    """The tools that the assistant may call, as the JSON of a list of schemas."""

    @classmethod
    def from_text(cls, text: str, **metadata: Any) -> Self:  # noqa: ANN401 - free-form by design
        """A single user message."""
        return cls((Message("user", text),), metadata)

    @property
    def id(self) -> str:
        """Content hash of the messages."""
        parts: list[str] = []
        for m in self.messages:
            more = [
                m.thinking,
                m.tool_calls,
                m.tool_call_id,
                m.name,
            ]  # no trace where there is none
            parts += [m.role, m.content, *([json.dumps(more)] if any(more) else [])]
        return content_hash(*parts, *([self.tools] if self.tools else []))

    @property
    def text(self) -> str:
        """The messages as readable lines, for logs and word counters, never for a model."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{m.role.capitalize()}: {m.content}" for m in self.messages)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Response:
    """What a policy answered. ``policy`` names it and is never shown to a rater."""

    text: Text
    policy: Text = ""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Comparison:
    """One prompt and two responses in canonical order; the screen's sides live in the vote."""

    prompt: Prompt
    response_a: Response
    response_b: Response
    metadata: Metadata = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        """Hash of the prompt, both responses and who wrote them, in canonical order."""
        a, b = self.response_a, self.response_b
        return content_hash(self.prompt.id, a.text, a.policy, b.text, b.policy)

    def swapped(self) -> Self:
        """The same comparison with the responses in the other order."""
        return type(self)(self.prompt, self.response_b, self.response_a, self.metadata)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Vote:
    """One rater's outcome for one comparison, in canonical terms."""

    comparison: str
    rater: str
    outcome: Outcome
    a_side: Side
    """Where response a stood on the rater's screen."""
    strength: Annotated[int, Field(ge=1, le=3)] | None = None
    """How much better, 1 (slightly) to 3 (much); None if the rater did not say."""
    aspects: Metadata = field(default_factory=dict, hash=False)
    reason: Text = ""
    edited_text: Text | None = None
    shown_at: str = ""
    """ISO 8601, UTC."""
    answered_at: str = ""
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Preference:
    """A settled comparison: what a reward model or DPO trains on."""

    prompt: Prompt
    chosen: Text
    rejected: Text
    margin: float | None = None
    """|a - b| / n over the votes, in (0, 1]; None where nobody counted. Of ratings, the difference
    of the means over the width of the scale."""
    agreement: float | None = None
    """The winner's votes / n, in (0, 1]."""
    num_votes: int | None = None
    provenance: Metadata = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Feedback:
    """A pointwise rating: thumbs up or down for one response."""

    prompt: Prompt
    response: Text
    good: bool
    provenance: Metadata = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, config=_STRICT)
class Demonstration:
    """A conversation whose assistant turns are worth imitating."""

    messages: tuple[Message, ...]
    metadata: Metadata = field(default_factory=dict, hash=False)
    tools: Text = ""
    """As in :class:`Prompt`."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Tally:
    """How often each outcome was voted; skips are not counted."""

    a: int = 0
    b: int = 0
    tie: int = 0
    both_bad: int = 0

    @property
    def n(self) -> int:
        """Votes that count."""
        return self.a + self.b + self.tie + self.both_bad


def tally(votes: Iterable[Vote]) -> Tally:
    """Count the votes, leaving skips out."""
    outcomes = [vote.outcome for vote in votes]
    return Tally(*(outcomes.count(o) for o in ("a", "b", "tie", "both_bad")))


def settle(comparison: Comparison, votes: Sequence[Vote]) -> Preference | None:
    """The preference that the votes amount to, or None where neither response won.

    With n = a + b + tie + both_bad (skips dropped), a wins if it has more votes than b; margin is
    |a - b| / n and agreement is the winner's votes / n.
    """
    count = tally(votes)
    if count.a == count.b:
        return None
    a_won = count.a > count.b
    winner, loser = comparison.response_a, comparison.response_b
    if not a_won:
        winner, loser = loser, winner
    return Preference(
        prompt=comparison.prompt,
        chosen=winner.text,
        rejected=loser.text,
        margin=abs(count.a - count.b) / count.n,
        agreement=max(count.a, count.b) / count.n,
        num_votes=count.n,
        provenance={
            "comparison": comparison.id,
            "chosen_policy": winner.policy,
            "rejected_policy": loser.policy,
            **({"both_bad": count.both_bad} if count.both_bad else {}),
            **comparison.metadata,
        },
    )


Record = Prompt | Comparison | Vote | Preference | Feedback | Demonstration
R = TypeVar("R", bound=Record)


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def to_json(record: Record) -> dict[str, Any]:
    """``record`` as one JSON object; fields at their default are left out, ids are put in."""
    data = cast(
        "dict[str, Any]",
        _adapter(type(record)).dump_python(record, mode="json", exclude_defaults=True),
    )
    if isinstance(record, (Prompt, Comparison)):
        data = {"id": record.id, **data}
    if not isinstance(record, (Prompt, Vote, Demonstration)):
        data["prompt"] = to_json(record.prompt)
    return data


def from_json(kind: type[R], data: Mapping[str, Any]) -> R:
    """The record of type ``kind`` that a JSON object describes.

    Raises:
        ValueError: naming every field that is unknown, missing or of the wrong type, or an ``id``
            that is not the hash of the content (pydantic's ``ValidationError`` is a ValueError).
    """
    plain = dict(data)
    prompt = plain.get("prompt")
    if isinstance(prompt, Mapping):
        plain["prompt"] = {k: v for k, v in cast("Metadata", prompt).items() if k != "id"}
    claimed = plain.pop("id", None)
    record = _adapter(kind).validate_python(plain)
    if claimed is not None and claimed != getattr(record, "id", claimed):
        raise ValueError(f"id {claimed!r} is not the hash of the content; leave it out")
    return record
