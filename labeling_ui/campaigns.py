"""Campaigns: comparisons come in, answers are stored, revised and never lost.

Every method that changes something is one transaction.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from sqlalchemy import and_, bindparam, or_, select
from sqlalchemy.orm import Session

from labeling_ui.assign import item_of, keep, next_item, progress_of, stamp
from labeling_ui.ballot import Answer, Progress, Turn, as_outcome, draw_side
from labeling_ui.store import (
    AssignmentRow,
    CampaignRow,
    ComparisonRow,
    Conflict,
    NotFound,
    Store,
    VoteRow,
)
from rlhf.errors import DataError
from rlhf.records import Comparison, Side, to_json

# Built once, like the statements of assign.py.
_NAMED = select(CampaignRow).where(CampaignRow.name == bindparam("name"))
_EARLIER = (
    select(VoteRow)
    .where(
        or_(
            and_(VoteRow.rater_id == bindparam("rater"), VoteRow.key == bindparam("key")),
            VoteRow.assignment_id == bindparam("assignment"),
        )
    )
    .order_by(VoteRow.id)
)
_LATEST = (
    select(VoteRow)
    .where(
        VoteRow.rater_id == bindparam("rater"),
        VoteRow.campaign_id == bindparam("campaign"),
        VoteRow.live,
    )
    .order_by(VoteRow.id.desc())
    .limit(1)
)

_NAME = re.compile(r"\w[\w .-]{0,79}")


@dataclass(frozen=True, slots=True)
class Added:
    """What became of comparisons that were handed to a campaign."""

    added: int
    duplicates: int


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Campaigns:
    """The campaigns of one store.

    Args:
        store: Where they are kept.
        clock: The time, in UTC.
        draw: Draws the side on which response a is shown.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], datetime] = utc_now,
        draw: Callable[[], Side] = draw_side,
    ) -> None:
        self._store, self._clock, self._draw = store, clock, draw

    def add(
        self,
        name: str,
        comparisons: Iterable[Comparison],
        *,
        overlap: int = 1,
        guidelines: str = "",
    ) -> Added:
        """Make campaign ``name``, or add to it; a comparison that it holds already is not doubled.

        Raises:
            DataError: if the name or overlap is not acceptable, or the name tells raters a policy.
            Conflict: if the campaign exists with another overlap.
        """
        comparisons = list(comparisons)
        _check_campaign(name, overlap, comparisons)
        with self._store.write() as session:
            campaign = self._named(session, name, overlap)
            campaign.guidelines = guidelines or campaign.guidelines
            of_campaign = ComparisonRow.campaign_id == campaign.id
            known = set(session.scalars(select(ComparisonRow.key).where(of_campaign)))
            fresh: dict[str, Comparison] = {}
            for comparison in comparisons:
                key = min(comparison.id, comparison.swapped().id)
                if key not in known:
                    fresh.setdefault(key, comparison)
            session.add_all(
                ComparisonRow(campaign_id=campaign.id, key=key, record=_as_text(c))
                for key, c in fresh.items()
            )
            campaign.num_comparisons += len(fresh)
        return Added(len(fresh), len(comparisons) - len(fresh))

    def _named(self, session: Session, name: str, overlap: int) -> CampaignRow:
        """The campaign called ``name``, made if there is none."""
        campaign = session.scalar(_NAMED, {"name": name})
        if campaign is None:
            campaign = CampaignRow(
                name=name,
                overlap=overlap,
                guidelines="",
                num_comparisons=0,
                num_complete=0,
                created_at=stamp(self._clock()),
            )
            session.add(campaign)
            session.flush()
        if campaign.overlap != overlap:
            raise Conflict(
                f"campaign {name!r} has overlap {campaign.overlap}, not {overlap}; use that, or "
                "another name"
            )
        return campaign

    def names(self) -> list[tuple[str, str]]:
        """Name and guidelines of every campaign, oldest first."""
        with self._store.read() as session:
            rows = session.execute(
                select(CampaignRow.name, CampaignRow.guidelines).order_by(CampaignRow.id)
            )
            return [(name, guidelines) for name, guidelines in rows]

    def next(self, name: str, rater: int) -> Turn:
        """What ``rater`` is to judge now: what is on the screen already, or something new."""
        with self._store.write() as session:
            return self._turn(session, find_campaign(session, name), rater)

    def progress(self, name: str, rater: int) -> Progress:
        """How far ``rater`` is."""
        with self._store.read() as session:
            return progress_of(session, find_campaign(session, name), rater)

    def submit(self, name: str, rater: int, answer: Answer) -> tuple[int, Turn]:
        """Store an answer; its number, and what is next.

        Raises:
            NotFound: if the assignment is not this rater's.
            Conflict: if the comparison is answered already, or the key was used for another vote.
        """
        with self._store.write() as session:
            campaign = find_campaign(session, name)
            assignment = session.get(AssignmentRow, answer.assignment)
            if (
                assignment is None
                or assignment.rater_id != rater
                or assignment.campaign_id != campaign.id
            ):
                raise NotFound(
                    f"assignment {answer.assignment} is not yours in campaign {name!r}; ask for "
                    "the next one"
                )
            number = self._record(session, campaign, assignment, answer)
            return number, self._turn(session, campaign, rater)

    def _record(
        self, session: Session, campaign: CampaignRow, assignment: AssignmentRow, answer: Answer
    ) -> int:
        outcome = as_outcome(answer.choice, cast("Side", assignment.a_side))
        values = {"rater": assignment.rater_id, "assignment": assignment.id, "key": answer.key}
        earlier = session.scalars(_EARLIER, values).all()
        for vote in earlier:
            if vote.key == answer.key:
                if (vote.assignment_id, vote.outcome) != (assignment.id, outcome):
                    raise Conflict("this key was used for another vote; make a new key for each")
                return vote.id
        if any(vote.live for vote in earlier):
            raise Conflict("this comparison is answered already; undo that answer to change it")
        vote = VoteRow(
            assignment_id=assignment.id,
            campaign_id=campaign.id,
            comparison_id=assignment.comparison_id,
            rater_id=assignment.rater_id,
            outcome=outcome,
            strength=answer.strength,
            reason=answer.reason,
            shown_at=stamp(answer.shown_at) if answer.shown_at else assignment.shown_at,
            answered_at=stamp(self._clock()),
            key=answer.key,
            supersedes=earlier[-1].id if earlier else None,
            live=True,
        )
        session.add(vote)
        assignment.open = False
        _count(session, campaign, vote, +1)
        session.flush()
        return vote.id

    def undo(self, name: str, rater: int) -> Turn:
        """Withdraw the rater's latest answer and show that item again, sides as before.

        Raises:
            Conflict: if there is nothing to withdraw.
        """
        with self._store.write() as session:
            campaign = find_campaign(session, name)
            vote = session.scalar(_LATEST, {"campaign": campaign.id, "rater": rater})
            if vote is None:
                raise Conflict("there is nothing to undo")
            vote.live = False
            session.add(
                VoteRow(
                    assignment_id=vote.assignment_id,
                    campaign_id=campaign.id,
                    comparison_id=vote.comparison_id,
                    rater_id=rater,
                    outcome="undone",
                    answered_at=stamp(self._clock()),
                    key=f"undo {vote.id}",
                    supersedes=vote.id,
                    live=False,
                )
            )
            _count(session, campaign, vote, -1)
            assignment = session.get_one(AssignmentRow, vote.assignment_id)
            assignment.open = True
            keep(assignment, self._clock())
            session.flush()
            return Turn(item_of(session, assignment), progress_of(session, campaign, rater))

    def _turn(self, session: Session, campaign: CampaignRow, rater: int) -> Turn:
        item = next_item(session, campaign, rater, self._clock(), self._draw)
        return Turn(item, progress_of(session, campaign, rater))


