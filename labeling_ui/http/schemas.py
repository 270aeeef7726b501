"""What the HTTP API answers, for its description; a test holds the handlers to it.

What a rater can receive has no policy and no side in it.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from labeling_ui.accounts.users import UserRole
from labeling_ui.campaigns.tasks import Kind
from rlhf.records import Role, Vote

Rows = list[dict[str, Any]]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Refusal(_Answer):
    """Why not, in one sentence that says what to do."""

    detail: str


class Done(_Answer):
    """It is done."""

    ok: Literal[True]


class Who(_Answer):
    """Somebody with an account."""

    name: str
    role: UserRole


class WhoWithToken(Who):
    """Somebody new, and the token with which a program signs in as them."""

    token: str


class NewToken(_Answer):
    """A token; it is shown this once."""

    token: str


class TokenKept(_Answer):
    """A token without its text."""

    id: int
    user: str
    created_at: str


class NewLink(_Answer):
    """The path of an invitation; it is shown this once."""

    link: str


class InvitationKept(_Answer):
    """An invitation without its text."""

    id: int
    role: UserRole
    uses_left: int
    expires_at: str


class LogEntry(_Answer):
    """Something that somebody did; ``user`` is null for the command line."""

    id: int
    at: str
    user: str | None
    action: str
    detail: dict[str, Any]


class Language(_Answer):
    """The words of the pages in one language, and the names of all languages."""

    language: str
    direction: Literal["ltr", "rtl"]
    texts: dict[str, str]
    languages: dict[str, str]


class Shown(_Answer):
    """One turn of a conversation."""

    role: Role
    content: str


class Rendered(_Answer):
    """The same texts as HTML that is safe to show."""

    messages: list[str]
    responses: list[str]


class ItemShown(_Answer):
    """What is to be judged. The responses are in the order of the screen, from the left."""

    assignment: int
    messages: list[Shown]
    responses: list[str]
    html: Rendered | None = None


class ProgressShown(_Answer):
    """How many the caller has answered, and how many there are for the caller."""

    done: int
    total: int


class SaidShown(_Answer):
    """What a rater answered, for one who decides; places on the screen are counted from 0."""

    choice: str
    ranking: list[list[int]]
    strength: int | None
    reason: str
    aspects: dict[str, int]


class TurnShown(_Answer):
    """What is next, null if nothing is; ``notice`` says why where not all is done."""

    item: ItemShown | None
    progress: ProgressShown
    notice: str
    said: list[SaidShown] | None = None


class Saved(TurnShown):
    """The number of the answer that was stored, and what is next."""

    saved: int


class RenderedMessage(_Answer):
    """A turn of a conversation as HTML that is safe to show."""

    role: Role
    html: str


class BattleShown(_Answer):
    """Two answers of policies without names, from the left; texts are HTML that is safe to show."""

    assignment: int
    messages: list[RenderedMessage]
    responses: list[str]


class BattleOpen(_Answer):
    """The battle that waits for the caller's vote, if any."""

    item: BattleShown | None


class Judged(_Answer):
    """The number of the vote, and who answered, from the left; nobody if it was skipped."""

    saved: int
    policies: list[str]


class PoliciesShown(_Answer):
    """What the policies are called for the caller, in the order of their numbers."""

    policies: list[str]


class DraftShown(_Answer):
    """How far the policies are with the prompts of a campaign."""

    campaign: str
    prompts: int
    answered: int
    problem: str
    going: bool


class DraftsShown(_Answer):
    """The policies that can answer, and the latest campaign that was made so."""

    policies: list[str]
    draft: DraftShown | None


class CampaignShown(_Answer):
    """A campaign as its raters see it; ``contested`` is for adjudicators."""

    name: str
    guidelines: str
    kind: Kind
    strength: Literal["no", "optional", "required"]
    ties: bool
    aspects: list[str]
    progress: ProgressShown
    contested: int | None = None


class PastShown(_Answer):
    """An answer of the caller's."""

    vote: int
    choice: str
    answered_at: str
    prompt: str


class AddedShown(_Answer):
    """How many were new, and how many were there already."""

    added: int
    duplicates: int


class CampaignAdded(AddedShown):
    """What became of what was handed to a campaign."""

    name: str


class RaterShown(_Answer):
    """How much one rater did."""

    name: str
    votes: int
    skips: int


class StatusShown(_Answer):
    """How far a campaign is; ``agreement`` is of two raters on the same task."""

    name: str
    overlap: int
    comparisons: int
    complete: int
    votes: int
    skips: int
    raters: list[RaterShown]
    agreement: float | None


class Exported(_Answer):
    """The records of a campaign; which lists there are depends on what it asks."""

    comparisons: Rows | None = None
    votes: list[Vote] | None = None
    preferences: Rows
    ties: Rows | None = None
    feedback: Rows | None = None
    demonstrations: Rows | None = None
    answers: Rows | None = Field(default=None, description="Every answer, with its response.")
