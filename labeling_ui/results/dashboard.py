"""The figures of a campaign for its admins, worked out beside the votes and not in their way."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING

from labeling_ui.campaigns.tasks import Kind
from labeling_ui.db.store import Store
from labeling_ui.results.cases import CampaignVotes, campaign_votes, stamp
from labeling_ui.results.ratings import VALUES

if TYPE_CHECKING:
    from rlhf.evaluate.agreement import Agreement
    from rlhf.evaluate.leaderboard import Leaderboard
    from rlhf.evaluate.raters import RaterQuality
    from rlhf.evaluate.scores import Measure, RaterScores

_SHARE = 0.1
"""The most of the time that is spent on figures while votes come in."""
_PATIENCE = 1.5
"""Seconds that a reader waits for figures before being told that they are on their way."""
_GLANCE = 0.3
"""The same where there are figures already, only older ones."""
_LONGEST_HOURLY = timedelta(days=4)


@dataclass(frozen=True, slots=True)
class Timeline:
    """How many votes were cast, hour by hour or, where that is too long, day by day."""

    starts: tuple[datetime, ...]
    counts: tuple[int, ...]
    step: timedelta


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that is worked out from the votes of a campaign."""

    kind: Kind
    timeline: Timeline
    agreement: "Agreement"
    raters: "tuple[RaterQuality, ...]"
    board: "Leaderboard"
    answers: int
    """Without skips."""
    measures: "tuple[Measure, ...]"
    """What single responses were given, by aspect, or by thumbs."""
    marks: "tuple[RaterScores, ...]"
    """How each rater uses the scale of a rating."""
    active: int
    """Answers on what active selection chose, which agreement, scores and board leave out."""
    at: datetime
    """When it was worked out."""


def figures_of(found: CampaignVotes) -> Figures:
    """The figures of these votes; skips count as skips only."""
    from rlhf.evaluate.agreement import agreement
    from rlhf.evaluate.leaderboard import leaderboard
    from rlhf.evaluate.raters import rater_qualities
    from rlhf.evaluate.scores import measures, rater_scores

    return Figures(
        kind=found.kind,
        timeline=timeline_of(found.times),
        agreement=agreement(found.fair, tasks=found.ranked),
        raters=rater_qualities(found.votes, found.checks),
        board=leaderboard(found.comparisons, found.fair if found.comparisons else ()),
        answers=len(found.times),
        measures=measures(found.scores, VALUES.get(found.kind, ())),
        marks=rater_scores(found.scores) if found.kind == "rating" else (),
        active=found.active,
        at=datetime.now(UTC),
    )


def timeline_of(times: Sequence[str]) -> Timeline:
    """How many of these moments lie in each hour, empty ones included."""
    if not times:
        return Timeline((), (), timedelta(hours=1))
    moments = sorted(map(datetime.fromisoformat, times))
    first = moments[0].replace(minute=0, second=0, microsecond=0)
    step = timedelta(hours=1)
    if moments[-1] - first > _LONGEST_HOURLY:
        first, step = first.replace(hour=0), timedelta(days=1)
    counts = [0] * ((moments[-1] - first) // step + 1)
    for moment in moments:
        counts[(moment - first) // step] += 1
    return Timeline(tuple(first + i * step for i in range(len(counts))), tuple(counts), step)


@dataclass(frozen=True, slots=True)
class Worked:
    """Figures, what they are of, and how long they took."""

    of: tuple[int, int]
    figures: Figures
    seconds: float


def work(database: Path | str, name: str) -> Worked:
    """Work out the figures of a campaign."""
    begin = time.monotonic()
    with closing(Store(database, create=False)) as store:
        of = stamp(store, name)
        figures = figures_of(campaign_votes(store, name))
    return Worked(of, figures, time.monotonic() - begin)


class Dashboard:
    """The latest figures of each campaign.

    They are worked out when somebody looks and the votes have changed, in a process of its own, so
    that no vote waits for them, and for a tenth of the time at most: figures that take a second
    are up to ten seconds old.

    Args:
        store: Where the votes are.
        worker: What works them out; a process unless given.
        clock: Seconds from any beginning.
    """

    def __init__(
        self,
        store: Store,
        *,
        worker: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._clock = store, clock
        self._worker = worker or _process()
        self._lock = threading.Lock()
        self._latest: dict[str, Worked] = {}
        self._running: dict[str, Future[Worked]] = {}
        self._rest_until = -1.0

    def figures(self, name: str, patience: float = _PATIENCE) -> Figures | None:
        """The latest figures; None where the first take longer than ``patience`` seconds.

        Raises:
            NotFound: if there is no such campaign.
        """
        now = stamp(self._store, name)
        with self._lock:
            known = self._latest.get(name)
            job = self._running.get(name)
            stale = known is None or known.of != now
            rested = known is None or self._clock() >= self._rest_until
            if job is None and stale and rested:
                job = self._running[name] = self._submit(name)
        if job is not None and wait([job], patience if known is None else _GLANCE).done:
            known = self._collect(name, job)
        return None if known is None else known.figures

    def _submit(self, name: str) -> Future[Worked]:
        try:
            return self._worker.submit(work, self._store.database, name)
        except BrokenExecutor:  # the process was killed
            self._worker = _process()
            return self._worker.submit(work, self._store.database, name)

    def _collect(self, name: str, job: Future[Worked]) -> Worked:
        with self._lock:
            mine = self._running.get(name) is job
            if mine:
                del self._running[name]
            worked = job.result()  # what went wrong goes to whoever looks
            if mine:
                self._latest[name] = worked
                self._rest_until = self._clock() + worked.seconds * (1 / _SHARE - 1)
            return worked


def _process() -> Executor:
    return ProcessPoolExecutor(1, get_context("spawn"), _prepare)


def _prepare() -> None:
    """Let the process end when the server does, even if that is killed."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    figures_of(CampaignVotes("pairwise"))  # what is slow to import is no part of the first figures
