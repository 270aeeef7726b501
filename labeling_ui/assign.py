"""Which comparison a rater gets, and how far along the rater is.

A comparison has as many places as its campaign has ``overlap``. A live vote fills one (a skip
does not: somebody else is asked), and an assignment that was handed out keeps one free until it
expires.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from labeling_ui.ballot import Item, Progress
from labeling_ui.store import AssignmentRow, CampaignRow, ComparisonRow, VoteRow
from rlhf.records import Comparison, Side, from_json

LEASE = timedelta(minutes=30)
"""How long a comparison is kept for the rater who has it on screen."""


# The statements of every vote are built once: building them costs more than running them.
_mine, _others = aliased(AssignmentRow), aliased(AssignmentRow)
_campaign, _rater, _now = bindparam("campaign"), bindparam("rater"), bindparam("now")

_HELD_BY_OTHERS = (
    select(func.count())
    .where(
        _others.comparison_id == ComparisonRow.id,
        _others.rater_id != _rater,
        _others.open,
        _others.expires_at > _now,
    )
    .scalar_subquery()
)
_HAS_PLACE = ComparisonRow.num_votes + _HELD_BY_OTHERS < bindparam("overlap")

# The oldest item that the rater has open, unless it expired and its place is taken.
_OPEN = (
    select(AssignmentRow)
    .join(ComparisonRow, ComparisonRow.id == AssignmentRow.comparison_id)
    .where(
        AssignmentRow.rater_id == _rater,
        AssignmentRow.campaign_id == _campaign,
        AssignmentRow.open,
        or_(AssignmentRow.expires_at > _now, _HAS_PLACE),
    )
    .order_by(AssignmentRow.id)
    .limit(1)
)

# The first comparison with a place that the rater never had.
_UNSEEN = (
    select(ComparisonRow)
    .where(
        ComparisonRow.campaign_id == _campaign,
        ~ComparisonRow.complete,
        ~exists().where(_mine.comparison_id == ComparisonRow.id, _mine.rater_id == _rater),
        _HAS_PLACE,
    )
    .order_by(ComparisonRow.id)
    .limit(1)
)

_PROGRESS = (
    select(func.count(), func.count().filter(~ComparisonRow.complete))
    .join_from(VoteRow, ComparisonRow, ComparisonRow.id == VoteRow.comparison_id)
    .where(VoteRow.rater_id == _rater, VoteRow.campaign_id == _campaign, VoteRow.live)
)


def next_item(
    session: Session, campaign: CampaignRow, rater: int, now: datetime, draw: Callable[[], Side]
) -> Item | None:
    """What the rater has open already, else a new comparison with a side drawn for it."""
    values = {
        "campaign": campaign.id,
        "rater": rater,
        "now": stamp(now),
        "overlap": campaign.overlap,
    }
    held = session.scalar(_OPEN, values)
    if held is not None:
        keep(held, now)
        return item_of(session, held)
    comparison = session.scalar(_UNSEEN, values)
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


def progress_of(session: Session, campaign: CampaignRow, rater: int) -> Progress:
    """Answered by the rater, and that plus what others left to do."""
    values = {"campaign": campaign.id, "rater": rater}
    done, still_open = session.execute(_PROGRESS, values).one()
    to_do = campaign.num_comparisons - campaign.num_complete - still_open
    return Progress(done, done + to_do)


def stamp(moment: datetime) -> str:
    """ISO 8601 in UTC, of one width, so that the order of texts is the order of times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
