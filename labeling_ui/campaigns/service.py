"""Campaigns: tasks come in, answers are stored, revised and never lost.

Every method that changes something is one transaction.
"""

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import insert, select

from labeling_ui.campaigns import queries as sql
from labeling_ui.campaigns.adjudication import Bench, contested
from labeling_ui.campaigns.answers import (
    Answer,
    Flag,
    Progress,
    Turn,
    draw_order,
    meaning,
    seen_at,
    shown,
)
from labeling_ui.campaigns.assignment import Assigned, Desk, Rules
from labeling_ui.campaigns.setup import (
    NAMED,
    Added,
    add_tasks,
    add_to_lists,
    find_campaign,
    guide,
    guidelines_of,
    make,
)
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Conflict, Store
from labeling_ui.db.tables import CampaignRow, FlagRow, VoteRow
from labeling_ui.locales import Sentence
from rlhf.errors import DataError

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
            campaigns = session.scalars(select(CampaignRow).order_by(CampaignRow.id)).all()
            return [
                (campaign.name, guidelines_of(session, campaign.id)[1])
                for campaign in campaigns
                if Settings.from_text(campaign.settings).source != "arena"
            ]

    def settings(self, name: str) -> Settings:
        """The rules of a campaign."""
        with self._store.read() as session:
            return Settings.from_text(find_campaign(session, name).settings)

    def contested(self, name: str, rater: int) -> int:
        """How many tasks wait for a decision that ``rater`` may take."""
        with self._store.read() as session:
            return len(contested(session, find_campaign(session, name), rater, self._clock()))

    def next(self, name: str, rater: int, *, decides: bool = False) -> Turn:
        """What ``rater`` is to judge now: what is on the screen already, or something new.

        Args:
            name: The campaign.
            rater: The number of an account.
            decides: As an adjudicator, from the queue of what raters disagree on.
        """
        with self._at_desk(name, rater, decides) as desk:
            return desk.turn()

    def beat(self, name: str, rater: int, number: int, *, decides: bool = False) -> None:
        """Keep the place of an assignment that is still on the screen."""
        with self._at_desk(name, rater, decides, turns=False) as desk:
            desk.beat(desk.own(number))

    def progress(self, name: str, rater: int) -> Progress:
        """How far ``rater`` is."""
        with self._store.read() as session:
            rules = Rules.of(session.connection(), name)
            return Desk(session.connection(), rules, rater, self._clock(), self._draw).progress()

    def submit(
        self, name: str, rater: int, answer: Answer, *, decides: bool = False
    ) -> tuple[int, Turn]:
        """Store an answer; its number, and what is next.

        Raises:
            NotFound: if the assignment is not this rater's.
            DataError: if the campaign does not take such an answer.
            Conflict: if the task is answered already, or the key was used for another vote.
        """
        with self._at_desk(name, rater, decides) as desk:
            number = self._record(desk, desk.own(answer.assignment), answer)
            return number, desk.turn()

    def _record(self, desk: Desk, assigned: Assigned, answer: Answer) -> int:
        answer.check(desk.rules.settings, len(assigned.order))
        outcome, meant = meaning(answer, assigned.order)
        content = json.dumps(meant, ensure_ascii=False)
        said = (assigned.id, outcome, content, answer.strength, answer.reason)
        values = {"rater": assigned.rater, "assignment": assigned.id, "key": answer.key}
        earlier = desk.connection.execute(sql.EARLIER, values).all()
        for vote in earlier:
            if vote.key == answer.key:
                if tuple(vote[2:7]) != said:
                    raise Conflict("this key was used for another vote; make a new key for each")
                return vote.id
        if any(vote.live or vote.surplus for vote in earlier):
            raise Conflict(Sentence("refused_answered"))
        late = not desk.may_fill(assigned)
        number = desk.add_vote(
            assigned,
            {
                "outcome": outcome,
                "content": content,
                "strength": answer.strength,
                "reason": answer.reason,
                "shown_at": seen_at(assigned.shown_at, desk.now, answer.elapsed_ms),
                "key": answer.key,
                "guideline": desk.rules.guideline,
                "supersedes": earlier[-1].id if earlier else None,
                "surplus": late,
                "live": not late,
            },
        )
        desk.close(assigned)
        if not late:
            desk.count(assigned, outcome, +1)
        return number

    def undo(
        self, name: str, rater: int, vote: int | None = None, *, decides: bool = False
    ) -> Turn:
        """Withdraw the rater's latest answer, or a certain one, and show that item again.

        Raises:
            Conflict: if there is no such answer to withdraw, it was given in the arena, others have
                answered in its place, or the rater gets nothing more.
        """
        with self._at_desk(name, rater, decides) as desk:
            if desk.rules.settings.source == "arena":
                raise Conflict(Sentence("refused_battle_undo"))
            mine = sql.LATEST if vote is None else sql.LATEST.where(VoteRow.id == vote)
            row = desk.one(mine.limit(1))
            if row is None:
                raise Conflict(Sentence("refused_undo"))
            if not decides and desk.refusal():
                raise Conflict(Sentence("refused_stopped"))
            assigned = desk.own(row.assignment_id)
            desk.withdraw(row.id, assigned)
            desk.count(assigned, row.outcome, -1)
            if not desk.may_fill(assigned):  # a skip holds no place
                raise Conflict(Sentence("refused_place"))
            return desk.turn_of(desk.reopen(assigned))

    def history(
        self, name: str, rater: int, *, decides: bool = False, limit: int = 50
    ) -> list[Past]:
        """The rater's latest answers that count, the newest first."""
        with self._store.read() as session:
            number = find_campaign(session, name).id
            values = {"campaign": number, "rater": rater, "decides": decides}
            votes = session.connection().execute(sql.LATEST.limit(limit), values).all()
            return [
                Past(
                    row.id,
                    shown(row.outcome, {}, row.shown_order)[0],
                    row.answered_at,
                    Task.from_text(row.record).prompt.messages[-1].content[:200],
                )
                for row in votes
            ]

    def flag(self, name: str, rater: int, flag: Flag, *, decides: bool = False) -> None:
        """Point out that something is wrong with the task of an assignment.

        Raises:
            DataError: if there is no such kind of flag.
        """
        if flag.kind not in FLAGS:
            raise DataError(f"flag {flag.kind!r} is unknown; use one of {', '.join(FLAGS)}")
        with self._at_desk(name, rater, decides, turns=False) as desk:
            own = desk.own(flag.assignment)
            values = {
                "campaign_id": own.campaign,
                "task_id": own.task,
                "user_id": rater,
                "kind": flag.kind,
                "note": flag.note,
                "at": desk.now,
            }
            same = (FlagRow.task_id == own.task, FlagRow.user_id == rater)
            known = select(FlagRow.id).where(*same, FlagRow.kind == flag.kind)
            if desk.one(known) is None:
                desk.connection.execute(insert(FlagRow), values)

    @contextmanager
    def _at_desk(
        self, name: str, rater: int, decides: bool, *, turns: bool = True
    ) -> Generator[Desk]:
        """The desk of a rater or an adjudicator, in a transaction that writes.

        With ``turns`` it may hand something out, for which an adjudicator's queue is read before.
        """
        now = self._clock()
        queue: list[int] = []
        if decides and turns:
            with self._store.read() as session:
                queue = contested(session, find_campaign(session, name), rater, now)
        with self._store.write() as session:
            connection = session.connection()
            rules = Rules.of(connection, name)
            if decides:
                bench = Bench(connection, rules, rater, now, self._draw)
                bench.queue = queue
                yield bench
            else:
                yield Desk(connection, rules, rater, now, self._draw)
