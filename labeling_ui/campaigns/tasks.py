"""What is asked: a prompt with its responses, and the rules of the campaign that asks it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from itertools import combinations
from typing import Annotated, Any, Literal, Self, cast

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from rlhf.errors import DataError
from rlhf.records import STORABLE, Comparison, Prompt, Response, content_hash, from_json, to_json

Kind = Literal["pairwise", "ranking", "rating", "thumbs", "rewrite"]
Use = Literal["work", "gold", "attention", "qualify"]

_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)

NUM_RESPONSES: Mapping[Kind, tuple[int, int]] = {
    "pairwise": (2, 2),
    "ranking": (2, 9),
    "rating": (1, 1),
    "thumbs": (1, 1),
    "rewrite": (1, 1),
}
"""How few and how many responses a task of each kind has."""

CHECKED: Mapping[Kind, tuple[str, ...]] = {
    "pairwise": ("a", "b", "tie", "both_bad"),
    "thumbs": ("good", "bad"),
}
"""The outcomes that a task can expect, for the kinds in which an answer can be checked."""

SCALE = (1, 2, 3, 4, 5)
"""What an aspect of one response can be rated."""

MAX_TEXT = 200_000
"""Characters of a message or response."""

_MAX_DEPTH = 50
TOO_DEEP = f"is nested more than {_MAX_DEPTH} deep; flatten its metadata"


@dataclass(frozen=True, slots=True, config=_STRICT)
class Settings:
    """The rules of a campaign."""

    kind: Kind = "pairwise"
    """Choose between two, rank several, rate one by aspects, thumbs for one, rewrite one."""
    overlap: Annotated[int, Field(ge=1, le=100)] = 1
    """How many raters answer each task."""
    source: Literal["pool", "list", "arena"] = "pool"
    """Raters claim tasks from a pool, or each has a list, or makes them in the arena."""
    strength: Literal["no", "optional", "required"] = "optional"
    """Whether a choice between two says how much better, from 1 to 3."""
    ties: bool = True
    """Whether two responses may tie, or be both bad."""
    aspects: Annotated[
        tuple[Annotated[str, Field(max_length=40), STORABLE], ...], Field(max_length=10)
    ] = ()
    """What is also judged, as helpful, honest, harmless: which is better, or from 1 to 5."""
    lease_minutes: Annotated[float, Field(gt=0, le=10_080)] = 30.0
    """How long a task is kept for the rater who has it on screen and gives no sign of life."""
    quota: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None
    """The most answers of one rater."""
    skip: Literal["others", "later", "drop"] = "others"
    """Who gets a task that was skipped: other raters, the same rater at the end, or nobody."""
    check_every: Annotated[int, Field(ge=2)] | None = None
    """After so many answers comes a gold or attention item, as long as there are any."""
    max_failed_checks: Annotated[int, Field(ge=1)] | None = None
    """A rater who fails more attention items than this gets no more tasks; a skip fails one."""
    pass_mark: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of the qualification tasks that must be right, a skip not, to go on to the work."""
    random_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Below 1, the rest of the tasks comes in the order of active selection."""

    @property
    def checks_raters(self) -> bool:
        """Whether there are tasks whose right answer is known."""
        return self.pass_mark is not None or self.check_every is not None

    def __post_init__(self) -> None:
        if len(set(self.aspects)) < len(self.aspects) or not all(map(str.strip, self.aspects)):
            raise ValueError("aspects need names, each its own")
        if self.kind == "rating" and not self.aspects:
            raise ValueError("a rating needs aspects, as [helpful, honest, harmless]")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The settings that a JSON object in ``text`` describes."""
        return TypeAdapter(cls).validate_json(text)

    def to_text(self) -> str:
        """A JSON object of every rule, so that no later default changes a campaign that runs."""
        return json.dumps(asdict(self))

    @property
    def shown(self) -> dict[str, Any]:
        """What a rater's browser needs of them to draw the page."""
        return {
            "kind": self.kind,
            "strength": self.strength,
            "ties": self.ties,
            "aspects": list(self.aspects),
        }


