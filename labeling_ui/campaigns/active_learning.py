"""Active selection: the order in which the share of tasks that is not random is handed out.

What is least certain comes first. The random share beside it stays free of the choice, and it alone
counts in the leaderboard.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from labeling_ui.campaigns.adjudication import answers_apart
from labeling_ui.campaigns.setup import find_campaign
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Store
from labeling_ui.db.tables import CampaignRow, TaskRow
from rlhf.errors import DataError

_LAST = 1e9
"""The rank of what nothing is known about."""


def rank_by_disagreement(store: Store, name: str) -> int:
    """First those on which the raters so far differ most; how many there are.

    Raises:
        DataError: if the campaign hands nothing out by rank.
    """
    with store.read() as session:  # of every vote, for which nobody is to wait
        shares = answers_apart(session, _ranked(session, name))
    with store.write() as session:
        ranks = {task: -share for task, share in shares.items() if share}
        return _put(session, find_campaign(session, name), ranks)


def rank_by_reward(
    store: Store, name: str, run: str, on_progress: Callable[[int], object] | None = None
) -> int:
    """First those whose responses the reward run scores most alike; how many there are.

    The model's chance that one beats another is the sigmoid of the difference of their scores,
    and is least certain where that is 0. Of several responses the two nearest count.

    Raises:
        DataError: if the campaign hands nothing out by rank, or asks about one response alone.
        RunError: if ``run`` is no finished reward run.
    """
    from rlhf.model.scorer import load_scorer  # with torch, which the rest does without

    with store.read() as session:
        campaign = _ranked(session, name)
        found = session.execute(select(TaskRow.id, TaskRow.record).where(*_open(campaign.id)))
        tasks = {number: Task.from_text(record) for number, record in found}
    if any(len(task.responses) < 2 for task in tasks.values()):
        raise DataError(f"campaign {name!r} asks about one response each; rank by disagreement")
    rows = [(task.prompt, response.text) for task in tasks.values() for response in task.responses]
    scores = iter(load_scorer(run).score([p for p, _ in rows], [t for _, t in rows], on_progress))
    ranks: dict[int, float] = {}
    for number, task in tasks.items():
        own = sorted(next(scores) for _ in task.responses)
        ranks[number] = min(b - a for a, b in pairwise(own))
    with store.write() as session:
        return _put(session, find_campaign(session, name), ranks)


def _ranked(session: Session, name: str) -> CampaignRow:
    campaign = find_campaign(session, name)
    settings = Settings.from_text(campaign.settings)
    if settings.source != "pool" or settings.random_share == 1:
        raise DataError(
            f"campaign {name!r} hands out no task by rank; make one with --set random_share=0.3, "
            "the share that stays random"
        )
    return campaign


def _open(campaign: int) -> tuple[ColumnElement[bool], ...]:
    return (TaskRow.campaign_id == campaign, TaskRow.use == "work", ~TaskRow.complete)


def _put(session: Session, campaign: CampaignRow, ranks: Mapping[int, float]) -> int:
    everything = update(TaskRow).where(*_open(campaign.id)).values(rank=_LAST)
    session.execute(everything)
    rows = [{"id": number, "rank": rank} for number, rank in ranks.items()]
    if rows:
        session.execute(update(TaskRow), rows)
    return len(rows)