def find_campaign(session: Session, name: str) -> CampaignRow:
    """The campaign called ``name``, or :class:`NotFound`."""
    campaign = session.scalar(_NAMED, {"name": name})
    if campaign is None:
        raise NotFound(f"there is no campaign {name!r}")
    return campaign


def _check_campaign(name: str, overlap: int, comparisons: list[Comparison]) -> None:
    if not _NAME.fullmatch(name):
        raise DataError(
            "a campaign name has 1 to 80 letters, digits, spaces or . - _, and starts with a "
            "letter or digit"
        )
    if overlap < 1:
        raise DataError("overlap must be at least 1: the number of raters per comparison")
    policies = {r.policy for c in comparisons for r in (c.response_a, c.response_b) if r.policy}
    words = {word.lower() for word in re.split(r"[\W_]+", name)}
    shown = sorted(policy for policy in policies if policy.lower() in words)
    if len(policies) > 1 and shown:
        raise DataError(
            f"campaign name {name!r} would show policy {shown[0]!r} to the raters; choose a "
            "neutral name"
        )


def _as_text(comparison: Comparison) -> str:
    record = json.dumps(to_json(comparison), ensure_ascii=False)
    try:
        record.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"comparison {comparison.id}: its metadata holds a lone surrogate, which no file can "
            "hold; remove it"
        ) from error
    return record


def _count(session: Session, campaign: CampaignRow, vote: VoteRow, change: int) -> None:
    """Keep the counters of comparison and campaign; a skip fills no place."""
    if vote.outcome == "skip":
        return
    comparison = session.get_one(ComparisonRow, vote.comparison_id)
    before = comparison.complete
    comparison.num_votes += change
    comparison.complete = comparison.num_votes >= campaign.overlap
    campaign.num_complete += comparison.complete - before