@dataclass(frozen=True, slots=True, config=_STRICT)
class Task:
    """One prompt and its responses in canonical order; the screen's order lives elsewhere."""

    prompt: Prompt
    responses: tuple[Response, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    use: Use = "work"
    expected: str | None = None
    """The right outcome of a task that checks raters."""

    @classmethod
    def of(cls, comparison: Comparison) -> Self:
        """The task of choosing between two."""
        pair = (comparison.response_a, comparison.response_b)
        return cls(comparison.prompt, pair, comparison.metadata)

    @property
    def key(self) -> str:
        """The same for the same responses in another order; of two, the id of a comparison."""
        prompt, parts = self.prompt.id, [(r.text, r.policy) for r in self.responses]
        if len(parts) == 2:
            a, b = parts
            return min(content_hash(prompt, *a, *b), content_hash(prompt, *b, *a))
        return content_hash(prompt, *(text for part in sorted(parts) for text in part))

    def comparisons(self) -> list[Comparison]:
        """Every two of the responses, in order."""
        return [Comparison(self.prompt, a, b, self.metadata)
                for a, b in combinations(self.responses, 2)]  # fmt: skip

    def check(self, settings: Settings) -> None:
        """Whether such a task can be asked in a campaign of such settings.

        Raises:
            DataError: if not.
        """
        few, many = NUM_RESPONSES[settings.kind]
        count = len(self.responses)
        if not few <= count <= many:
            wanted = str(few) if few == many else f"{few} to {many}"
            raise DataError(f"a task of kind {settings.kind} has {wanted} responses, not {count}")
        if not self.prompt.messages:
            raise DataError("a prompt has one message at least; add what the responses answer")
        if self.prompt.tools or any(m.thinking or m.tool_calls for m in self.prompt.messages):
            raise DataError(
                "a prompt holds thoughts, calls of tools or their schemas, which raters would not "
                "see; write them into the messages' text"
            )
        texts = [m.content for m in self.prompt.messages] + [r.text for r in self.responses]
        if any(len(text) > MAX_TEXT for text in texts):
            raise DataError(f"a text has more than {MAX_TEXT:,} characters; shorten it")
        self._check_use(settings)

    def _check_use(self, settings: Settings) -> None:
        wanted = {"work": (), "qualify": ("pass_mark",)}.get(self.use, ("check_every",))
        for name in wanted:
            if getattr(settings, name) is None:
                raise DataError(f"{self.use} tasks are asked only where the settings say {name}")
        if (self.use == "work") != (self.expected is None):
            raise DataError("gold, attention and qualify tasks say what is expected, others do not")
        known = CHECKED.get(settings.kind, ())
        if self.expected is not None and self.expected not in known:
            said = f"one of {', '.join(known)}" if known else "no answer that can be checked"
            raise DataError(f"expected: a task of kind {settings.kind} has {said}")

    def to_text(self) -> str:
        """One JSON object.

        Raises:
            DataError: if it holds what no file can hold.
        """
        data: dict[str, Any] = {
            "prompt": to_json(self.prompt),
            "responses": [asdict(response) for response in self.responses],
            "metadata": dict(self.metadata),
            "use": self.use,
            "expected": self.expected,
        }
        kept = {k: v for k, v in data.items() if v not in (None, {}, "work")}
        text = json.dumps(kept, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"task {self.key}: its metadata holds a lone surrogate, which no file can hold; "
                "remove it"
            ) from error
        return text

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The task that :meth:`to_text` wrote."""
        return cls._of_json(json.loads(text))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A task, or a comparison as a task.

        Raises:
            ValueError: naming the field that is wrong.
        """
        if _is_deep(data):
            raise ValueError(TOO_DEEP)
        return cls._of_json(data)

    @classmethod
    def _of_json(cls, data: Mapping[str, Any]) -> Self:
        plain = dict(data)
        if "response_a" in plain:
            own = {name: plain.pop(name) for name in ("use", "expected") if name in plain}
            task = asdict(cls.of(from_json(Comparison, plain)))
            return _ADAPTER.validate_python(task | own)  # pyright: ignore[reportReturnType]
        prompt = plain.get("prompt")
        if isinstance(prompt, Mapping):
            plain["prompt"] = from_json(Prompt, cast("Mapping[str, Any]", prompt))
        return _ADAPTER.validate_python(plain)  # pyright: ignore[reportReturnType]


_ADAPTER = TypeAdapter(Task)


def _is_deep(data: Mapping[str, Any]) -> bool:
    """Whether it is nested further than what copies and writes it could follow."""
    level: list[object] = [data]
    for _ in range(_MAX_DEPTH):
        inner: list[object] = []
        for one in level:
            if isinstance(one, Mapping):
                inner += cast("Mapping[str, object]", one).values()
            elif isinstance(one, (list, tuple)):
                inner += cast("Sequence[object]", one)
        level = inner
    return bool(level)
