"""What a rater sees and answers, in terms of the screen: left, right, and nothing of policies."""

import secrets
from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field
from pydantic.dataclasses import dataclass

from rlhf.records import Message, Outcome, Side, Text

Choice = Literal["left", "right", "tie", "both_bad", "skip"]

MAX_REASON = 4000


@dataclass(frozen=True, slots=True)
class Item:
    """What a rater may see of a comparison."""

    assignment: int
    messages: tuple[Message, ...]
    left: str
    right: str


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


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Answer:
    """A rater's answer; its ``key`` makes it harmless to send it again."""

    assignment: Annotated[int, Field(ge=1, lt=1 << 63)]
    choice: Choice
    key: Annotated[str, Field(pattern=r"^[\w.:/-]{1,128}$")]
    strength: Annotated[int, Field(ge=1, le=3)] | None = None
    """How much better the chosen side is, 1 (slightly) to 3 (much)."""
    reason: Annotated[Text, Field(max_length=MAX_REASON)] = ""
    shown_at: AwareDatetime | None = None
    """When the rater saw the item; when it was handed out if None."""

    def __post_init__(self) -> None:
        if self.strength is not None and self.choice not in ("left", "right"):
            raise ValueError("strength goes with a choice of left or right; leave it out")


def draw_side() -> Side:
    """Left or right with equal chances, unpredictably."""
    return secrets.choice(("left", "right"))


def as_outcome(choice: Choice, a_side: Side) -> Outcome:
    """What a choice on the screen means when response a stood on ``a_side``."""
    if choice in ("left", "right"):
        return "a" if choice == a_side else "b"
    return choice
