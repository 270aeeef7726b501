"""What other labelling tools hold: a prompt, its responses, and what people there said of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, cast

from rlhf.data.readers.cells import text_at
from rlhf.data.readers.dialogue import Row, RowError, conversation
from rlhf.data.readers.votes import Judged
from rlhf.records import Comparison, Message, Metadata, Outcome, Prompt, Response, Vote


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one person said of all responses of a row."""

    rater: str
    places: tuple[int, ...]
    """The place of each response, 0 for the best; equal ones tie."""
    both_bad: bool = False
    key: str = ""
    """What tells it from the other ballots on the same responses, wherever else it is listed."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """One row of another tool's export."""

    prompt: Prompt
    responses: tuple[Response, ...]
    ballots: tuple[Ballot, ...] = ()
    metadata: Metadata = field(default_factory=dict[str, Any], hash=False)
    unclear: int = 0
    """Answers beside the ballots that do not say which response is better."""
    no_answers: tuple[str, ...] = ()
    """What was no answer at all, and why."""

    def judged(self) -> Iterator[Judged]:
        """Every two of the responses, with the votes on them."""
        numbered = enumerate(self.responses)
        for (i, a), (j, b) in combinations(numbered, 2):
            comparison = Comparison(self.prompt, a, b, self.metadata)
            votes = tuple(_vote(comparison.id, one, i, j) for one in self.ballots)
            yield Judged(comparison, votes, tuple(one.key for one in self.ballots))


def _vote(comparison: str, ballot: Ballot, a: int, b: int) -> Vote:
    first, second = ballot.places[a], ballot.places[b]
    outcome: Outcome = "a" if first < second else "b" if second < first else "tie"
    return Vote(comparison, ballot.rater, "both_bad" if ballot.both_bad else outcome, "left")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is sound but of no use, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Names:
    """What the columns are called; what is not given is looked for under the usual names."""

    prompt: str | None = None
    responses: tuple[str, ...] = ()
    question: str | None = None
    """Which of several questions says what is better."""


Found = Gathered | LeftOut
UNCLEAR = LeftOut("answer that names no response")

_RESPONSE = re.compile(
    r"(?:response|answer|completion|output|generation|text)[-_ ]?(?:\d+|[a-z])|left|right",
    re.IGNORECASE,
)
_PROMPT = ("prompt", "instruction", "question", "input", "query", "chat", "conversation")


def prompt_name(row: Row, names: Names) -> str:
    """The column that holds the prompt."""
    wanted = (names.prompt,) if names.prompt else _PROMPT
    name = next((n for n in wanted if row.get(n) not in (None, "")), None)
    if name is None:
        raise RowError(f"no prompt under {listed(wanted)}; there is {listed(row)}: name it")
    return name


def prompt_of(row: Row, names: Names) -> Prompt:
    """The prompt of a row: a text, or the messages of a conversation."""
    name = prompt_name(row, names)
    value: object = row[name]
    if isinstance(value, list):
        return Prompt(conversation(cast("object", value)))
    return Prompt((Message("user", text_at(row, name)),))


def response_names(row: Row, names: Names) -> tuple[str, ...]:
    """The columns that hold the responses, the first on the left."""
    if names.responses:
        if missing := [name for name in names.responses if row.get(name) is None]:
            raise RowError(f"no response under {listed(missing)}; there is {listed(row)}")
        return names.responses
    found = sorted((n for n in row if _RESPONSE.fullmatch(n) and row[n] is not None), key=_order)
    single = [n for n in ("response", "completion", "output", "answer") if row.get(n) is not None]
    if not found and not single:
        raise RowError(f"no responses among {listed(row)}; name them")
    return tuple(found or single[:1])


def _order(name: str) -> tuple[object, ...]:
    """Numbers count as numbers: response-10 comes after response-9."""
    stem, digits = cast("re.Match[str]", re.fullmatch(r"(.*?)(\d*)", name, re.DOTALL)).groups()
    return (stem, int(digits or 0))


def listed(names: Sequence[str] | Mapping[str, object]) -> str:
    """The first dozen of the names, for people who read an error message."""
    shown = [f"`{name}`" for name in list(names)[:12]]
    return ", ".join(shown) + (", …" if len(names) > 12 else "") if shown else "nothing"


def objects(value: object) -> list[Row]:
    """The objects in a list; anything else is none."""
    entries = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Row", entry) for entry in entries if isinstance(entry, Mapping)]


def useful(found: Gathered) -> Found:
    """The row, unless there is nothing to judge in it."""
    texts = [response.text.strip() for response in found.responses]
    if not all(texts):
        return LeftOut("empty answer")
    if len(set(texts)) < len(texts):
        return LeftOut("same answers")
    return found
