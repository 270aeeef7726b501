"""What the votes of a campaign amount to: status, agreement, and the export that trains."""

import json
import os
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import func, select
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
from rlhf.errors import DataError
from rlhf.records import (
    Comparison,
    Outcome,
    Preference,
    Side,
    Tally,
    Vote,
    settle,
    tally,
    to_json,
)


@dataclass(frozen=True, slots=True)
class RaterCount:
    """How much one rater did."""

    name: str
    votes: int
    skips: int


@dataclass(frozen=True, slots=True)
class Status:
    """How far a campaign is. ``votes`` and ``agreement`` leave skips out."""

    name: str
    overlap: int
    comparisons: int
    complete: int
    votes: int
    skips: int
    raters: tuple[RaterCount, ...]
    agreement: float | None
    """Chance that two raters of the same comparison gave the same outcome; None without such."""


@dataclass(frozen=True, slots=True)
class Tie:
    """A judged comparison that neither response won."""

    comparison: str
    counts: Tally


@dataclass(frozen=True, slots=True)
class Export:
    """Everything in a campaign, settled. Votes are the live ones."""

    status: Status
    guidelines: str
    comparisons: tuple[Comparison, ...]
    votes: tuple[Vote, ...]
    preferences: tuple[Preference, ...]
    ties: tuple[Tie, ...]

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """The four lists of an export, each entry one JSON object."""
        return {
            "comparisons": [to_json(comparison) for comparison in self.comparisons],
            "votes": [to_json(vote) for vote in self.votes],
            "preferences": [to_json(preference) for preference in self.preferences],
            "ties": [asdict(tie) for tie in self.ties],
        }


def status_of(store: Store, name: str) -> Status:
    """How far campaign ``name`` is."""
    with store.read() as session:
        return _status(session, find_campaign(session, name))


def all_status(store: Store) -> list[Status]:
    """How far every campaign is, oldest first."""
    with store.read() as session:
        campaigns = session.scalars(select(CampaignRow).order_by(CampaignRow.id)).all()
        return [_status(session, campaign) for campaign in campaigns]


def _status(session: Session, campaign: CampaignRow) -> Status:
    from rlhf.evaluate.agreement import OUTCOMES, agreeing_share, count_values

    live = (VoteRow.campaign_id == campaign.id, VoteRow.live)
    skips = func.count().filter(VoteRow.outcome == "skip")
    raters = session.execute(
        select(UserRow.name, func.count() - skips, skips)
        .join_from(VoteRow, UserRow, UserRow.id == VoteRow.rater_id)
        .where(*live)
        .group_by(UserRow.id)
        .order_by(func.count().desc(), UserRow.name)
    ).all()
    outcomes = session.execute(
        select(VoteRow.comparison_id, VoteRow.outcome).where(*live, VoteRow.outcome != "skip")
    )
    given = count_values(((row.comparison_id, row.outcome) for row in outcomes), OUTCOMES)
    counts = tuple(RaterCount(*row) for row in raters)
    return Status(
        name=campaign.name,
        overlap=campaign.overlap,
        comparisons=campaign.num_comparisons,
        complete=campaign.num_complete,
        votes=sum(rater.votes for rater in counts),
        skips=sum(rater.skips for rater in counts),
        raters=counts,
        agreement=agreeing_share(given),
    )


