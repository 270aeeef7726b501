"""Which comparison a rater gets, and how far along the rater is.

A comparison has as many places as its campaign has ``overlap``. A live vote fills one (a skip
does not: somebody else is asked), and an assignment that was handed out keeps one free until it
expires.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from labeling_ui.ballot import Item, Progress
from labeling_ui.store import AssignmentRow, CampaignRow, ComparisonRow, VoteRow
from rlhf.records import Comparison, Side, from_json

LEASE = timedelta(minutes=30)
"""How long a comparison is kept for the rater who has it on screen."""


def next_item(
    session: Session, campaign: CampaignRow, rater: int, now: datetime, draw: Callable[[], Side]
) -> Item | None:
    """What the rater has open already, else a new comparison with a side drawn for it."""
    held = _held(session, campaign, rater, stamp(now))
    if held is not None:
        keep(held, now)
        return item_of(session, held)
    comparison = _unseen(session, campaign, rater, stamp(now))
    if comparison is None:
        return None
    assignment = AssignmentRow(
        campaign_id=campaign.id,
        comparison_id=comparison.id,
        rater_id=rater,
        a_side=draw(),
        shown_at=stamp(now),
        open=True,
    )
    keep(assignment, now)
    session.add(assignment)
    session.flush()
    return item_of(session, assignment)


def _held(session: Session, campaign: CampaignRow, rater: int, now: str) -> AssignmentRow | None:
    """The oldest item that the rater has open, unless it expired and its place is taken."""
    return session.scalar(
        select(AssignmentRow)
        .join(ComparisonRow, ComparisonRow.id == AssignmentRow.comparison_id)
        .where(
            AssignmentRow.rater_id == rater,
            AssignmentRow.campaign_id == campaign.id,
            AssignmentRow.open,
            or_(AssignmentRow.expires_at > now, _has_place(campaign, rater, now)),
        )
        .order_by(AssignmentRow.id)
        .limit(1)
    )


def _unseen(session: Session, campaign: CampaignRow, rater: int, now: str) -> ComparisonRow | None:
    """The first comparison with a place that the rater never had."""
    mine = aliased(AssignmentRow)
    return session.scalar(
        select(ComparisonRow)
        .where(
            ComparisonRow.campaign_id == campaign.id,
            ~ComparisonRow.complete,
            ~exists().where(mine.comparison_id == ComparisonRow.id, mine.rater_id == rater),
            _has_place(campaign, rater, now),
        )
        .order_by(ComparisonRow.id)
        .limit(1)
    )


def _has_place(campaign: CampaignRow, rater: int, now: str) -> ColumnElement[bool]:
    """Whether votes and other raters' open items leave a place in the comparison at hand."""
    others = aliased(AssignmentRow)
    held = (
        select(func.count())
        .where(
            others.comparison_id == ComparisonRow.id,
            others.rater_id != rater,
            others.open,
            others.expires_at > now,
        )
        .scalar_subquery()
    )
    return ComparisonRow.num_votes + held < campaign.overlap


def keep(assignment: AssignmentRow, now: datetime) -> None:
    """Keep a place for the assignment from ``now``."""
    assignment.expires_at = stamp(now + LEASE)


def item_of(session: Session, assignment: AssignmentRow) -> Item:
    """What the rater sees: the responses on the sides that were drawn."""
    comparison = load_comparison(session.get_one(ComparisonRow, assignment.comparison_id))
    left, right = comparison.response_a.text, comparison.response_b.text
    if assignment.a_side == "right":
        left, right = right, left
    return Item(assignment.id, comparison.prompt.messages, left, right)


def load_comparison(row: ComparisonRow) -> Comparison:
    """The record in a row."""
    return from_json(Comparison, json.loads(row.record))


def live_votes(campaign: CampaignRow, rater: int) -> ColumnElement[bool]:
    """The rater's votes in the campaign that count."""
    return and_(VoteRow.rater_id == rater, VoteRow.campaign_id == campaign.id, VoteRow.live)


def progress_of(session: Session, campaign: CampaignRow, rater: int) -> Progress:
    """Answered by the rater, and that plus what others left to do."""
    done, still_open = (
        session.execute(
            select(func.count(), func.count().filter(~ComparisonRow.complete))
            .join_from(VoteRow, ComparisonRow, ComparisonRow.id == VoteRow.comparison_id)
            .where(live_votes(campaign, rater))
        )
        .one()
        .tuple()
    )
    to_do = campaign.num_comparisons - campaign.num_complete - still_open
    return Progress(done, done + to_do)


def stamp(moment: datetime) -> str:
    """ISO 8601 in UTC, of one width, so that the order of texts is the order of times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
