"""Which task a rater gets, and how far along the rater is.

A task has as many places as its campaign has ``overlap``. A live vote fills one (a skip does not,
unless the campaign drops what is skipped), and an assignment that was handed out keeps one free
until it expires.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, Select, bindparam, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from labeling_ui.ballot import Item, Progress, Turn, chance, draw_order
from labeling_ui.store import NotFound
from labeling_ui.tables import AssignmentRow, CampaignRow, TaskRow, VoteRow
from labeling_ui.tasks import Settings, Task

NEVER = "9999"
"""When an assignment of a list expires; as text it comes after every time."""

# The statements of every vote are built once: building them costs more than running them.
_mine, _others = aliased(AssignmentRow), aliased(AssignmentRow)
_campaign, _rater, _now = bindparam("campaign"), bindparam("rater"), bindparam("now")
_decides = bindparam("decides", type_=Boolean)

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

# The oldest item that the rater has open, unless it expired and its place is taken.
OPEN = (
    select(AssignmentRow)
    .join(TaskRow, TaskRow.id == AssignmentRow.task_id)
    .where(
        AssignmentRow.rater_id == _rater,
        AssignmentRow.campaign_id == _campaign,
        AssignmentRow.open,
        (AssignmentRow.source == "adjudicate") == _decides,
        or_(AssignmentRow.expires_at > _now, TaskRow.use != "work", _decides, _HAS_PLACE),
    )
    .order_by(AssignmentRow.id)
    .limit(1)
)

_UNSEEN = (
    select(TaskRow)
    .where(
        TaskRow.campaign_id == _campaign,
        ~TaskRow.complete,
        ~exists().where(_mine.task_id == TaskRow.id, _mine.rater_id == _rater),
    )
    .limit(1)
)
_WORK = _UNSEEN.where(TaskRow.use == "work", _HAS_PLACE)

# The first task with a place that the rater never had, by the source that chooses it.
UNSEEN: dict[str, Select[TaskRow]] = {
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

_CHECKED = (
    select(VoteRow.outcome, TaskRow.record, VoteRow.id)
    .join_from(VoteRow, TaskRow, TaskRow.id == VoteRow.task_id)
    .where(VoteRow.rater_id == _rater, VoteRow.campaign_id == _campaign, VoteRow.live, ~_IS_WORK)
    .order_by(VoteRow.id)
)
_SINCE = (
    select(func.count())
    .select_from(VoteRow)
    .where(
        VoteRow.rater_id == _rater,
        VoteRow.campaign_id == _campaign,
        VoteRow.live,
        VoteRow.id > bindparam("last"),
    )
)
_SKIPPED = (
    select(VoteRow)
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
_LIST = select(func.count()).where(
    AssignmentRow.rater_id == _rater, AssignmentRow.campaign_id == _campaign
)
_CHECKS = select(func.count()).where(TaskRow.campaign_id == _campaign, TaskRow.use == "check")


class Desk:
    """What one rater of one campaign has done and gets next, inside one transaction.

    Args:
        session: The transaction, one that writes.
        campaign: The campaign.
        rater: The rater's number.
        now: The time, in UTC.
        draw: Draws the order in which so many responses are shown.
    """

    decides = False
    """Whether it is the desk of an adjudicator."""

    def __init__(
        self,
        session: Session,
        campaign: CampaignRow,
        rater: int,
        now: datetime,
        draw: Callable[[int], str] = draw_order,
    ) -> None:
        self.session = session
        self._campaign, self._now, self._draw = campaign, now, draw
        self._rater = rater
        self.settings = Settings.from_text(campaign.settings)
        self.values: dict[str, Any] = {
            "campaign": campaign.id,
            "rater": rater,
            "now": stamp(now),
            "overlap": campaign.overlap,
            "decides": self.decides,
        }

    def turn(self) -> Turn:
        """What the rater has open already, else a new task with an order drawn for it."""
        held = self.session.scalar(OPEN, self.values)
        notice = ""
        if held is not None:
            self.keep(held)
            item = self.show(held)
        else:
            item, notice = self._new()
        return self.turn_of(item, notice)

    def turn_of(self, item: Item | None, notice: str = "") -> Turn:
        """The item with how far the rater is."""
        return Turn(item, self.progress(), notice)

    def _new(self) -> tuple[Item | None, str]:
        """A task that the rater never had, or why there is none."""
        settings = self.settings
        if settings.quota is not None and self._counts()[0] >= settings.quota:
            return None, "you have reached the most answers that one rater may give here"
        if settings.pass_mark is not None or settings.check_every is not None:
            item, notice = self._checked(settings)
            if item or notice:
                return item, notice
        return self._work(), ""

    def _checked(self, settings: Settings) -> tuple[Item | None, str]:
        """A task that checks the rater, where one is due, or what those before have shown."""
        answers = [
            (outcome, Task.from_text(record), vote)
            for outcome, record, vote in self.session.execute(_CHECKED, self.values)
        ]
        if settings.max_failed_checks is not None:
            failed = sum(t.use == "attention" and o != t.expected for o, t, _ in answers)
            if failed > settings.max_failed_checks:
                return None, "too many attention items were failed; ask an admin"
        if settings.pass_mark is not None:
            task = self._unseen("qualify")
            if task is not None:
                return self._hand_out(task, "qualify"), ""
            passed = [o == t.expected for o, t, _ in answers if t.use == "qualify"]
            if passed and sum(passed) / len(passed) < settings.pass_mark:
                return None, "the qualification was not passed; ask an admin"
        last = max((vote for _, t, vote in answers if t.use != "qualify"), default=0)
        if settings.check_every is not None and self._since(last) >= settings.check_every:
            task = self._unseen("check")
            if task is not None:
                return self._hand_out(task, "check"), ""
        return None, ""

    def _work(self) -> Item | None:
        settings = self.settings
        if settings.source == "pool":
            source = "order"
            if settings.random_share < 1:
                source = "random" if chance() < settings.random_share else "active"
            task = self._unseen(source)
            if task is not None:
                return self._hand_out(task, source)
        if settings.skip == "later":
            return self._skipped()
        return None

    def _skipped(self) -> Item | None:
        """What the rater skipped first, once more."""
        vote = self.session.scalar(_SKIPPED, self.values)
        if vote is None:
            return None
        withdraw(self.session, vote, self._now)
        return self.reopen(vote)

    def reopen(self, vote: VoteRow) -> Item:
        """Show the task of a withdrawn vote again, in the order in which it stood."""
        assignment = self.session.get_one(AssignmentRow, vote.assignment_id)
        assignment.open = True
        self.keep(assignment)
        self.session.flush()
        return self.show(assignment)

    def _since(self, vote: int) -> int:
        return self.session.scalar(_SINCE, self.values | {"last": vote}) or 0

    def _unseen(self, source: str) -> TaskRow | None:
        return self.session.scalar(UNSEEN[source], self.values)

    def _hand_out(self, row: TaskRow, source: str) -> Item:
        task = Task.from_text(row.record)
        assignment = AssignmentRow(
            campaign_id=self._campaign.id,
            task_id=row.id,
            rater_id=self._rater,
            order=self._draw(len(task.responses)),
            source=source,
            shown_at=stamp(self._now),
            open=True,
        )
        self.keep(assignment)
        self.session.add(assignment)
        self.session.flush()
        return item_of(assignment, task)

    def own(self, number: int) -> AssignmentRow:
        """An assignment of this rater at this desk.

        Raises:
            NotFound: if it is none.
        """
        found = self.session.get(AssignmentRow, number)
        if (
            found is None
            or (found.rater_id, found.campaign_id) != (self._rater, self._campaign.id)
            or (found.source == "adjudicate") != self.decides
        ):
            raise NotFound(
                f"assignment {number} is not yours in campaign {self._campaign.name!r}; ask for "
                "the next one"
            )
        return found

    def count(self, vote: VoteRow, task: TaskRow, change: int) -> None:
        """Keep the counters of task and campaign; a skip fills no place unless it is dropped."""
        if task.use != "work" or (vote.outcome == "skip" and self.settings.skip != "drop"):
            return
        before = task.complete
        task.num_votes += change
        task.complete = task.num_votes >= self._campaign.overlap
        self._campaign.num_complete += task.complete - before

    def keep(self, assignment: AssignmentRow) -> None:
        """Keep a place for the assignment from now on."""
        if assignment.source != "list":
            lease = timedelta(minutes=self.settings.lease_minutes)
            assignment.expires_at = stamp(self._now + lease)

    def has_place(self, task: TaskRow) -> bool:
        """Whether a vote of this rater would still be one of those that were asked for."""
        found = select(TaskRow.id).where(TaskRow.id == task.id, _HAS_PLACE)
        return self.session.scalar(found, self.values) is not None

    def show(self, assignment: AssignmentRow) -> Item:
        """The assignment as it stands on the screen."""
        assignment.shown_at = assignment.shown_at or stamp(self._now)
        row = self.session.get_one(TaskRow, assignment.task_id)
        return item_of(assignment, Task.from_text(row.record))

    def _counts(self) -> tuple[int, int, int]:
        work, still_open, checks = self.session.execute(PROGRESS, self.values).one()
        return work, still_open, checks

    def progress(self) -> Progress:
        """Answered by the rater, and that plus what others left to do.

        The checks that will come are counted from the start, so that none gives itself away.
        """
        settings = self.settings
        work, still_open, checks = self._counts()
        if settings.source == "list":
            return Progress(work + checks, self.session.scalar(_LIST, self.values) or 0)
        total = work + self._campaign.num_tasks - self._campaign.num_complete - still_open
        if settings.quota is not None:
            total = min(total, max(settings.quota, work))
        if settings.check_every is not None:
            known = self.session.scalar(_CHECKS, self.values) or 0
            total += min(known, total // settings.check_every)
        return Progress(work + checks, max(total, work + checks))


def withdraw(session: Session, vote: VoteRow, now: datetime) -> None:
    """Retire a vote by a row that supersedes it."""
    vote.live = False
    session.flush()  # before the row that refers to it
    session.add(
        VoteRow(
            assignment_id=vote.assignment_id,
            campaign_id=vote.campaign_id,
            task_id=vote.task_id,
            rater_id=vote.rater_id,
            outcome="undone",
            answered_at=stamp(now),
            key=f"undo {vote.id}",
            supersedes=vote.id,
            live=False,
        )
    )


def item_of(assignment: AssignmentRow, task: Task) -> Item:
    """What the rater sees: the responses in the order that was drawn."""
    shown = tuple(task.responses[int(place)].text for place in assignment.order)
    return Item(assignment.id, task.prompt.messages, shown)


def stamp(moment: datetime) -> str:
    """ISO 8601 in UTC, of one width, so that the order of texts is the order of times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