def export(store: Store, name: str) -> Export:
    """Everything in campaign ``name`` as of one moment."""
    with store.read() as session:
        campaign = find_campaign(session, name)
        comparisons = {
            row.id: load_comparison(row)
            for row in session.scalars(
                select(ComparisonRow)
                .where(ComparisonRow.campaign_id == campaign.id)
                .order_by(ComparisonRow.id)
            )
        }
        votes: defaultdict[int, list[Vote]] = defaultdict(list)
        rows = session.execute(
            select(VoteRow, UserRow.name, AssignmentRow.a_side)
            .join_from(VoteRow, UserRow, UserRow.id == VoteRow.rater_id)
            .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
            .where(VoteRow.campaign_id == campaign.id, VoteRow.live)
            .order_by(VoteRow.id)
        )
        for row, rater, a_side in rows:
            comparison = comparisons[row.comparison_id]
            votes[row.comparison_id].append(_vote(row, comparison, rater, a_side))
        status, guidelines = _status(session, campaign), campaign.guidelines
    settled = {key: settle(comparison, votes[key]) for key, comparison in comparisons.items()}
    return Export(
        status=status,
        guidelines=guidelines,
        comparisons=tuple(comparisons.values()),
        votes=tuple(vote for key in comparisons for vote in votes[key]),
        preferences=tuple(preference for preference in settled.values() if preference),
        ties=tuple(
            Tie(comparison.id, tally(votes[key]))
            for key, comparison in comparisons.items()
            if tally(votes[key]).n and settled[key] is None
        ),
    )


def _vote(row: VoteRow, comparison: Comparison, rater: str, a_side: str) -> Vote:
    return Vote(
        comparison=comparison.id,
        rater=rater,
        outcome=cast("Outcome", row.outcome),
        a_side=cast("Side", a_side),
        strength=row.strength,
        reason=row.reason,
        shown_at=row.shown_at,
        answered_at=row.answered_at,
    )


def write_folder(result: Export, folder: Path) -> None:
    """Write an export as a folder that ``rlhf`` and ``datasets`` read; all of it or nothing.

    Raises:
        DataError: if there is no vote yet, or ``folder`` exists or cannot be written.
    """
    if not result.votes:
        raise DataError(
            f"campaign {result.status.name!r} has no votes yet; there is nothing to export"
        )
    if folder.exists():
        raise DataError(f"{folder}: exists already; name a new folder")
    files = {
        f"{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for name, rows in result.to_json().items()
    }
    files["README.md"] = dataset_card(result)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            part = Path(scratch, "part")
            part.mkdir()
            for name, text in files.items():
                with (part / name).open("w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
            part.rename(folder)
    except OSError as error:
        raise DataError(
            f"{folder}: the export cannot be written ({error.strerror}); free space or name "
            "another folder"
        ) from error


def dataset_card(result: Export) -> str:
    """The README of an export: what it holds, who judged, how well they agree."""
    status = result.status
    agreement = (
        "no comparison has two votes yet"
        if status.agreement is None
        else f"{status.agreement:.1%} of pairs of votes on the same comparison agree"
    )
    judged = f"{status.complete} of them with {status.overlap} or more votes"
    raters = "\n".join(f"| {r.name} | {r.votes} | {r.skips} |" for r in status.raters)
    # `datasets` cannot read an empty file, and the first of these is what it takes.
    files = [name for name, rows in result.to_json().items() if rows]
    files.sort(key=("preferences", "votes", "ties", "comparisons").index)
    configs = "\n".join(
        f"- config_name: {name}\n  data_files: {name}.jsonl\n  default: {str(not index).lower()}"
        for index, name in enumerate(files)
    )
    return f"""---
configs:
{configs}
---
# {status.name}

People compared two responses to a prompt, blind, each time with the sides drawn at random.

| | |
|---|---|
| comparisons | {status.comparisons}, {judged} |
| votes | {status.votes}, and {status.skips} skips |
| raters | {len(status.raters)} |
| agreement | {agreement} |
| preferences | {len(result.preferences)} |
| ties | {len(result.ties)} |

- `preferences.jsonl`: comparisons that one response won. With n votes, skips left out, `margin` is
  |a - b| / n and `agreement` is the winner's votes / n.
- `ties.jsonl`: judged comparisons that neither won, with the counts. Not for training.
- `votes.jsonl`: every vote that counts, and skips; `a_side` is where response a was shown.
- `comparisons.jsonl`: what was asked, with the policy that wrote each response.

## Guidelines

{result.guidelines or "None were given."}

## Raters

| rater | votes | skips |
|---|---|---|
{raters}
"""
