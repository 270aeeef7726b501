"""What the admin's page reads from the store: campaigns at a glance, their votes, and single cases.

Everything here is for admins: it names policies.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from sqlalchemy import Select, case, func, select
from sqlalchemy.orm import Session

from labeling_ui.assign import load_comparison
from labeling_ui.campaigns import find_campaign
from labeling_ui.store import (
    AssignmentRow,
    CampaignRow,
    ComparisonRow,
    Store,
    UserRow,
    VoteRow,
)
from rlhf.records import Comparison, Outcome, Side, Vote

Show = Literal["all", "disagreement", "ties", "skipped"]
SHOWS: tuple[Show, ...] = get_args(Show)
PER_PAGE = 10


@dataclass(frozen=True, slots=True)
class Glance:
    """A campaign in a few numbers; ``votes`` leaves skips out."""

    name: str
    overlap: int
    comparisons: int
    complete: int
    votes: int
    skips: int
    raters: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which comparisons somebody wants to look at."""

    show: Show = "all"
    rater: str = ""
    """Only what this rater judged; empty for all."""
    page: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """A comparison and what raters said of it."""

    comparison: Comparison
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Cases:
    """One page of cases, and how many there are on all pages."""

    total: int
    cases: tuple[Case, ...]


def glances(store: Store) -> list[Glance]:
    """Every campaign, the newest first."""
    skips = func.count(VoteRow.id).filter(VoteRow.outcome == "skip")
    with store.read() as session:
        counted = {
            row[0]: row[1:]
            for row in session.execute(
                select(
                    VoteRow.campaign_id,
                    func.count(VoteRow.id) - skips,
                    skips,
                    func.count(VoteRow.rater_id.distinct()),
                )
                .where(VoteRow.live)
                .group_by(VoteRow.campaign_id)
            )
        }
        rows = session.scalars(select(CampaignRow).order_by(CampaignRow.id.desc())).all()
        return [
            Glance(
                row.name,
                row.overlap,
                row.num_comparisons,
                row.num_complete,
                *counted.get(row.id, (0, 0, 0)),
            )
            for row in rows
        ]


def stamp(store: Store, name: str) -> tuple[int, ...]:
    """Something that changes whenever the votes of a campaign do, and costs next to nothing."""
    with store.read() as session:
        campaign = find_campaign(session, name)
        # votes are only ever added, an undone one too
        return (campaign.id, session.scalar(select(func.max(VoteRow.id))) or 0)


def judged(store: Store, name: str) -> tuple[list[Comparison], list[Vote]]:
    """The votes of a campaign that count, and the comparisons that they are about."""
    with store.read() as session:
        campaign = find_campaign(session, name)
        voted = select(VoteRow.comparison_id).where(*_live(campaign.id))
        comparisons = _comparisons(session, voted)
        votes = _votes(session, comparisons, select(VoteRow.id).where(*_live(campaign.id)))
    return list(comparisons.values()), [vote for given in votes.values() for vote in given]


def cases(store: Store, name: str, wanted: Wanted) -> Cases:
    """One page of what is wanted, in the order in which the comparisons came."""
    with store.read() as session:
        campaign = find_campaign(session, name)
        found = _matching(campaign.id, wanted)
        total = session.scalar(select(func.count()).select_from(found.subquery())) or 0
        page = found.limit(PER_PAGE).offset((max(1, wanted.page) - 1) * PER_PAGE)
        numbers = list(session.scalars(page))
        comparisons = _comparisons(session, numbers)
        of_page = (*_live(campaign.id), VoteRow.comparison_id.in_(numbers))
        votes = _votes(session, comparisons, select(VoteRow.id).where(*of_page))
    return Cases(
        total, tuple(Case(comparisons[number], tuple(votes[number])) for number in numbers)
    )


def _live(campaign: int) -> tuple[Any, ...]:
    return (VoteRow.campaign_id == campaign, VoteRow.live)


def _matching(campaign: int, wanted: Wanted) -> Select[int]:
    """The numbers of the comparisons that are wanted."""
    counts = (VoteRow.outcome != "skip", VoteRow.outcome == "a", VoteRow.outcome == "b")
    judgements, a, b = (func.count().filter(which) for which in counts)
    kinds = func.count(case((VoteRow.outcome != "skip", VoteRow.outcome)).distinct())
    having = {
        "all": (),
        "disagreement": (kinds > 1,),
        "ties": (judgements > 0, a == b),
        "skipped": (func.count().filter(VoteRow.outcome == "skip") > 0,),
    }
    found = select(VoteRow.comparison_id).where(*_live(campaign))
    if wanted.rater:
        by_rater = (
            select(VoteRow.comparison_id)
            .join(UserRow, UserRow.id == VoteRow.rater_id)
            .where(*_live(campaign), UserRow.name == wanted.rater)
        )
        found = found.where(VoteRow.comparison_id.in_(by_rater))
    grouped = found.group_by(VoteRow.comparison_id).having(*having[wanted.show])
    return grouped.order_by(VoteRow.comparison_id)


def _comparisons(session: Session, numbers: Select[int] | list[int]) -> dict[int, Comparison]:
    rows = session.scalars(
        select(ComparisonRow).where(ComparisonRow.id.in_(numbers)).order_by(ComparisonRow.id)
    )
    return {row.id: load_comparison(row) for row in rows}


def _votes(
    session: Session, comparisons: dict[int, Comparison], numbers: Select[int]
) -> dict[int, list[Vote]]:
    """The votes of these numbers by comparison, in the order in which they were cast."""
    ids = {number: comparison.id for number, comparison in comparisons.items()}
    rows = session.execute(
        select(
            VoteRow.comparison_id,
            UserRow.name,
            VoteRow.outcome,
            AssignmentRow.a_side,
            VoteRow.strength,
            VoteRow.reason,
            VoteRow.shown_at,
            VoteRow.answered_at,
        )
        .join_from(VoteRow, UserRow, UserRow.id == VoteRow.rater_id)
        .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
        .where(VoteRow.id.in_(numbers))
        .order_by(VoteRow.id)
    )
    found: defaultdict[int, list[Vote]] = defaultdict(list)
    for number, rater, outcome, a_side, strength, reason, shown_at, answered_at in rows:
        found[number].append(
            Vote(
                comparison=ids[number],
                rater=rater,
                outcome=cast("Outcome", outcome),
                a_side=cast("Side", a_side),
                strength=strength,
                reason=reason,
                shown_at=shown_at,
                answered_at=answered_at,
            )
        )
    return found
