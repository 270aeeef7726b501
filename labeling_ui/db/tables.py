"""The tables of the label database.

Votes are only ever added: a vote that no longer counts is retired by a later row that supersedes
it, and triggers in the database refuse anything else. What a response *means* (its place in the
task) is kept apart from where it stood on the screen: that order belongs to the assignment, drawn
when it is handed out.
"""

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

OUTCOMES = (
    "a", "b", "tie", "both_bad", "good", "bad", "ranked", "rated", "rewritten", "skip", "undone",
)  # fmt: skip
USES = ("work", "check", "qualify")
ROLES = ("guest", "rater", "adjudicator", "admin")


def _where(column: str, value: bool) -> dict[str, Any]:
    """A partial index; SQLite uses it only for a condition written like its own."""
    return {
        "sqlite_where": text(f"{column} = {int(value)}"),
        "postgresql_where": text(column if value else f"NOT {column}"),
    }


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, values))})", name=f"known_{column}")


class Base(DeclarativeBase):
    """The tables of the label database."""

    metadata = MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s",
            "uq": "%(table_name)s_%(column_0_N_name)s_once",
            "ck": "%(table_name)s_%(constraint_name)s",
            "fk": "%(table_name)s_%(column_0_N_name)s_of_%(referred_table_name)s",
            "pk": "%(table_name)s_pk",
        }
    )


class UserRow(Base):
    """Somebody who may sign in."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    handle: Mapped[str] = mapped_column(unique=True)
    """The name as it is compared, in lower case."""
    role: Mapped[str]
    password_hash: Mapped[str]
    """Empty where there is no password: then only a token signs in."""
    created_at: Mapped[str]
    __table_args__ = (_one_of("role", ROLES),)


class TokenRow(Base):
    """A key with which a program signs in as a user; only its hash is kept."""

    __tablename__ = "token"
    id: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("person.id"), index=True)
    created_at: Mapped[str]
    revoked_at: Mapped[str | None]


class InvitationRow(Base):
    """A link with which somebody makes an account; only its hash is kept."""

    __tablename__ = "invitation"
    id: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    uses_left: Mapped[int]
    expires_at: Mapped[str]
    created_at: Mapped[str]
    __table_args__ = (
        _one_of("role", ROLES),
        CheckConstraint("uses_left >= 0", name="is_counted"),
    )


class AuditRow(Base):
    """Something that somebody did to the database, apart from voting."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    """None for the command line."""
    action: Mapped[str]
    detail: Mapped[str] = mapped_column(Text)
    """JSON."""


class CampaignRow(Base):
    """A set of tasks, each to be answered by ``overlap`` raters."""

    __tablename__ = "campaign"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    overlap: Mapped[int]
    settings: Mapped[str] = mapped_column(Text)
    """:class:`labeling_ui.campaigns.tasks.Settings` as JSON; its overlap is that of the column."""
    num_tasks: Mapped[int] = mapped_column(default=0)
    """Those whose use is work, as in ``num_complete``."""
    num_complete: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[str]
    __table_args__ = (CheckConstraint("overlap >= 1", name="has_raters"),)


class GuidelineRow(Base):
    """What raters of a campaign are told, version by version."""

    __tablename__ = "guideline"
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[str]


class TaskRow(Base):
    """A task of a campaign; ``num_votes`` counts the votes that fill its places."""

    __tablename__ = "task"
    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    key: Mapped[str]
    """The same whatever the order of the responses, so that nothing is asked twice."""
    record: Mapped[str] = mapped_column(Text)
    """The :class:`labeling_ui.campaigns.tasks.Task` as JSON, policies included."""
    use: Mapped[str] = mapped_column(default="work")
    rank: Mapped[float] = mapped_column(default=0.0)
    """Active selection hands out the lowest first."""
    shuffle: Mapped[float] = mapped_column(default=0.0)
    """From 0 to 1, drawn once: the order of the random share."""
    num_votes: Mapped[int] = mapped_column(default=0)
    complete: Mapped[bool] = mapped_column(default=False)
    __table_args__ = (
        _one_of("use", USES),
        UniqueConstraint("campaign_id", "key"),
        *(
            Index(
                f"task_by_{name}",
                "campaign_id",
                "use",
                *columns,
                **_where("complete", False),
            )
            for name, columns in {
                "number": ["id"],
                "rank": ["rank", "id"],
                "shuffle": ["shuffle", "id"],
            }.items()
        ),
    )


class AssignmentRow(Base):
    """A task handed, or to be handed, to a rater, with the order of the responses on the screen.

    While it is open and not expired it holds one of the task's places.
    """

    __tablename__ = "assignment"
    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    order: Mapped[str] = mapped_column("shown_order")
    """A digit per place on the screen, from the left: which response of the task stands there."""
    source: Mapped[str]
    """What chose it: ``order``, ``active``, ``random``, ``list``, ``arena``, ``check`` or
    ``adjudicate``."""
    shown_at: Mapped[str]
    expires_at: Mapped[str]
    open: Mapped[bool] = mapped_column(default=True)
    __table_args__ = (
        UniqueConstraint("task_id", "rater_id"),
        Index(
            "assignment_open", "rater_id", "campaign_id", "id",
            **_where("open", True),
        ),
    )  # fmt: skip


class VoteRow(Base):
    """An answer, or its withdrawal (outcome ``undone``)."""

    __tablename__ = "vote"
    id: Mapped[int] = mapped_column(primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), index=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    rater_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    outcome: Mapped[str]
    strength: Mapped[int | None]
    content: Mapped[str] = mapped_column(Text, default="{}")
    """What else was answered, by response rather than by side, as JSON."""
    reason: Mapped[str] = mapped_column(Text, default="")
    shown_at: Mapped[str] = mapped_column(default="")
    answered_at: Mapped[str]
    key: Mapped[str]
    """Made by the rater's program; the same key again is the same vote."""
    guideline: Mapped[int] = mapped_column(default=0)
    """The version of the guidelines that was in force; 0 before there were any."""
    supersedes: Mapped[int | None] = mapped_column(ForeignKey("vote.id"))
    surplus: Mapped[bool] = mapped_column(default=False)
    """It came after its place had gone to somebody else: kept, and not counted."""
    live: Mapped[bool]
    __table_args__ = (
        _one_of("outcome", OUTCOMES),
        CheckConstraint("strength BETWEEN 1 AND 3", name="known_strength"),
        UniqueConstraint("rater_id", "key"),
        Index(
            "vote_one_live", "task_id", "rater_id",
            unique=True, **_where("live", True),
        ),
        Index(
            "vote_of_rater", "rater_id", "campaign_id", "id",
            **_where("live", True),
        ),
        Index("vote_of_campaign", "campaign_id", **_where("live", True)),
    )  # fmt: skip


class FlagRow(Base):
    """Something wrong with a task that a rater points out."""

    __tablename__ = "flag"
    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"), index=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    user_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    kind: Mapped[str]
    note: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[str]
    __table_args__ = (UniqueConstraint("task_id", "user_id", "kind"),)
