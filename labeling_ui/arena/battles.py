"""The arena: people ask, two policies drawn blind answer, and a vote makes their names known.

A battle is an ordinary task of the campaign ``arena``, handed to the person who asked, and its vote
an ordinary vote. What must not be known before the vote is kept in the database alone.
"""

import random
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from labeling_ui.accounts.rate_limits import TooMany
from labeling_ui.arena.policies import Live
from labeling_ui.campaigns.answers import Answer, Item, chance, draw_order
from labeling_ui.campaigns.assignment import NEVER, item_of, stamp
from labeling_ui.campaigns.service import Campaigns, utc_now
from labeling_ui.campaigns.setup import NAMED, make
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Conflict, Store
from labeling_ui.db.tables import AssignmentRow, CampaignRow, TaskRow, VoteRow
from labeling_ui.locales import Sentence
from rlhf.records import Message, Prompt, Response

CAMPAIGN = "arena"
SETTINGS = Settings(source="arena", strength="no", skip="drop")

MOST_BATTLES = 8
"""How many are answered at once; each takes one of the server's forty threads meanwhile."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Who answers a prompt, by number and place on the screen, from the left."""

    rater: int
    messages: tuple[Message, ...]
    places: tuple[int, int]


class Arena:
    """The battles of one store.

    Args:
        store: Where they are kept.
        live: Who answers.
        campaigns: Takes the votes.
        clock: The time, in UTC.
        draw: Draws the order in which so many responses are shown.
    """

    def __init__(
        self,
        store: Store,
        live: Live,
        campaigns: Campaigns,
        *,
        clock: Callable[[], datetime] = utc_now,
        draw: Callable[[int], str] = draw_order,
    ) -> None:
        self._store, self._live, self._campaigns = store, live, campaigns
        self._clock, self._draw = clock, draw
        self._asking: set[int] = set()
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether there are two who can answer."""
        return len(self._live.runs) > 1

    def unjudged(self, rater: int) -> Item | None:
        """The battle that ``rater`` has not judged yet."""
        with self._store.read() as session:
            campaign = _find(session)
            row = None if campaign is None else _open(session, campaign, rater)
            if row is None:
                return None
            record = session.get_one(TaskRow, row.task_id).record
            return item_of(row.id, row.order, Task.from_text(record))

    @contextmanager
    def asking(self, rater: int) -> Generator[None]:
        """A :meth:`place` for a battle.

        Raises:
            Conflict: if the rater has a battle to judge, or is being answered already.
            TooMany: if there is no place.
        """
        with self.place(rater):
            if self.unjudged(rater) is not None:
                raise Conflict(Sentence("refused_battle"))
            yield

    @contextmanager
    def place(self, rater: int) -> Generator[None]:
        """A place for ``rater`` among those who are being answered.

        Raises:
            Conflict: if the rater is being answered already.
            TooMany: if there is no place.
        """
        with self._lock:
            if rater in self._asking:
                raise Conflict(Sentence("refused_asking"))
            if len(self._asking) >= MOST_BATTLES:
                raise TooMany("too many battles are being answered", 10)
            self._asking.add(rater)
        try:
            yield
        finally:
            with self._lock:
                self._asking.discard(rater)

    def pair(self, rater: int, prompt: str, after: int | None = None) -> Pair:
        """Two policies and their places, drawn at random.

        Every two are as likely as any others. If those with the fewest battles came first, who saw
        the names after a few battles could work out the next.

        With ``after``, a battle that the rater has judged, the prompt goes on from its better
        answer (of two that tie, from the left one), as in Bai et al. 2022, "Training a Helpful and
        Harmless Assistant".

        Raises:
            Conflict: if there are no two policies, or the battle has no such answer.
        """
        if not self.is_open:
            raise Conflict(Sentence("refused_arena"))
        numbers = sorted(random.SystemRandom().sample(range(len(self._live.runs)), 2))
        left, right = (numbers[int(place)] for place in self._draw(2))
        before = () if after is None else self._so_far(rater, after)
        return Pair(rater, (*before, Message("user", prompt)), (left, right))

    def _so_far(self, rater: int, number: int) -> tuple[Message, ...]:
        judged = (
            select(AssignmentRow.order, VoteRow.outcome, TaskRow.record)
            .join(VoteRow, VoteRow.assignment_id == AssignmentRow.id)
            .join(TaskRow, TaskRow.id == AssignmentRow.task_id)
            .where(AssignmentRow.id == number, AssignmentRow.rater_id == rater, VoteRow.live)
            .where(AssignmentRow.source == "arena", VoteRow.outcome.in_(("a", "b", "tie")))
        )
        with self._store.read() as session:
            row = session.execute(judged).one_or_none()
        if row is None:
            raise Conflict(Sentence("refused_continue"))
        task = Task.from_text(row.record)
        place = int(row.order[0]) if row.outcome == "tie" else "ab".index(row.outcome)
        return (*task.prompt.messages, Message("assistant", task.responses[place].text))

    def answers(self, pair: Pair) -> Iterator[tuple[str, str]]:
        """Both answers as they grow, from the left."""
        return self._live.answers(*pair.places, pair.messages)

    def chosen(self, prompt: str, left: int, right: int) -> Iterator[tuple[str, str]]:
        """What two policies, by number, answer as it grows; nothing of it is kept.

        Raises:
            Conflict: if there is no policy of that number.
        """
        if max(left, right) >= len(self._live.runs):
            raise Conflict(Sentence("refused_policy"))
        return self._live.answers(left, right, (Message("user", prompt),))

    def keep(self, pair: Pair, texts: tuple[str, str]) -> Item | None:
        """Store a battle whose answers are whole; None if the rater has judged the same before."""
        names = self._live.policies().names
        shown = [
            Response(text, names[number]) for text, number in zip(texts, pair.places, strict=True)
        ]
        ordered = sorted(shown, key=lambda response: names.index(response.policy))
        task = Task(Prompt(pair.messages), tuple(ordered), {"source": "arena"})
        with self._store.write() as session:
            campaign = _find(session) or make(session, CAMPAIGN, SETTINGS, self._clock())
            row = _task(session, campaign, task)
            known = (AssignmentRow.task_id == row.id, AssignmentRow.rater_id == pair.rater)
            if session.scalar(select(AssignmentRow.id).where(*known)) is not None:
                return None
            stored = Task.from_text(row.record)
            assignment = AssignmentRow(
                campaign_id=campaign.id,
                task_id=row.id,
                rater_id=pair.rater,
                order="".join(str(stored.responses.index(response)) for response in shown),
                source="arena",
                shown_at=stamp(self._clock()),
                expires_at=NEVER,
                open=True,
            )
            session.add(assignment)
            session.flush()
            return item_of(assignment.id, assignment.order, stored)

    def vote(self, rater: int, answer: Answer) -> tuple[int, tuple[str, ...]]:
        """Store the vote on a battle; its number, and who answered, from the left.

        A battle that is skipped keeps its names.

        Raises:
            NotFound: if the battle is not this rater's.
            Conflict: if it was judged already.
        """
        with self._store.read() as session:
            _find(session)  # elsewhere a vote must not tell names
        number, _ = self._campaigns.submit(CAMPAIGN, rater, answer)
        if answer.choice == "skip":
            return number, ()
        with self._store.read() as session:
            row = session.get_one(AssignmentRow, answer.assignment)
            task = Task.from_text(session.get_one(TaskRow, row.task_id).record)
            return number, tuple(task.responses[int(place)].policy for place in row.order)


def _find(session: Session) -> CampaignRow | None:
    campaign = session.scalar(NAMED, {"name": CAMPAIGN})
    if campaign is not None and Settings.from_text(campaign.settings) != SETTINGS:
        raise Conflict(
            f"campaign {CAMPAIGN!r} holds other work, so battles have no place; tell an admin"
        )
    return campaign


def _open(session: Session, campaign: CampaignRow, rater: int) -> AssignmentRow | None:
    mine = (AssignmentRow.rater_id == rater, AssignmentRow.campaign_id == campaign.id)
    first = select(AssignmentRow).where(*mine, AssignmentRow.open).order_by(AssignmentRow.id)
    return session.scalar(first.limit(1))


def _task(session: Session, campaign: CampaignRow, task: Task) -> TaskRow:
    """The row of ``task``, which somebody else may have had as well."""
    same = (TaskRow.campaign_id == campaign.id, TaskRow.key == task.key)
    row = session.scalar(select(TaskRow).where(*same))
    if row is None:
        row = TaskRow(
            campaign_id=campaign.id, key=task.key, record=task.to_text(), shuffle=chance()
        )
        session.add(row)
        campaign.num_tasks += 1
        session.flush()
    return row
