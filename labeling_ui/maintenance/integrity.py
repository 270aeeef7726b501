"""Whether the database is sound: its counts, the ties between its tables, what its rows hold."""

from dataclasses import dataclass

from sqlalchemy import TextClause, bindparam, func, select, text
from sqlalchemy.orm import Session

from labeling_ui.db.store import Store
from labeling_ui.db.tables import Base
from labeling_ui.maintenance.contents import Problems, read_contents, read_settings

_RULES = {
    "the places of task {} do not add up: its votes were {}, counted {}": """
        SELECT task.id, count(vote.id), task.num_votes FROM task
        JOIN campaign ON campaign.id = task.campaign_id
        LEFT JOIN vote ON vote.task_id = task.id AND vote.live
            AND (vote.outcome <> 'skip' OR campaign.id IN :dropping)
            AND vote.assignment_id IN (SELECT id FROM assignment WHERE source <> 'adjudicate')
        WHERE task.use = 'work'
        GROUP BY task.id, task.num_votes HAVING count(vote.id) <> task.num_votes""",
    "task {} is marked complete, or not, against its {} votes of {}": """
        SELECT task.id, task.num_votes, campaign.overlap FROM task
        JOIN campaign ON campaign.id = task.campaign_id
        WHERE task.use = 'work' AND task.complete <> (task.num_votes >= campaign.overlap)""",
    "task {} has {} votes where {} were asked for": """
        SELECT task.id, task.num_votes, campaign.overlap FROM task
        JOIN campaign ON campaign.id = task.campaign_id
        WHERE task.num_votes > campaign.overlap AND campaign.id IN :pooled""",
    "campaign {} counts {} tasks and has {}": """
        SELECT campaign.name, campaign.num_tasks, count(task.id) FROM campaign
        LEFT JOIN task ON task.campaign_id = campaign.id AND task.use = 'work'
        GROUP BY campaign.id, campaign.name, campaign.num_tasks
        HAVING count(task.id) <> campaign.num_tasks""",
    "campaign {} counts {} complete tasks and has {}": """
        SELECT campaign.name, campaign.num_complete, count(task.id) FROM campaign
        LEFT JOIN task ON task.campaign_id = campaign.id AND task.use = 'work' AND task.complete
        GROUP BY campaign.id, campaign.name, campaign.num_complete
        HAVING count(task.id) <> campaign.num_complete""",
    "vote {} is of another task, rater or campaign than its assignment {}": """
        SELECT vote.id, assignment.id FROM vote
        JOIN assignment ON assignment.id = vote.assignment_id
        WHERE vote.task_id <> assignment.task_id OR vote.rater_id <> assignment.rater_id
            OR vote.campaign_id <> assignment.campaign_id""",
    "rater {} has {} votes that count on task {}": """
        SELECT rater_id, count(*), task_id FROM vote WHERE live
        GROUP BY rater_id, task_id HAVING count(*) > 1""",
    "vote {} does not count, and nothing says why": """
        SELECT vote.id FROM vote LEFT JOIN vote AS later ON later.supersedes = vote.id
        WHERE NOT vote.live AND NOT vote.surplus AND vote.outcome <> 'undone'
            AND later.id IS NULL""",
    "task {} was decided by {} adjudicators": """
        SELECT vote.task_id, count(*) FROM vote
        JOIN assignment ON assignment.id = vote.assignment_id
        WHERE vote.live AND vote.outcome <> 'skip' AND assignment.source = 'adjudicate'
        GROUP BY vote.task_id HAVING count(*) > 1""",
    "vote {} counts though its place had gone to somebody else": """
        SELECT id FROM vote WHERE live AND surplus""",
    "vote {} was given under version {} of the guidelines, which there is not": """
        SELECT vote.id, vote.guideline FROM vote LEFT JOIN guideline
            ON guideline.campaign_id = vote.campaign_id AND guideline.version = vote.guideline
        WHERE vote.guideline <> 0 AND guideline.version IS NULL""",
    "assignment {} is open though vote {} answers it": """
        SELECT assignment.id, vote.id FROM assignment
        JOIN vote ON vote.assignment_id = assignment.id AND vote.live
        WHERE assignment.open""",
}
"""What must not be found, and the query that finds it.

``dropping`` are the campaigns in which a skip fills a place, ``pooled`` those that hand out tasks.
"""


_COUNTED = {"person": "people", "campaign": "campaigns", "task": "tasks", "vote": "votes"}


@dataclass(frozen=True, slots=True)
class Findings:
    """What a database holds, and what is wrong with it."""

    counts: dict[str, int]
    problems: tuple[str, ...]


def examine(store: Store) -> Findings:
    """Check, as of one moment, every count, every tie between the tables, and what rows hold."""
    problems = Problems()
    with store.read() as session:
        if store.kind == "sqlite":
            _damage(session, problems)
        settings = read_settings(session, problems)
        which = {
            "dropping": [number for number, one in settings.items() if one.skip == "drop"],
            "pooled": [number for number, one in settings.items() if one.source == "pool"],
        }
        for sentence, query in _RULES.items():
            for row in session.execute(_statement(query), which):
                problems.add(sentence, *row)
        read_contents(session, settings, problems)
        counts = {
            what: session.scalar(select(func.count()).select_from(Base.metadata.tables[name])) or 0
            for name, what in _COUNTED.items()
        }
    return Findings(counts, problems.lines())


def _statement(query: str) -> TextClause:
    lists = (name for name in ("dropping", "pooled") if f":{name}" in query)
    return text(query).bindparams(*(bindparam(name, expanding=True) for name in lists))


def _damage(session: Session, problems: Problems) -> None:
    for line in session.scalars(text("PRAGMA integrity_check")):
        if line != "ok":
            problems.add("the file is damaged: {}", line)
    for row in session.execute(text("PRAGMA foreign_key_check")):
        problems.add("row {1} of {0} refers to nothing", *row)
