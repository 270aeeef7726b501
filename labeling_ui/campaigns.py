"""Campaigns: tasks come in, answers are stored, revised and never lost.

Every method that changes something is one transaction.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import and_, bindparam, or_, select
from sqlalchemy.orm import Session

from labeling_ui.assign import Desk, stamp, withdraw
from labeling_ui.ballot import Answer, Progress, Turn, draw_order, meaning
from labeling_ui.intake import (
    NAMED,
    Added,
    add_tasks,
    add_to_lists,
    find_campaign,
    guide,
    guidelines_of,
    make,
)
from labeling_ui.store import Conflict, NotFound, Store
from labeling_ui.tables import AssignmentRow, CampaignRow, FlagRow, TaskRow, VoteRow
from labeling_ui.tasks import Settings, Task
from rlhf.errors import DataError

# Built once, like the statements of assign.py.
EARLIER = (
    select(VoteRow)
    .where(
        or_(
            and_(VoteRow.rater_id == bindparam("rater"), VoteRow.key == bindparam("key")),
            VoteRow.assignment_id == bindparam("assignment"),
        )
    )
    .order_by(VoteRow.id)
)
LATEST = (
    select(VoteRow)
    .where(
        VoteRow.rater_id == bindparam("rater"),
        VoteRow.campaign_id == bindparam("campaign"),
        VoteRow.live,
    )
    .order_by(VoteRow.id.desc())
)
FLAGS = ("broken", "unsafe", "private", "other")


@dataclass(frozen=True, slots=True)
class Past:
    """An answer that a rater gave, as the rater gave it."""

    vote: int
    choice: str
    answered_at: str
    prompt: str


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Campaigns:
    """The campaigns of one store.

    Args:
        store: Where they are kept.
        clock: The time, in UTC.
        draw: Draws the order in which so many responses are shown.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = utc_now,
        draw: Callable[[int], str] = draw_order,
    ) -> None:
        self._store, self._clock, self._draw = store, clock, draw

    def add(
        self,
        name: str,
        tasks: Iterable[Task],
        *,
        settings: Settings | None = None,
        guidelines: str = "",
    ) -> Added:
        """Make campaign ``name``, or add to it; a task that it holds already is not doubled.

        Without ``settings`` it keeps those it has. Other guidelines than before are a new version.

        Raises:
            DataError: if the name or a task is not acceptable, or the name tells raters a policy.
            Conflict: if the campaign exists with other settings.
        """
        tasks = list(tasks)
        with self._store.write() as session:
            campaign = session.scalar(NAMED, {"name": name})
            if campaign is None:
                campaign = make(session, name, settings or Settings(), self._clock())
            added = add_tasks(session, campaign, tasks, settings)
            guide(session, campaign, guidelines, self._clock())
            return added

    def assign(self, name: str, pairs: Sequence[tuple[str, str]]) -> Added:
        """Put tasks, by key, on the lists of raters, by name.

        Raises:
            DataError: if the campaign has no lists, or a rater or task is not known.
        """
        with self._store.write() as session:
            return add_to_lists(session, find_campaign(session, name), pairs, self._draw)

    def names(self) -> list[tuple[str, str]]:
        """Name and guidelines of every campaign that hands out work, oldest first."""
        with self._store.read() as session:
            rows = session.execute(
                select(CampaignRow.name, CampaignRow.id)
                .where(CampaignRow.settings.not_like('%"source": "arena"%'))
                .order_by(CampaignRow.id)
            )
            return [(name, guidelines_of(session, number)[1]) for name, number in rows.all()]

    def settings(self, name: str) -> Settings:
        """The rules of a campaign."""
        with self._store.read() as session:
            return Settings.from_text(find_campaign(session, name).settings)

    def next(self, name: str, rater: int) -> Turn:
        """What ``rater`` is to judge now: what is on the screen already, or something new."""
        with self._store.write() as session:
            return self._desk(session, name, rater)[1].turn()

    def beat(self, name: str, rater: int, number: int) -> None:
        """Keep the place of an assignment that is still on the screen."""
        with self._store.write() as session:
            campaign, desk = self._desk(session, name, rater)
            assignment = _own(session, campaign, rater, number)
            if assignment.open:
                desk.keep(assignment)

    def progress(self, name: str, rater: int) -> Progress:
        """How far ``rater`` is."""
        with self._store.read() as session:
            return self._desk(session, name, rater)[1].progress()

    def submit(self, name: str, rater: int, answer: Answer) -> tuple[int, Turn]:
        """Store an answer; its number, and what is next.

        Raises:
            NotFound: if the assignment is not this rater's.
            DataError: if the campaign does not take such an answer.
            Conflict: if the task is answered already, or the key was used for another vote.
        """
        with self._store.write() as session:
            campaign, desk = self._desk(session, name, rater)
            assignment = _own(session, campaign, rater, answer.assignment)
            number = self._record(session, desk, assignment, answer)
            return number, desk.turn()

    def _record(
        self, session: Session, desk: Desk, assignment: AssignmentRow, answer: Answer
    ) -> int:
        answer.check(desk.settings, len(assignment.order))
        outcome, content = meaning(answer, assignment.order)
        values = {"rater": assignment.rater_id, "assignment": assignment.id, "key": answer.key}
        earlier = session.scalars(EARLIER, values).all()
        for vote in earlier:
            if vote.key == answer.key:
                if (vote.assignment_id, vote.outcome) != (assignment.id, outcome):
                    raise Conflict("this key was used for another vote; make a new key for each")
                return vote.id
        if any(vote.live or vote.surplus for vote in earlier):
            raise Conflict("this task is answered already; undo that answer to change it")
        now = stamp(self._clock())
        task = session.get_one(TaskRow, assignment.task_id)
        late = assignment.expires_at <= now and task.use == "work" and not desk.has_place(task)
        vote = VoteRow(
            assignment_id=assignment.id,
            campaign_id=assignment.campaign_id,
            task_id=task.id,
            rater_id=assignment.rater_id,
            outcome=outcome,
            content=json.dumps(content, ensure_ascii=False),
            strength=answer.strength,
            reason=answer.reason,
            shown_at=stamp(answer.shown_at) if answer.shown_at else assignment.shown_at,
            answered_at=now,
            key=answer.key,
            guideline=guidelines_of(session, assignment.campaign_id)[0],
            supersedes=earlier[-1].id if earlier else None,
            surplus=late,
            live=not late,
        )
        session.add(vote)
        assignment.open = False
        if not late:
            _count(session, vote, task, +1)
        session.flush()
        return vote.id

    def undo(self, name: str, rater: int, vote: int | None = None) -> Turn:
        """Withdraw the rater's latest answer, or a certain one, and show that item again.

        Raises:
            Conflict: if there is no such answer to withdraw, or it was given in the arena.
        """
        with self._store.write() as session:
            campaign, desk = self._desk(session, name, rater)
            if desk.settings.source == "arena":
                raise Conflict("the vote on a battle stands: after it, the names are known")
            mine = LATEST if vote is None else LATEST.where(VoteRow.id == vote)
            row = session.scalar(mine.limit(1), {"campaign": campaign.id, "rater": rater})
            if row is None:
                raise Conflict("there is nothing to undo")
            task = session.get_one(TaskRow, row.task_id)
            withdraw(session, row, self._clock())
            _count(session, row, task, -1)
            item = desk.reopen(row)
            return Turn(item, desk.progress())

    def history(self, name: str, rater: int, limit: int = 50) -> list[Past]:
        """The rater's latest answers that count, the newest first."""
        with self._store.read() as session:
            values = {"campaign": find_campaign(session, name).id, "rater": rater}
            votes = session.scalars(LATEST.limit(limit), values).all()
            return [_past(session, vote) for vote in votes]

    def flag(self, name: str, rater: int, number: int, kind: str, note: str) -> None:
        """Point out that something is wrong with the task of an assignment.

        Raises:
            DataError: if there is no such kind of flag.
        """
        if kind not in FLAGS:
            raise DataError(f"flag {kind!r} is unknown; use one of {', '.join(FLAGS)}")
        with self._store.write() as session:
            campaign, _ = self._desk(session, name, rater)
            task = _own(session, campaign, rater, number).task_id
            same = (FlagRow.task_id == task, FlagRow.user_id == rater, FlagRow.kind == kind)
            if session.scalar(select(FlagRow.id).where(*same)) is None:
                row = FlagRow(
                    campaign_id=campaign.id,
                    task_id=task,
                    user_id=rater,
                    kind=kind,
                    note=note,
                    at=stamp(self._clock()),
                )
                session.add(row)

    def _desk(self, session: Session, name: str, rater: int) -> tuple[CampaignRow, Desk]:
        campaign = find_campaign(session, name)
        return campaign, Desk(session, campaign, rater, self._clock(), self._draw)


