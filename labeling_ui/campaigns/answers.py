"""What a rater sees and answers, in terms of the screen: places, and nothing of policies."""

import random
import secrets
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from labeling_ui.campaigns.tasks import SCALE, Kind, Settings
from rlhf.errors import DataError
from rlhf.records import STORABLE, Message

Choice = Literal[
    "left", "right", "tie", "both_bad", "good", "bad", "ranked", "rated", "rewritten", "skip"
]

_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)

RowId = Annotated[int, Field(ge=1, lt=1 << 63)]
"""A number that a database can hold."""

Mark = Annotated[int, Field(ge=SCALE[0], le=SCALE[-1])]
"""How good one response is by one aspect."""

MAX_REASON = 4000
MAX_REWRITE = 50_000
MAX_ELAPSED_MS = 7 * 24 * 3600 * 1000
"""A week; ``calls.js`` says no more either."""

CHOICES: Mapping[Kind, tuple[Choice, ...]] = {
    "pairwise": ("left", "right", "tie", "both_bad", "skip"),
    "ranking": ("ranked", "skip"),
    "rating": ("rated", "skip"),
    "thumbs": ("good", "bad", "skip"),
    "rewrite": ("rewritten", "skip"),
}
"""What may be said of a task of each kind, in terms of the screen."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a rater may see of a task."""

    assignment: int
    messages: tuple[Message, ...]
    responses: tuple[str, ...]
    """As they stand on the screen, from the left."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many a rater has answered, and how many there are for that rater."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Turn:
    """The item that is next for a rater, if any, and the rater's progress."""

    item: Item | None
    progress: Progress
    notice: str = ""
    """Why there is none, where it is not that all is done."""
    said: tuple["Said", ...] = ()
    """What raters answered, for one who decides."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of somebody else's, in terms of the screen of the one who decides."""

    choice: str
    ranking: tuple[tuple[int, ...], ...]
    """Places on the screen from 0, the best first; empty unless the task is a ranking."""
    strength: int | None
    reason: str
    aspects: Mapping[str, int] = field(default_factory=dict)
    """What each aspect was rated."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Answer:
    """A rater's answer; its ``key`` makes it harmless to send it again."""

    assignment: RowId
    choice: Choice
    key: Annotated[str, Field(pattern=r"^[\w.:/-]{1,128}$")]
    strength: Annotated[int, Field(ge=1, le=3)] | None = None
    """How much better the chosen side is, 1 (slightly) to 3 (much)."""
    aspects: Mapping[str, Literal["left", "right", "tie"] | Mark] = field(default_factory=dict)
    """By name: the better side where two are compared, 1 to 5 where one is rated."""
    ranking: tuple[tuple[int, ...], ...] | None = None
    """Places on the screen from 0, the best first; those in one group tie."""
    text: Annotated[str, Field(max_length=MAX_REWRITE), STORABLE] | None = None
    """The response as the rater would have it."""
    reason: Annotated[str, Field(max_length=MAX_REASON), STORABLE] = ""
    elapsed_ms: Annotated[int, Field(ge=0, le=MAX_ELAPSED_MS)] | None = None
    """Milliseconds from seeing the item to the decision; from when it was handed out if None."""

    def __post_init__(self) -> None:
        if self.strength is not None and self.choice not in ("left", "right"):
            raise ValueError("strength goes with a choice of left or right; leave it out")

    def check(self, settings: Settings, num_responses: int) -> None:
        """Whether a campaign of such settings takes it.

        Raises:
            DataError: naming what is missing or does not belong.
        """
        kind = settings.kind
        allowed = [c for c in CHOICES[kind] if settings.ties or c not in ("tie", "both_bad")]
        if self.choice not in allowed:
            raise DataError(f"choice: this campaign takes {', '.join(allowed)}")
        if self.choice == "skip":
            return
        self._check_aspects(settings)
        self._check_ranking(kind, num_responses)
        if (self.text is not None) != (kind == "rewrite") or self.text == "":
            raise DataError("text: goes with campaigns of kind rewrite, and must be there")
        if self.choice in ("left", "right"):
            self._check_strength(settings)

    def _check_ranking(self, kind: Kind, num_responses: int) -> None:
        if (self.ranking is not None) != (kind == "ranking"):
            raise DataError("ranking: goes with campaigns of kind ranking, and must be there")
        if self.ranking is not None:
            places = sorted(place for group in self.ranking for place in group)
            if places != list(range(num_responses)) or not all(self.ranking):
                raise DataError(f"ranking: must hold each place from 0 to {num_responses - 1} once")

    def _check_strength(self, settings: Settings) -> None:
        if self.strength is None and settings.strength == "required":
            raise DataError("strength: is required here, from 1 (slightly) to 3 (much)")
        if self.strength is not None and settings.strength == "no":
            raise DataError("strength: is not asked here; leave it out")

    def _check_aspects(self, settings: Settings) -> None:
        unknown = self.aspects.keys() - set(settings.aspects)
        if unknown:
            raise DataError(f"aspects: {min(unknown)!r} is not asked here; leave it out")
        missing = set(settings.aspects) - self.aspects.keys()
        if settings.kind == "rating" and missing:
            raise DataError(f"aspects: {min(missing)!r} is missing")
        numbers = settings.kind != "pairwise"
        if any(isinstance(value, int) != numbers for value in self.aspects.values()):
            raise DataError(f"aspects: say {'1 to 5' if numbers else 'left, right or tie'} each")


