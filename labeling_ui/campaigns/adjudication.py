"""Where raters disagree somebody else decides: the queue of an adjudicator, the worst first.

What an adjudicator says stands alone in the export. It fills no place of the task, and does not
count towards how well raters agree.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Select, bindparam, case, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from labeling_ui.campaigns.answers import Item, Progress, Said, Turn, marks, shown
from labeling_ui.campaigns.assignment import Assigned, Desk, stamp
from labeling_ui.campaigns.tasks import SCALE, Kind, Settings
from labeling_ui.db.tables import AssignmentRow, CampaignRow, FlagRow, TaskRow, VoteRow

KINDS: tuple[Kind, ...] = ("pairwise", "ranking", "thumbs", "rating")
"""What can be decided; two rewrites are seldom the same, and none is wrong."""

_APART = 2
"""Points of the scale between ratings of an aspect; less is how people are."""

_QUEUE = 50
"""Tasks of the queue that are tried: others may have taken some since it was read."""

_campaign, _rater, _now = bindparam("campaign"), bindparam("rater"), bindparam("now")
_judge = aliased(AssignmentRow)
_decision = aliased(VoteRow)

_IS_DECISION = (_judge.task_id == TaskRow.id, _judge.source == "adjudicate")
_DECIDED = exists().where(
    *_IS_DECISION,
    _decision.assignment_id == _judge.id,
    _decision.live,
    _decision.outcome != "skip",
)
_HELD = exists().where(
    *_IS_DECISION, _judge.rater_id != _rater, _judge.open, _judge.expires_at > _now
)
_mine = aliased(AssignmentRow)
_SEEN = exists().where(_mine.task_id == TaskRow.id, _mine.rater_id == _rater)

_answers = (
    select(VoteRow.task_id, func.count().label("votes"))
    .join_from(VoteRow, AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
    .where(
        VoteRow.campaign_id == _campaign,
        VoteRow.live,
        VoteRow.outcome != "skip",
        AssignmentRow.source != "adjudicate",
    )
    # the same ranking is the same text; of a choice, how it is explained does not matter
    .group_by(
        VoteRow.task_id,
        VoteRow.outcome,
        case((VoteRow.outcome == "ranked", VoteRow.content), else_=""),
    )
    .subquery()
)
_most = func.max(_answers.c.votes)
_all = func.sum(_answers.c.votes)
_split = (
    select(_answers.c.task_id, (1.0 - 1.0 * _most / _all).label("share"))
    .group_by(_answers.c.task_id)
    .subquery()
)
_FLAGGED = exists().where(FlagRow.task_id == TaskRow.id)

_OPEN_TO = (
    TaskRow.campaign_id == _campaign,
    TaskRow.use == "work",
    TaskRow.complete,
    ~_DECIDED,
    ~_HELD,
    ~_SEEN,
)
"""Tasks with all of their answers that one rater may decide."""
CONTESTED: Select[int] = (
    select(TaskRow.id)
    .join(_split, _split.c.task_id == TaskRow.id)
    .where(*_OPEN_TO, or_(_split.c.share > 0, _FLAGGED))
    .order_by(_split.c.share.desc(), _FLAGGED.desc(), TaskRow.id)
)
"""By the share of the answers that are not the most frequent one."""
_RATINGS = (
    select(VoteRow.task_id, VoteRow.content)
    .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
    .where(
        VoteRow.campaign_id == _campaign,
        VoteRow.live,
        VoteRow.outcome == "rated",
        AssignmentRow.source != "adjudicate",
    )
    .order_by(VoteRow.task_id)
)
_RATED = select(TaskRow.id, _FLAGGED).where(*_OPEN_TO)

_UNDECIDED = select(TaskRow.id, TaskRow.record).where(TaskRow.id == bindparam("task"), ~_DECIDED)
_FREE = _UNDECIDED.where(~_HELD, ~_SEEN)
_LET_GO = (
    update(AssignmentRow)
    .where(
        AssignmentRow.task_id == bindparam("task"),
        AssignmentRow.source == "adjudicate",
        AssignmentRow.id != bindparam("number"),
    )
    .values(open=False)
)
_DECISIONS = (
    select(func.count())
    .select_from(VoteRow)
    .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
    .where(
        VoteRow.rater_id == _rater,
        VoteRow.campaign_id == _campaign,
        VoteRow.live,
        AssignmentRow.source == "adjudicate",
    )
)
_ON_SCREEN = select(func.count()).where(
    AssignmentRow.rater_id == _rater,
    AssignmentRow.campaign_id == _campaign,
    AssignmentRow.open,
    AssignmentRow.source == "adjudicate",
)
_GIVEN = (
    select(VoteRow.outcome, VoteRow.content, VoteRow.strength, VoteRow.reason)
    .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
    .where(
        VoteRow.task_id == bindparam("task"),
        VoteRow.live,
        VoteRow.outcome != "skip",
        AssignmentRow.source != "adjudicate",
    )
    .order_by(VoteRow.id)
)


def contested(session: Session, campaign: CampaignRow, rater: int, now: datetime) -> list[int]:
    """The numbers of the tasks that ``rater`` may decide, the most contested first.

    It reads every vote of the campaign, so it does not belong into a transaction that writes.
    """
    kind = Settings.from_text(campaign.settings).kind
    if kind not in KINDS:
        return []
    values = {"campaign": campaign.id, "rater": rater, "now": stamp(now)}
    if kind == "rating":
        gaps = _gaps(session.execute(_RATINGS, {"campaign": campaign.id}).all())
        tasks = session.execute(_RATED, values).all()
        found = [(-gaps.get(task, 0), not flagged, task) for task, flagged in tasks]
        return [task for gap, calm, task in sorted(found) if -gap >= _APART or not calm]
    return list(session.scalars(CONTESTED, values))


def _gaps(rows: Iterable[tuple[int, str]]) -> dict[int, int]:
    """By task, the widest gap between two ratings of one aspect."""
    given: defaultdict[int, list[Mapping[str, int]]] = defaultdict(list)
    for task, content in rows:
        given[task].append(json.loads(content)["aspects"])
    return {
        task: max(
            max(one[name] for one in ratings) - min(one[name] for one in ratings)
            for name in ratings[0]
        )
        for task, ratings in given.items()
    }


def answers_apart(session: Session, campaign: CampaignRow) -> dict[int, float]:
    """By task, the share of the answers so far that are not the most frequent one.

    Of ratings, the widest gap in an aspect as a share of the scale.
    """
    values = {"campaign": campaign.id}
    if Settings.from_text(campaign.settings).kind == "rating":
        return {
            task: gap / (SCALE[-1] - SCALE[0])
            for task, gap in _gaps(session.execute(_RATINGS, values).all()).items()
        }
    return dict(session.execute(select(_split.c.task_id, _split.c.share), values).all())


class Bench(Desk):
    """What one adjudicator of one campaign has decided and gets next, inside one transaction."""

    decides = True
    queue: Sequence[int] = ()
    """What :func:`contested` found a moment ago."""

    def _new(self, listed: Assigned | None) -> tuple[Item | None, str]:  # noqa: ARG002
        for place, number in enumerate(self.queue[:_QUEUE], start=1):
            task = self.one(_FREE, task=number)
            if task is not None:
                self.queue = self.queue[place:]
                return self.hand_out(task.id, task.record, "adjudicate"), ""
        return None, ""

    def count(self, assigned: Assigned, outcome: str, change: int) -> None:
        """A decision fills no place; who held the task beside it need not decide any more."""
        if change > 0 and outcome != "skip":
            self.connection.execute(_LET_GO, {"number": assigned.id, "task": assigned.task})

    def has_place(self, assigned: Assigned) -> bool:
        """Whether nobody else has decided it."""
        return self.one(_UNDECIDED, task=assigned.task) is not None

    def turn_of(self, item: Item | None, notice: str = "") -> Turn:
        """With what the raters said, in terms of this screen and without their names."""
        turn = super().turn_of(item, notice)
        if item is None:
            return turn
        own = self.own(item.assignment)
        given = self.connection.execute(_GIVEN, {"task": own.task})
        said: list[Said] = []
        for outcome, text, strength, reason in given:
            content = json.loads(text)
            seen = shown(outcome, content, own.order)
            said.append(Said(*seen, strength, reason, marks(content)))
        return Turn(item, turn.progress, notice, tuple(said))

    def progress(self) -> Progress:
        """Decided, and that plus what is left; what is on the screen is not in the queue."""
        done = self.number(_DECISIONS)
        return Progress(done, done + self.number(_ON_SCREEN) + len(self.queue))
