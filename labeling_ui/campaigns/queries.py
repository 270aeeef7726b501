"""The statements of a vote, in terms of what a desk knows: rater, campaign, the time.

They are built once, for building one costs more than running it, and are run on the connection, for
the objects of rows cost more than the rows.
"""

from sqlalchemy import Boolean, Select, and_, bindparam, exists, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from labeling_ui.db.tables import AssignmentRow, CampaignRow, GuidelineRow, TaskRow, VoteRow

_mine, _others = aliased(AssignmentRow), aliased(AssignmentRow)
_campaign, _rater, _now = bindparam("campaign"), bindparam("rater"), bindparam("now")
_decides = bindparam("decides", type_=Boolean)

CAMPAIGN = select(
    CampaignRow.id,
    CampaignRow.name,
    CampaignRow.settings,
    CampaignRow.num_tasks,
    CampaignRow.num_complete,
    select(func.coalesce(func.max(GuidelineRow.version), 0))
    .where(GuidelineRow.campaign_id == CampaignRow.id)
    .scalar_subquery(),
).where(CampaignRow.name == bindparam("name"))

_HELD_BY_OTHERS = (
    select(func.count())
    .where(
        _others.task_id == TaskRow.id,
        _others.rater_id != _rater,
        _others.open,
        _others.expires_at > _now,
    )
    .scalar_subquery()
)
_HAS_PLACE = TaskRow.num_votes + _HELD_BY_OTHERS < bindparam("overlap")

_ASSIGNED = select(
    AssignmentRow.id,
    AssignmentRow.campaign_id,
    AssignmentRow.task_id,
    AssignmentRow.rater_id,
    AssignmentRow.order,
    AssignmentRow.source,
    AssignmentRow.shown_at,
    AssignmentRow.expires_at,
    AssignmentRow.open,
    TaskRow.use,
    TaskRow.record,
    TaskRow.num_votes,
    TaskRow.complete,
).join_from(AssignmentRow, TaskRow, TaskRow.id == AssignmentRow.task_id)
BY_NUMBER = _ASSIGNED.where(AssignmentRow.id == bindparam("number"))

# The oldest item that the rater has open, unless it expired and its place is taken.
OPEN = (
    _ASSIGNED.where(
        AssignmentRow.rater_id == _rater,
        AssignmentRow.campaign_id == _campaign,
        AssignmentRow.open,
        (AssignmentRow.source == "adjudicate") == _decides,
        or_(AssignmentRow.expires_at > _now, TaskRow.use != "work", _decides, _HAS_PLACE),
    )
    .order_by(AssignmentRow.id)
    .limit(1)
)

# The check that is on the screen of a rater whose list goes on with older assignments.
OPEN_CHECK = _ASSIGNED.where(
    AssignmentRow.rater_id == _rater,
    AssignmentRow.campaign_id == _campaign,
    AssignmentRow.open,
    AssignmentRow.source.in_(("qualify", "check")),
).limit(1)

_UNSEEN = (
    select(TaskRow.id, TaskRow.record)
    .where(
        TaskRow.campaign_id == _campaign,
        ~TaskRow.complete,
        ~exists().where(_mine.task_id == TaskRow.id, _mine.rater_id == _rater),
    )
    .limit(1)
)
_WORK = _UNSEEN.where(TaskRow.use == "work", _HAS_PLACE)

# The first task with a place that the rater never had, by the source that chooses it.
UNSEEN: dict[str, Select[int, str]] = {
    "order": _WORK.order_by(TaskRow.id),
    "active": _WORK.order_by(TaskRow.rank, TaskRow.id),
    "random": _WORK.order_by(TaskRow.shuffle, TaskRow.id),
    "qualify": _UNSEEN.where(TaskRow.use == "qualify").order_by(TaskRow.shuffle, TaskRow.id),
    "check": _UNSEEN.where(TaskRow.use == "check").order_by(TaskRow.shuffle, TaskRow.id),
}

