"""What the admin's page reads from the store: campaigns at a glance, their votes, and single cases.

Everything here is for admins: it names policies.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from sqlalchemy import ColumnElement, Select, case, func, select

from labeling_ui.campaigns.setup import find_campaign
from labeling_ui.campaigns.tasks import Kind, Settings, Task
from labeling_ui.db.store import Store
from labeling_ui.db.tables import AssignmentRow, CampaignRow, FlagRow, TaskRow, UserRow, VoteRow
from labeling_ui.results.answers import COMPARABLE, GivenAnswer, given_where, tasks_where
from labeling_ui.results.export import as_vote, ranked_together
from labeling_ui.results.ratings import scores_of
from rlhf.records import Comparison, Outcome, Vote

if TYPE_CHECKING:
    from rlhf.evaluate.scores import Score

Show = Literal["all", "disagreement", "ties", "skipped", "flagged"]
SHOWS: tuple[Show, ...] = get_args(Show)
PER_PAGE = 10

_THUMBS: dict[str, Outcome] = {"good": "a", "bad": "b", "skip": "skip"}


@dataclass(frozen=True, slots=True)
class CampaignSummary:
    """A campaign in a few numbers; ``votes`` leaves skips out."""

    name: str
    kind: Kind
    overlap: int
    tasks: int
    complete: int
    votes: int
    skips: int
    raters: int


@dataclass(frozen=True, slots=True)
class CampaignVotes:
    """The answers to the work of a campaign, adjudications apart, as votes.

    A ranking is a vote on every two of its responses. Thumbs up is a vote for a, thumbs down one
    for b, so that agreement is the same; they have no sides. Ratings and rewrites are no votes.
    """

    kind: Kind
    comparisons: tuple[Comparison, ...] = ()
    votes: tuple[Vote, ...] = ()
    fair: tuple[Vote, ...] = ()
    """Those on tasks that active selection did not choose: it prefers what is hard."""
    ranked: Mapping[str, int] = field(default_factory=dict[str, int])
    """The task of each comparison that was ranked with others."""
    checks: tuple[tuple[Vote, Outcome], ...] = ()
    """Votes on tasks whose right outcome is known, with it."""
    scores: "tuple[Score, ...]" = ()
    """What single responses were given, those apart that active selection chose."""
    active: int = 0
    """Answers other than skips on tasks that active selection chose."""
    times: tuple[str, ...] = ()
    """When the answers other than skips were given."""


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which tasks somebody wants to look at."""

    show: Show = "all"
    rater: str = ""
    """Only what this rater judged; empty for all."""
    page: int = 1


@dataclass(frozen=True, slots=True)
class Flagged:
    """Something wrong with a task that somebody pointed out."""

    rater: str
    kind: str
    note: str


@dataclass(frozen=True, slots=True)
class Case:
    """A task and what raters said of it."""

    task: Task
    given: tuple[GivenAnswer, ...]
    flags: tuple[Flagged, ...] = ()


@dataclass(frozen=True, slots=True)
class Cases:
    """One page of cases, and how many there are on all pages."""

    total: int
    cases: tuple[Case, ...]


def campaign_summaries(store: Store) -> list[CampaignSummary]:
    """Every campaign, the newest first."""
    skips = func.count().filter(VoteRow.outcome == "skip")
    raters = func.count(VoteRow.rater_id.distinct())
    with store.read() as session:
        counted = {
            campaign: counts
            for campaign, *counts in session.execute(
                select(VoteRow.campaign_id, func.count() - skips, skips, raters)
                .join_from(VoteRow, TaskRow, TaskRow.id == VoteRow.task_id)
                .where(VoteRow.live, TaskRow.use == "work")
                .group_by(VoteRow.campaign_id)
            )
        }
        rows = session.scalars(select(CampaignRow).order_by(CampaignRow.id.desc())).all()
        return [
            CampaignSummary(
                row.name,
                Settings.from_text(row.settings).kind,
                row.overlap,
                row.num_tasks,
                row.num_complete,
                *counted.get(row.id, (0, 0, 0)),
            )
            for row in rows
        ]


def stamp(store: Store, name: str) -> tuple[int, int]:
    """Something that changes whenever the votes of a campaign do, and costs next to nothing."""
    with store.read() as session:
        campaign = find_campaign(session, name)
        # votes are only ever added, an undone one too
        return campaign.id, session.scalar(select(func.max(VoteRow.id))) or 0


def campaign_votes(store: Store, name: str) -> CampaignVotes:
    """The answers of a campaign that count, as votes."""
    with store.read() as session:
        campaign = find_campaign(session, name)
        kind = Settings.from_text(campaign.settings).kind
        answered = tasks_where(
            session, TaskRow.id.in_(select(VoteRow.task_id).where(*_live(campaign.id)))
        )
        given = given_where(session, *_live(campaign.id), AssignmentRow.source != "adjudicate")
    work = [one for one in given if answered[one.task].use == "work"]
    times = tuple(one.answered_at for one in work if one.outcome != "skip")
    fair = [one for one in work if one.source != "active"]
    found = CampaignVotes(
        kind,
        scores=tuple(scores_of(answered, fair)),
        active=len(times) - sum(one.outcome != "skip" for one in fair),
        times=times,
    )
    if kind not in ("pairwise", "ranking", "thumbs"):
        return found
    as_votes = _Votes(answered)
    checks = [one for one in given if answered[one.task].expected is not None]
    cast_ = [(one, vote) for one in work for vote in as_votes.of(one)]
    return replace(
        found,
        comparisons=tuple(
            comparison
            for task in answered.values()
            if task.use == "work"
            for comparison in task.comparisons()
        ),
        votes=tuple(vote for _, vote in cast_),
        fair=tuple(vote for one, vote in cast_ if one.source != "active"),
        ranked=ranked_together(as_votes.ids.values()),
        checks=tuple(
            (vote, _expected(answered[one.task])) for one in checks for vote in as_votes.of(one)
        ),
    )


