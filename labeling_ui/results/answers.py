"""What the votes of a campaign amount to: how far it is, and what was answered."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from labeling_ui.campaigns.setup import find_campaign
from labeling_ui.campaigns.tasks import Task
from labeling_ui.db.store import Store
from labeling_ui.db.tables import AssignmentRow, CampaignRow, TaskRow, UserRow, VoteRow

COMPARABLE = ("a", "b", "tie", "both_bad", "good", "bad")
"""The outcomes that say all of what a rater answered."""


@dataclass(frozen=True, slots=True)
class RaterCount:
    """How much one rater did."""

    name: str
    votes: int
    skips: int


@dataclass(frozen=True, slots=True)
class Status:
    """How far a campaign is. ``votes`` and ``agreement`` leave skips and checks out."""

    name: str
    overlap: int
    comparisons: int
    complete: int
    votes: int
    skips: int
    raters: tuple[RaterCount, ...]
    agreement: float | None
    """Chance that two raters of the same task gave the same outcome, adjudicators apart.

    None without two such votes on anything, and where an answer is more than an outcome.
    """


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer that counts, by response rather than by side."""

    task: int
    rater: str
    outcome: str
    order: str
    """A digit per place on the screen: which response stood there."""
    source: str
    content: Mapping[str, Any] = field(hash=False)
    strength: int | None
    reason: str
    shown_at: str
    answered_at: str


def status_of(store: Store, name: str) -> Status:
    """How far campaign ``name`` is."""
    with store.read() as session:
        return status(session, find_campaign(session, name))


def all_status(store: Store) -> list[Status]:
    """How far every campaign is, oldest first."""
    with store.read() as session:
        campaigns = session.scalars(select(CampaignRow).order_by(CampaignRow.id)).all()
        return [status(session, campaign) for campaign in campaigns]


def status(session: Session, campaign: CampaignRow) -> Status:
    """How far ``campaign`` is."""
    from rlhf.evaluate.agreement import agreeing_share, count_values

    live = (VoteRow.campaign_id == campaign.id, VoteRow.live, TaskRow.use == "work")
    skips = func.count().filter(VoteRow.outcome == "skip")
    raters = session.execute(
        select(UserRow.name, func.count() - skips, skips)
        .join_from(VoteRow, UserRow, UserRow.id == VoteRow.rater_id)
        .join(TaskRow, TaskRow.id == VoteRow.task_id)
        .where(*live)
        .group_by(UserRow.id, UserRow.name)
        .order_by(func.count().desc(), UserRow.name)
    ).all()
    outcomes = session.execute(
        select(VoteRow.task_id, VoteRow.outcome)
        .join_from(VoteRow, TaskRow, TaskRow.id == VoteRow.task_id)
        .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
        .where(*live, AssignmentRow.source != "adjudicate", VoteRow.outcome.in_(COMPARABLE))
    )
    given = count_values(((row.task_id, row.outcome) for row in outcomes), COMPARABLE)
    counts = tuple(RaterCount(*row) for row in raters)
    return Status(
        name=campaign.name,
        overlap=campaign.overlap,
        comparisons=campaign.num_tasks,
        complete=campaign.num_complete,
        votes=sum(rater.votes for rater in counts),
        skips=sum(rater.skips for rater in counts),
        raters=counts,
        agreement=agreeing_share(given),
    )


def tasks_of(session: Session, campaign: CampaignRow) -> dict[int, Task]:
    """The work of a campaign, by number."""
    return tasks_where(session, TaskRow.campaign_id == campaign.id, TaskRow.use == "work")


def tasks_where(session: Session, *which: ColumnElement[bool]) -> dict[int, Task]:
    """Tasks by number, in the order in which they came."""
    rows = session.execute(select(TaskRow.id, TaskRow.record).where(*which).order_by(TaskRow.id))
    return {number: Task.from_text(record) for number, record in rows}


def answers_of(session: Session, campaign: CampaignRow) -> dict[int, list[GivenAnswer]]:
    """The answers of a campaign that count, by task, in the order in which they came."""
    found: defaultdict[int, list[GivenAnswer]] = defaultdict(list)
    for one in given_where(session, VoteRow.campaign_id == campaign.id, VoteRow.live.is_(True)):
        found[one.task].append(one)
    return found


def given_where(session: Session, *which: ColumnElement[bool]) -> list[GivenAnswer]:
    """Answers by task, in the order in which they came."""
    rows = session.execute(
        select(
            VoteRow.task_id,
            UserRow.name,
            VoteRow.outcome,
            AssignmentRow.order,
            AssignmentRow.source,
            VoteRow.content,
            VoteRow.strength,
            VoteRow.reason,
            VoteRow.shown_at,
            VoteRow.answered_at,
        )
        .join_from(VoteRow, UserRow, UserRow.id == VoteRow.rater_id)
        .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
        .where(*which)
        .order_by(VoteRow.task_id, VoteRow.id)
    )
    return [
        GivenAnswer(
            task=row.task_id,
            rater=row.name,
            outcome=row.outcome,
            order=row.order,
            source=row.source,
            content=json.loads(row.content),
            strength=row.strength,
            reason=row.reason,
            shown_at=row.shown_at,
            answered_at=row.answered_at,
        )
        for row in rows
    ]
