"""Whether what the rows hold can be used: every setting, task, order and answer is read once."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import cast

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from labeling_ui.campaigns.answers import CHOICES
from labeling_ui.campaigns.tasks import Kind, Settings, Task
from labeling_ui.db.tables import AssignmentRow, CampaignRow, TaskRow, VoteRow
from rlhf.errors import DataError

_AT_ONCE = 1000
_SHOWN = 3
_BY_RESPONSE = {"left": "a", "right": "b"}
_OUTCOMES: Mapping[Kind, frozenset[str]] = {
    kind: frozenset(["undone", *(_BY_RESPONSE.get(choice, choice) for choice in choices)])
    for kind, choices in CHOICES.items()
}
_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'vote'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = 'vote'::regclass "
    "AND tgenabled IN ('O', 'A')",
}
_GUARDS = ("vote_is_never_deleted", "vote_only_retires")
_UNREADABLE = (ValueError, TypeError, RecursionError)


class Problems:
    """What is wrong: a few examples of each kind, and how many there are."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, kind: str, *values: object) -> None:
        """One more of a kind, which is a sentence to fill in."""
        self._counts[kind] += 1
        if self._counts[kind] <= _SHOWN:
            self._examples.setdefault(kind, []).append(kind.format(*values))

    def lines(self) -> tuple[str, ...]:
        """Three of each kind at most, the last of which counts the others."""
        found: list[str] = []
        for kind, examples in self._examples.items():
            more = self._counts[kind] - len(examples)
            found += examples[:-1]
            found.append(f"{examples[-1]}, and {more} more like it" if more else examples[-1])
        return tuple(found)


def read_contents(session: Session, settings: Mapping[int, Settings], problems: Problems) -> None:
    """Read every task, order and vote, a thousand rows at a time."""
    there = session.scalars(text(_TRIGGERS[session.get_bind().dialect.name])).all()
    for guard in _GUARDS:
        if guard not in there:
            problems.add("the trigger {} is gone, which keeps votes as they were cast", guard)
    _read_tasks(session, settings, problems)
    _read_votes(session, settings, problems)


def read_settings(session: Session, problems: Problems) -> dict[int, Settings]:
    """The settings of every campaign, by its number, without those that cannot be read."""
    found: dict[int, Settings] = {}
    for row in session.scalars(select(CampaignRow).order_by(CampaignRow.id)):
        try:
            found[row.id] = Settings.from_text(row.settings)
        except _UNREADABLE:
            problems.add("the settings of campaign {} cannot be read", row.name)
            continue
        if (overlap := found[row.id].overlap) != row.overlap:
            sentence = "campaign {} asks for {} votes in its settings, for {} beside them"
            problems.add(sentence, row.name, overlap, row.overlap)
    return found


def _read_tasks(session: Session, settings: Mapping[int, Settings], problems: Problems) -> None:
    """The tasks, and the orders in which they are shown."""
    columns = (TaskRow.id, TaskRow.campaign_id, TaskRow.key, TaskRow.record)
    rows = session.execute(
        select(*columns).order_by(TaskRow.id).execution_options(yield_per=_AT_ONCE)
    )
    for part in rows.partitions():
        counts = {
            number: _num_responses(number, key, record, settings.get(campaign), problems)
            for number, campaign, key, record in part
        }
        orders = session.execute(
            select(AssignmentRow.id, AssignmentRow.task_id, AssignmentRow.order)
            .where(AssignmentRow.task_id.between(part[0].id, part[-1].id))
            .order_by(AssignmentRow.task_id, AssignmentRow.rater_id)
        )
        for number, task, order in orders:
            count = counts.get(task)
            if count is not None and sorted(order) != [str(place) for place in range(count)]:
                sentence = "assignment {} shows {!r}, which is no order of {} responses"
                problems.add(sentence, number, order, count)


def _num_responses(
    number: int, key: str, record: str, settings: Settings | None, problems: Problems
) -> int | None:
    """How many responses a task has; None if that cannot be read."""
    try:
        task = Task.from_text(record)
        hashed = task.key
    except _UNREADABLE:
        problems.add("the record of task {} cannot be read", number)
        return None
    if key != hashed:
        problems.add("the key of task {} is not the hash of its content", number)
    try:
        if settings is not None:
            task.check(settings)
    except DataError as error:
        problems.add("task {} cannot be asked: {}", number, error)
    return len(task.responses)


def _read_votes(session: Session, settings: Mapping[int, Settings], problems: Problems) -> None:
    columns = (VoteRow.id, VoteRow.campaign_id, VoteRow.outcome, VoteRow.content)
    rows = session.execute(
        select(*columns, AssignmentRow.order)
        .join(AssignmentRow, AssignmentRow.id == VoteRow.assignment_id)
        .order_by(VoteRow.id)
        .execution_options(yield_per=_AT_ONCE)
    )
    for number, campaign, outcome, content, order in rows:
        rules = settings.get(campaign)
        if rules is not None and outcome not in _OUTCOMES[rules.kind]:
            sentence = "vote {} says {}, which is no answer in a campaign of kind {}"
            problems.add(sentence, number, outcome, rules.kind)
        if not _is_content(outcome, content, len(order)):
            problems.add("the content of vote {} cannot be read", number)


def _is_content(outcome: str, content: str, count: int) -> bool:
    """Whether it says what such an outcome needs, of so many responses."""
    try:
        data = json.loads(content)
    except _UNREADABLE:
        return False
    if not isinstance(data, dict):
        return False
    held = cast("dict[str, object]", data)
    if outcome == "rewritten" and not isinstance(held.get("text"), str):
        return False
    if outcome == "ranked" and not _is_ranking(held.get("ranking"), count):
        return False
    return isinstance(held.get("aspects", None if outcome == "rated" else {}), dict)


def _is_ranking(ranking: object, count: int) -> bool:
    groups = cast("list[object]", ranking) if isinstance(ranking, list) else []
    lists = [cast("list[object]", group) for group in groups if isinstance(group, list) and group]
    places = sorted(str(place) for group in lists for place in group)
    return len(lists) == len(groups) and places == [str(place) for place in range(count)]
