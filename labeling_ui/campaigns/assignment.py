"""Which task a rater gets, and how far along the rater is.

A task has as many places as its campaign has ``overlap``. A live vote fills one (a skip does not,
unless the campaign drops what is skipped), and an assignment that was handed out keeps one free
until it expires.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, Executable, Row

from labeling_ui.campaigns import queries as sql
from labeling_ui.campaigns.answers import Item, Progress, Turn, chance, draw_order
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import NotFound
from labeling_ui.locales import Sentence

NEVER = "9999"
"""When an assignment of a list or a battle expires; as text it comes after every time."""


@dataclass(slots=True)
class Rules:
    """A campaign as a desk needs it."""

    id: int
    name: str
    settings: Settings
    num_tasks: int
    num_complete: int
    guideline: int
    """The version of the guidelines in force; 0 where there are none."""

    @classmethod
    def of(cls, connection: Connection, name: str) -> Self:
        """Those of the campaign called ``name``, or :class:`NotFound`."""
        row = connection.execute(sql.CAMPAIGN, {"name": name}).one_or_none()
        if row is None:
            raise NotFound(Sentence("refused_campaign", name=repr(name)))
        number, name, settings, *counts = row
        return cls(number, name, Settings.from_text(settings), *counts)


@dataclass(frozen=True, slots=True)
class Assigned:
    """An assignment, with its task as it was read."""

    id: int
    campaign: int
    task: int
    rater: int
    order: str
    source: str
    shown_at: str
    expires_at: str
    open: bool
    use: str
    record: str
    num_votes: int
    complete: bool

    @property
    def is_shown(self) -> bool:
        """Whether the rater has seen it; what is on a list waits."""
        return self.shown_at != ""

    @property
    def item(self) -> Item:
        """What the rater sees of it."""
        return item_of(self.id, self.order, Task.from_text(self.record))


class Desk:
    """What one rater of one campaign has done and gets next, inside one transaction.

    Args:
        connection: The transaction, one that writes.
        rules: The campaign.
        rater: The rater's number.
        now: The time, in UTC.
        draw: Draws the order in which so many responses are shown.
    """

    decides = False
    """Whether it is the desk of an adjudicator."""

    def __init__(
        self,
        connection: Connection,
        rules: Rules,
        rater: int,
        now: datetime,
        draw: Callable[[int], str] = draw_order,
    ) -> None:
        self.connection, self.rules, self.rater = connection, rules, rater
        self.now, self._draw = stamp(now), draw
        self._lease = stamp(now + timedelta(minutes=rules.settings.lease_minutes))
        self.values: dict[str, Any] = {
            "campaign": rules.id,
            "rater": rater,
            "now": self.now,
            "overlap": rules.settings.overlap,
            "decides": self.decides,
        }

    def one(self, statement: Executable, **values: Any) -> Row[*tuple[Any, ...]] | None:  # noqa: ANN401
        """The row that ``statement`` finds, given what it asks beside what the desk knows."""
        return self.connection.execute(statement, self.values | values).one_or_none()

    def number(self, statement: Executable, **values: Any) -> int:  # noqa: ANN401
        """A count."""
        return self.connection.execute(statement, self.values | values).scalar_one()

    def turn(self) -> Turn:
        """What the rater has open already, else a new task with an order drawn for it."""
        held = self.held()
        if held is not None and held.is_shown:
            return self.turn_of(self.show(held))
        return self.turn_of(*self._new(held))

    def held(self) -> Assigned | None:
        """What the rater has open: what is on the screen, else what comes first on the list."""
        row = self.one(sql.OPEN)
        found = None if row is None else Assigned(*row)
        if found is None or found.is_shown or not self.rules.settings.checks_raters:
            return found
        check = self.one(sql.OPEN_CHECK)
        return found if check is None else Assigned(*check)

    def turn_of(self, item: Item | None, notice: str = "") -> Turn:
        """The item with how far the rater is."""
        return Turn(item, self.progress(), notice)

    def _new(self, listed: Assigned | None) -> tuple[Item | None, str]:
        """A task that the rater has not seen, ``listed`` where there are lists, or why not."""
        settings = self.rules.settings
        if settings.quota is not None:
            work, _, _, skips = self._counts()
            # what comes back at the end is still to be answered
            if work - skips * (settings.skip == "later") >= settings.quota:
                return None, Sentence("stop_quota")
        item, notice = self._checked()
        if item or notice:
            return item, notice
        return self._work(settings, listed), ""

    def refusal(self) -> str:
        """Why the rater gets nothing more, and so may not try another answer; empty if not so."""
        return self._refusal(self._checks())

    def _checks(self) -> list[tuple[str, Task, int]]:
        """What the rater answered to tasks that check raters, with the number of each vote."""
        if not self.rules.settings.checks_raters:
            return []
        rows = self.connection.execute(sql.CHECKED, self.values)
        return [(outcome, Task.from_text(record), vote) for outcome, record, vote in rows]

    def _refusal(self, answers: Sequence[tuple[str, Task, int]]) -> str:
        settings = self.rules.settings
        failed = sum(t.use == "attention" and o != t.expected for o, t, _ in answers)
        if settings.max_failed_checks is not None and failed > settings.max_failed_checks:
            return Sentence("stop_attention")
        passed = [o == t.expected for o, t, _ in answers if t.use == "qualify"]
        to_come = (sql.OPEN_CHECK, sql.UNSEEN["qualify"])
        if settings.pass_mark is None or not passed or any(self.one(s) for s in to_come):
            return ""
        too_few = sum(passed) / len(passed) < settings.pass_mark
        return Sentence("stop_qualification") if too_few else ""

    def _checked(self) -> tuple[Item | None, str]:
        """A task that checks the rater, where one is due, or what those before have shown."""
        settings, answers = self.rules.settings, self._checks()
        notice = self._refusal(answers)
        item = self._unseen("qualify") if settings.pass_mark is not None and not notice else None
        if item or notice or settings.check_every is None:
            return item, notice
        last = max((vote for _, t, vote in answers if t.use != "qualify"), default=0)
        due = self.number(sql.SINCE, last=last) >= settings.check_every
        return self._unseen("check") if due else None, ""

    def _work(self, settings: Settings, listed: Assigned | None) -> Item | None:
        if listed is not None:
            return self.show(listed)
        if settings.source == "pool":
            source = "order"
            if settings.random_share < 1:
                source = "random" if chance() < settings.random_share else "active"
            item = self._unseen(source)
            if item is not None:
                return item
        return self._skipped() if settings.skip == "later" else None

    def _skipped(self) -> Item | None:
        """What the rater skipped first, once more."""
        vote = self.one(sql.SKIPPED)
        if vote is None:
            return None
        assigned = self.own(vote.assignment_id)
        self.withdraw(vote.id, assigned)
        return self.reopen(assigned)

    def _unseen(self, source: str) -> Item | None:
        found = self.one(sql.UNSEEN[source])
        return None if found is None else self.hand_out(found.id, found.record, source)

    def hand_out(self, task: int, record: str, source: str) -> Item:
        """Give the task of that number to the rater."""
        asked = Task.from_text(record)
        order = self._draw(len(asked.responses))
        values = {
            "campaign_id": self.rules.id,
            "task_id": task,
            "rater_id": self.rater,
            "shown_order": order,
            "source": source,
            "shown_at": self.now,
            "expires_at": self._lease,
            "open": True,
        }
        number = self.connection.execute(sql.HAND_OUT, values).scalar_one()
        return item_of(number, order, asked)

    def own(self, number: int) -> Assigned:
        """An assignment of this rater at this desk.

        Raises:
            NotFound: if it is none.
        """
        row = self.one(sql.BY_NUMBER, number=number)
        found = None if row is None else Assigned(*row)
        if (
            found is None
            or (found.rater, found.campaign) != (self.rater, self.rules.id)
            or (found.source == "adjudicate") != self.decides
        ):
            name = repr(self.rules.name)
            raise NotFound(Sentence("refused_assignment", number=number, name=name))
        return found

    def show(self, assigned: Assigned) -> Item:
        """The assignment as it stands on the screen; its place is kept from now on."""
        if assigned.source != "list" or not assigned.shown_at:
            self._touch(assigned, is_open=True)
        return assigned.item

    def reopen(self, assigned: Assigned) -> Item:
        """Show what was answered again, in the order in which it stood."""
        self._touch(assigned, is_open=True)
        return assigned.item

    def beat(self, assigned: Assigned) -> None:
        """What is still on the screen keeps its place."""
        if assigned.open and self.may_fill(assigned):
            self._touch(assigned, is_open=True)

    def may_fill(self, assigned: Assigned) -> bool:
        """Whether a vote on it is one that was asked for: what others took meanwhile is not."""
        if assigned.use != "work" or (assigned.open and assigned.expires_at > self.now):
            return True
        return assigned.expires_at == NEVER or self.has_place(assigned)

    def close(self, assigned: Assigned) -> None:
        """It was answered."""
        self._touch(assigned, is_open=False)

    def _touch(self, assigned: Assigned, *, is_open: bool) -> None:
        kept = is_open and assigned.source not in ("list", "arena")
        values = {
            "number": assigned.id,
            "is_open": is_open,
            "shown": assigned.shown_at or self.now,
            "expires": self._lease if kept else assigned.expires_at,
        }
        self.connection.execute(sql.TOUCH, values)

    def has_place(self, assigned: Assigned) -> bool:
        """Whether a vote of this rater would still be one of those that were asked for."""
        return self.one(sql.PLACE_LEFT, task=assigned.task) is not None

    def count(self, assigned: Assigned, outcome: str, change: int) -> None:
        """Keep the counters of task and campaign; a skip fills no place unless it is dropped."""
        rules = self.rules
        if assigned.use != "work" or (outcome == "skip" and rules.settings.skip != "drop"):
            return
        votes = assigned.num_votes + change
        complete = votes >= rules.settings.overlap
        values = {"task": assigned.task, "votes": votes, "is_complete": complete}
        self.connection.execute(sql.FILL, values)
        if complete != assigned.complete:
            rules.num_complete += complete - assigned.complete
            changed = {"number": rules.id, "complete": rules.num_complete}
            self.connection.execute(sql.COMPLETE, changed)

    def withdraw(self, vote: int, assigned: Assigned) -> None:
        """Retire the vote of that number by a row that supersedes it."""
        self.connection.execute(sql.RETIRE, {"vote": vote})
        undone = {
            "outcome": "undone",
            "key": f"undo {vote}",
            "supersedes": vote,
            "live": False,
        }
        self.add_vote(assigned, undone)

    def add_vote(self, assigned: Assigned, values: dict[str, Any]) -> int:
        """Add a row to the votes; its number."""
        about = {
            "assignment_id": assigned.id,
            "campaign_id": assigned.campaign,
            "task_id": assigned.task,
            "rater_id": assigned.rater,
            "answered_at": self.now,
        }
        return self.connection.execute(sql.ADD_VOTE, about | values).scalar_one()

    def _counts(self) -> Sequence[int]:
        """Votes on work, those on tasks that others may get, those on checks, and skips of work."""
        return self.connection.execute(sql.PROGRESS, self.values).one()

    def progress(self) -> Progress:
        """Answered by the rater, and that plus what others left to do.

        The checks that will come are counted from the start, so that none gives itself away.
        """
        settings = self.rules.settings
        work, still_open, checks, _ = self._counts()
        if settings.source == "list":
            total = self.number(sql.ON_LIST)
        else:
            total = work + self.rules.num_tasks - self.rules.num_complete - still_open
        if settings.quota is not None:
            total = min(total, max(settings.quota, work))
        if settings.check_every is not None:
            total += min(self.number(sql.CHECKS), total // settings.check_every)
        return Progress(work + checks, max(total, work + checks))


def item_of(number: int, order: str, task: Task) -> Item:
    """What the rater sees of an assignment: the responses in the order that was drawn."""
    shown = tuple(task.responses[int(place)].text for place in order)
    return Item(number, task.prompt.messages, shown)


def stamp(moment: datetime) -> str:
    """ISO 8601 in UTC, of one width, so that the order of texts is the order of times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