class _Votes:
    """Answers as votes; what a task is called is worked out once."""

    def __init__(self, tasks: dict[int, Task]) -> None:
        self._tasks = tasks
        self.ids = {
            number: tuple(comparison.id for comparison in task.comparisons())
            for number, task in tasks.items()
        }

    def of(self, given: GivenAnswer) -> list[Vote]:
        task, ids = self._tasks[given.task], self.ids[given.task]
        if len(task.responses) > 1:
            return [as_vote(task, number, key, given) for number, key in enumerate(ids)]
        return [
            Vote(
                comparison=str(given.task),
                rater=given.rater,
                outcome=_THUMBS[given.outcome],
                a_side="left",
                shown_at=given.shown_at,
                answered_at=given.answered_at,
            )
        ]


def _expected(task: Task) -> Outcome:
    assert task.expected is not None
    return _THUMBS.get(task.expected) or cast("Outcome", task.expected)


def cases(store: Store, name: str, wanted: CaseFilter) -> Cases:
    """One page of what is wanted, in the order in which the tasks came."""
    with store.read() as session:
        campaign = find_campaign(session, name)
        kind = Settings.from_text(campaign.settings).kind
        found = (
            _flagged(campaign.id, wanted.rater)
            if wanted.show == "flagged"
            else _matching(campaign.id, kind, wanted)
        )
        total = session.scalar(select(func.count()).select_from(found.subquery())) or 0
        page = found.limit(PER_PAGE).offset((max(1, wanted.page) - 1) * PER_PAGE)
        numbers = session.scalars(page).all()
        tasks = tasks_where(session, TaskRow.id.in_(numbers))
        by_task: defaultdict[int, list[GivenAnswer]] = defaultdict(list)
        for one in given_where(session, *_live(campaign.id), VoteRow.task_id.in_(numbers)):
            by_task[one.task].append(one)
        flags: defaultdict[int, list[Flagged]] = defaultdict(list)
        for number, *flag in session.execute(_FLAGS.where(FlagRow.task_id.in_(numbers))):
            flags[number].append(Flagged(*flag))
    return Cases(
        total,
        tuple(Case(tasks[n], tuple(by_task[n]), tuple(flags[n])) for n in numbers),
    )


def _live(campaign: int) -> tuple[Any, ...]:
    return (VoteRow.campaign_id == campaign, VoteRow.live)


_FLAGS = (
    select(FlagRow.task_id, UserRow.name, FlagRow.kind, FlagRow.note)
    .join(UserRow, UserRow.id == FlagRow.user_id)
    .order_by(FlagRow.id)
)


def _flagged(campaign: int, rater: str) -> Select[int]:
    """The numbers of the tasks that somebody, or ``rater``, flagged; answered or not."""
    found = (
        select(FlagRow.task_id)
        .join(UserRow, UserRow.id == FlagRow.user_id)
        .where(FlagRow.campaign_id == campaign)
    )
    if rater:
        found = found.where(UserRow.name == rater)
    return found.distinct().order_by(FlagRow.task_id)


def _matching(campaign: int, kind: Kind, wanted: CaseFilter) -> Select[int]:
    """The numbers of the tasks that are wanted."""
    said = VoteRow.outcome if kind in ("pairwise", "thumbs") else VoteRow.content
    different = func.count(case((VoteRow.outcome != "skip", said)).distinct())
    judgements, first, second, skips = (
        func.count().filter(VoteRow.outcome.in_(outcomes))
        for outcomes in (COMPARABLE, ("a", "good"), ("b", "bad"), ("skip",))
    )
    having: Mapping[str, tuple[ColumnElement[bool], ...]] = {
        "all": (),
        "disagreement": (different > 1,),
        "ties": (judgements > 0, first == second),
        "skipped": (skips > 0,),
    }
    found = (
        select(VoteRow.task_id)
        .join_from(VoteRow, TaskRow, TaskRow.id == VoteRow.task_id)
        .where(*_live(campaign), TaskRow.use == "work")
    )
    if wanted.rater:
        by_rater = (
            select(VoteRow.task_id)
            .join_from(VoteRow, UserRow, UserRow.id == VoteRow.rater_id)
            .where(*_live(campaign), UserRow.name == wanted.rater)
        )
        found = found.where(VoteRow.task_id.in_(by_rater))
    grouped = found.group_by(VoteRow.task_id).having(*having[wanted.show])
    return grouped.order_by(VoteRow.task_id)