_IS_WORK = TaskRow.use == "work"
PROGRESS = (
    select(
        func.count().filter(_IS_WORK),
        func.count().filter(_IS_WORK, ~TaskRow.complete),
        func.count().filter(~_IS_WORK),
        func.count().filter(_IS_WORK, VoteRow.outcome == "skip"),
    )
    .join_from(VoteRow, TaskRow, TaskRow.id == VoteRow.task_id)
    .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
    .where(
        VoteRow.rater_id == _rater,
        VoteRow.campaign_id == _campaign,
        VoteRow.live,
        AssignmentRow.source != "adjudicate",
    )
)

CHECKED = (
    select(VoteRow.outcome, TaskRow.record, VoteRow.id)
    .join_from(VoteRow, TaskRow, TaskRow.id == VoteRow.task_id)
    .where(VoteRow.rater_id == _rater, VoteRow.campaign_id == _campaign, VoteRow.live, ~_IS_WORK)
    .order_by(VoteRow.id)
)
SINCE = (
    select(func.count())
    .select_from(VoteRow)
    .where(
        VoteRow.rater_id == _rater,
        VoteRow.campaign_id == _campaign,
        VoteRow.live,
        VoteRow.id > bindparam("last"),
    )
)
SKIPPED = (
    select(VoteRow.id, VoteRow.assignment_id)
    .join(TaskRow, TaskRow.id == VoteRow.task_id)
    .where(
        VoteRow.rater_id == _rater,
        VoteRow.campaign_id == _campaign,
        VoteRow.live,
        VoteRow.outcome == "skip",
        _IS_WORK,
        _HAS_PLACE,
    )
    .order_by(VoteRow.id)
    .limit(1)
)
ON_LIST = select(func.count()).where(
    AssignmentRow.rater_id == _rater,
    AssignmentRow.campaign_id == _campaign,
    AssignmentRow.source == "list",
)
CHECKS = select(func.count()).where(TaskRow.campaign_id == _campaign, TaskRow.use == "check")
PLACE_LEFT = select(TaskRow.id).where(TaskRow.id == bindparam("task"), _HAS_PLACE)

TOUCH = (
    update(AssignmentRow)
    .where(AssignmentRow.id == bindparam("number"))
    .values(open=bindparam("is_open"), shown_at=bindparam("shown"), expires_at=bindparam("expires"))
)
HAND_OUT = insert(AssignmentRow).returning(AssignmentRow.id)
FILL = (
    update(TaskRow)
    .where(TaskRow.id == bindparam("task"))
    .values(num_votes=bindparam("votes"), complete=bindparam("is_complete"))
)
COMPLETE = (
    update(CampaignRow)
    .where(CampaignRow.id == bindparam("number"))
    .values(num_complete=bindparam("complete"))
)
RETIRE = update(VoteRow).where(VoteRow.id == bindparam("vote")).values(live=False)
ADD_VOTE = insert(VoteRow).returning(VoteRow.id)

# What may be the same vote, or stand in its way.
EARLIER = (
    select(
        VoteRow.id,
        VoteRow.key,
        VoteRow.assignment_id,
        VoteRow.outcome,
        VoteRow.content,
        VoteRow.strength,
        VoteRow.reason,
        VoteRow.live,
        VoteRow.surplus,
    )
    .where(
        or_(
            and_(VoteRow.rater_id == _rater, VoteRow.key == bindparam("key")),
            VoteRow.assignment_id == bindparam("assignment"),
        )
    )
    .order_by(VoteRow.id)
)

# The rater's answers that count, the newest first.
LATEST = (
    select(
        VoteRow.id,
        VoteRow.assignment_id,
        VoteRow.outcome,
        VoteRow.answered_at,
        AssignmentRow.order,
        TaskRow.record,
    )
    .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
    .join(TaskRow, TaskRow.id == VoteRow.task_id)
    .where(
        VoteRow.rater_id == _rater,
        VoteRow.campaign_id == _campaign,
        VoteRow.live,
        (AssignmentRow.source == "adjudicate") == _decides,
    )
    .order_by(VoteRow.id.desc())
)
