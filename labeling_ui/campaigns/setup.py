"""What an admin puts in: campaigns, their guidelines and tasks, and raters' lists of tasks."""

import json
import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from labeling_ui.campaigns.answers import chance
from labeling_ui.campaigns.assignment import NEVER, stamp
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Conflict, NotFound
from labeling_ui.db.tables import AssignmentRow, CampaignRow, GuidelineRow, TaskRow, UserRow
from labeling_ui.locales import Sentence
from rlhf.errors import DataError

NAMED = select(CampaignRow).where(CampaignRow.name == bindparam("name"))
_GUIDELINE = (
    select(GuidelineRow.version, GuidelineRow.text)
    .where(GuidelineRow.campaign_id == bindparam("campaign"))
    .order_by(GuidelineRow.version.desc())
    .limit(1)
)


_NAME = re.compile(r"\w[\w .-]{0,79}")


@dataclass(frozen=True, slots=True)
class Added:
    """What became of what was handed to a campaign."""

    added: int
    duplicates: int


def find_campaign(session: Session, name: str) -> CampaignRow:
    """The campaign called ``name``, or :class:`NotFound`."""
    campaign = session.scalar(NAMED, {"name": name})
    if campaign is None:
        raise NotFound(Sentence("refused_campaign", name=repr(name)))
    return campaign


def make(session: Session, name: str, settings: Settings, now: datetime) -> CampaignRow:
    """A new campaign.

    Raises:
        DataError: if the name is not acceptable.
    """
    if not _NAME.fullmatch(name):
        raise DataError(
            "a campaign name has 1 to 80 letters, digits, spaces or . - _, and starts with a "
            "letter or digit"
        )
    campaign = CampaignRow(
        name=name,
        overlap=settings.overlap,
        settings=settings.to_text(),
        num_tasks=0,
        num_complete=0,
        created_at=stamp(now),
    )
    session.add(campaign)
    session.flush()
    return campaign


def guide(session: Session, campaign: CampaignRow, text: str, now: datetime) -> None:
    """Keep guidelines that are new as the next version."""
    version, in_force = guidelines_of(session, campaign.id)
    if text and text != in_force:
        row = GuidelineRow(
            campaign_id=campaign.id, version=version + 1, text=text, created_at=stamp(now)
        )
        session.add(row)


def guidelines_of(session: Session, campaign: int) -> tuple[int, str]:
    """The version of the guidelines in force, and their text; (0, "") where there are none."""
    row = session.execute(_GUIDELINE, {"campaign": campaign}).one_or_none()
    return (row.version, row.text) if row else (0, "")


def add_tasks(
    session: Session, campaign: CampaignRow, tasks: Sequence[Task], settings: Settings | None
) -> Added:
    """Add those that the campaign does not hold already.

    Raises:
        DataError: if a task is not of the campaign's kind, the name tells raters a policy, or the
            campaign is the arena's.
        Conflict: if ``settings`` are not the campaign's.
    """
    rules = Settings.from_text(campaign.settings)
    if rules.source == "arena":
        raise DataError("a campaign whose source is the arena holds battles; use another source")
    if settings is not None and settings != rules:
        differing = asdict(rules).items() - asdict(settings).items()
        kept = json.dumps(dict(sorted(differing)))
        raise Conflict(
            f"campaign {campaign.name!r} has other settings ({kept}); use those, or another name"
        )
    for number, task in enumerate(tasks):
        try:
            task.check(rules)
        except DataError as error:
            raise DataError(f"task {number}: {error}") from error
    check_blindness(campaign.name, {r.policy for task in tasks for r in task.responses})
    known = set(session.scalars(select(TaskRow.key).where(TaskRow.campaign_id == campaign.id)))
    fresh: dict[str, Task] = {}
    for task in tasks:
        if (key := task.key) not in known:
            fresh.setdefault(key, task)
    if fresh:
        session.execute(insert(TaskRow), [_row(campaign.id, k, task) for k, task in fresh.items()])
    campaign.num_tasks += sum(task.use == "work" for task in fresh.values())
    return Added(len(fresh), len(tasks) - len(fresh))