def _own(session: Session, campaign: CampaignRow, rater: int, number: int) -> AssignmentRow:
    assignment = session.get(AssignmentRow, number)
    if assignment is None or assignment.rater_id != rater or assignment.campaign_id != campaign.id:
        raise NotFound(
            f"assignment {number} is not yours in campaign {campaign.name!r}; ask for the next one"
        )
    return assignment


def _past(session: Session, vote: VoteRow) -> Past:
    order = session.get_one(AssignmentRow, vote.assignment_id).order
    task = Task.from_text(session.get_one(TaskRow, vote.task_id).record)
    choice = vote.outcome
    if choice in ("a", "b"):
        choice = ("left", "right")[order.index("01"["ab".index(choice)])]
    return Past(vote.id, choice, vote.answered_at, task.prompt.messages[-1].content[:200])


def _count(session: Session, vote: VoteRow, task: TaskRow, change: int) -> None:
    """Keep the counters of task and campaign; a skip fills no place unless it is dropped."""
    campaign = session.get_one(CampaignRow, vote.campaign_id)
    if task.use != "work":
        return
    if vote.outcome == "skip" and Settings.from_text(campaign.settings).skip != "drop":
        return
    before = task.complete
    task.num_votes += change
    task.complete = task.num_votes >= campaign.overlap
    campaign.num_complete += task.complete - before