@dataclass(frozen=True, slots=True, config=_STRICT)
class Flag:
    """Something that is wrong with an item."""

    assignment: RowId
    kind: Annotated[str, Field(max_length=80), STORABLE]
    note: Annotated[str, Field(max_length=2000), STORABLE] = ""


def draw_order(num_responses: int) -> str:
    """The responses in an unpredictable order, a digit for each place from the left."""
    places = list(range(num_responses))
    random.SystemRandom().shuffle(places)
    return "".join(map(str, places))


def chance() -> float:
    """From 0 to 1, unpredictably."""
    return secrets.randbelow(2**53) / 2**53


def seen_at(handed_out: str, now: str, elapsed_ms: int | None) -> str:
    """When a rater saw an item: ``elapsed_ms`` ago, but not before it was handed out.

    The rater's own clock is not asked, because it may be wrong. Times are as the store has them;
    what was never handed out has none.
    """
    if elapsed_ms is None or not handed_out:
        return handed_out
    ago = datetime.fromisoformat(now) - timedelta(milliseconds=elapsed_ms)
    return min(now, max(handed_out, ago.isoformat(timespec="milliseconds")))


def meaning(answer: Answer, order: str) -> tuple[str, dict[str, Any]]:
    """The outcome, and what else was answered, by response rather than by place."""

    def side(value: str) -> str:
        """Of a pair."""
        if value not in ("left", "right"):
            return value
        return "ab"[int(order[0 if value == "left" else 1])]

    content: dict[str, Any] = {}
    if answer.choice != "skip":
        if answer.aspects:
            content["aspects"] = {
                name: side(value) if isinstance(value, str) else value
                for name, value in answer.aspects.items()
            }
        if answer.ranking is not None:
            groups = [[int(order[place]) for place in group] for group in answer.ranking]
            content["ranking"] = [sorted(group) for group in groups]
        if answer.text is not None:
            content["text"] = answer.text
    return side(answer.choice), content


def shown(
    outcome: str, content: Mapping[str, Any], order: str
) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """What was meant, on a screen of that order: the choice, and the places that were ranked."""
    if outcome in ("a", "b"):
        outcome = ("left", "right")[order.index("01"["ab".index(outcome)])]
    ranking = content.get("ranking", ())
    return outcome, tuple(tuple(order.index(str(place)) for place in group) for group in ranking)


def marks(content: Mapping[str, Any]) -> dict[str, int]:
    """What each aspect was rated; nothing where two were compared."""
    aspects: Mapping[str, Any] = content.get("aspects", {})
    return {name: mark for name, mark in aspects.items() if isinstance(mark, int)}