def check_blindness(name: str, policies: Set[str]) -> None:
    """The name of a campaign is for raters, who must not learn a policy from it.

    Raises:
        DataError: if there are several policies, and words of the name are the name of one.
    """
    words = _words(name)
    spans = {
        "".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, len(words) + 1)
    }
    shown = sorted(policy for policy, own in _own_names(policies - {""}).items() if own in spans)
    if shown:
        raise DataError(
            f"campaign name {name!r} would show policy {shown[0]!r} to the raters; choose a "
            "neutral name"
        )


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", name.casefold()) if word]


def _own_names(policies: Set[str]) -> dict[str, str]:
    """What tells each policy from the others: the last part of its path that not all share.

    Punctuation is left out. One letter or a number says nothing, and would refuse "part 2".
    """
    parts = {policy: re.split(r"[/\\]", policy) for policy in policies}
    common = set.intersection(*map(set, parts.values())) if parts else set[str]()
    own = {
        policy: "".join(_words(next((p for p in reversed(path) if p not in common), "")))
        for policy, path in parts.items()
    }
    return {policy: said for policy, said in own.items() if len(said) > 1 and not said.isdecimal()}


def _row(campaign: int, key: str, task: Task) -> dict[str, object]:
    return {
        "campaign_id": campaign,
        "key": key,
        "record": task.to_text(),
        "use": "check" if task.use in ("gold", "attention") else task.use,
        "rank": 0.0,
        "shuffle": chance(),
        "num_votes": 0,
        "complete": False,
    }


def _by_comparison(tasks: Iterable[tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """Two responses have an id in either order, one of which is the task's key."""
    found: dict[str, tuple[int, str]] = {}
    for number, record in tasks:
        task = Task.from_text(record)
        if len(task.responses) == 2:
            [pair] = task.comparisons()
            found |= {pair.id: (number, record), pair.swapped().id: (number, record)}
    return found


def add_to_lists(
    session: Session,
    campaign: CampaignRow,
    pairs: Sequence[tuple[str, str]],
    draw: Callable[[int], str],
) -> Added:
    """Put tasks, by key or by a comparison's id, on the lists of raters, by name.

    What is there already is not doubled.

    Raises:
        DataError: if the campaign has no lists, or a rater or task is not known.
    """
    if Settings.from_text(campaign.settings).source != "list":
        raise DataError(f"campaign {campaign.name!r} has no lists: its source is the pool")
    people = dict(session.execute(select(UserRow.name, UserRow.id)).all())
    rows = session.execute(
        select(TaskRow.key, TaskRow.id, TaskRow.record).where(TaskRow.campaign_id == campaign.id)
    )
    tasks = {key: (number, record) for key, number, record in rows}
    if any(key not in tasks for _, key in pairs):
        tasks |= _by_comparison(tasks.values())
    given = session.execute(
        select(AssignmentRow.rater_id, AssignmentRow.task_id).where(
            AssignmentRow.campaign_id == campaign.id
        )
    )
    known = {(rater, task) for rater, task in given}
    fresh: dict[tuple[int, int], str] = {}
    for rater, key in pairs:
        if rater not in people or key not in tasks:
            what = f"rater {rater!r}" if rater not in people else f"task {key!r}"
            raise DataError(f"{what} is not known; add it before it is assigned")
        number, record = tasks[key]
        if (people[rater], number) not in known:
            fresh.setdefault((people[rater], number), record)
    if fresh:
        session.execute(
            insert(AssignmentRow),
            [
                {
                    "campaign_id": campaign.id,
                    "task_id": task,
                    "rater_id": rater,
                    "order": draw(len(Task.from_text(record).responses)),
                    "source": "list",
                    "shown_at": "",
                    "expires_at": NEVER,
                    "open": True,
                }
                for (rater, task), record in fresh.items()
            ],
        )
    return Added(len(fresh), len(pairs) - len(fresh))
