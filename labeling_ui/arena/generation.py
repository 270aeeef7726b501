"""A campaign made from prompts: the policies of this server answer them, and people judge."""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from labeling_ui.arena.policies import Live
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.setup import check_blindness, find_campaign
from labeling_ui.campaigns.tasks import NUM_RESPONSES, Settings, Task
from labeling_ui.db.store import Conflict, Store
from labeling_ui.db.tables import TaskRow
from labeling_ui.results.answers import tasks_where
from rlhf.errors import DataError, RLHFError
from rlhf.records import Prompt, Response

_AT_ONCE = 8
"""Prompts whose answers are stored together; what a restart can lose."""


@dataclass(frozen=True, slots=True)
class Draft:
    """How far the answers to a campaign's prompts are."""

    campaign: str
    prompts: int
    answered: int = 0
    problem: str = ""
    """Why it ended before all were answered."""
    going: bool = True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be answered, and by whom."""

    campaign: str
    prompts: tuple[Prompt, ...]
    policies: tuple[int, ...]
    """Numbers of those that the server was started with."""
    settings: Settings
    guidelines: str = ""


class Drafts:
    """Makes one campaign at a time, beside everything else that the server does.

    Args:
        store: Where campaigns are kept.
        live: Who answers.
        campaigns: Takes the tasks.
    """

    def __init__(self, store: Store, live: Live, campaigns: Campaigns) -> None:
        self._store, self._live, self._campaigns = store, live, campaigns
        self._lock = threading.Lock()
        self._draft: Draft | None = None

    @property
    def policies(self) -> list[str]:
        """The runs that can answer, by folder."""
        return [run.name for run in self._live.runs]

    @property
    def draft(self) -> Draft | None:
        """The latest."""
        return self._draft

    def begin(self, wanted: Wanted) -> Draft:
        """Make the campaign, and go on answering after this returns.

        A campaign that exists is added to: prompts that it holds are not answered again, so that
        what a restart broke off is taken up by asking for the same.

        Raises:
            DataError: if the prompts, the policies or the campaign are not acceptable.
            Conflict: if another one is being made, or the campaign has other settings.
        """
        _check(wanted, len(self._live.runs))
        check_blindness(wanted.campaign, {self.policies[number] for number in wanted.policies})
        with self._lock:
            if self._draft is not None and self._draft.going:
                raise Conflict(
                    f"campaign {self._draft.campaign!r} is still being made; wait for it"
                )
            self._campaigns.add(
                wanted.campaign, [], settings=wanted.settings, guidelines=wanted.guidelines
            )
            self._draft = draft = Draft(wanted.campaign, len(wanted.prompts))
        threading.Thread(target=self._make, args=(wanted,), daemon=True).start()
        return draft

    def _make(self, wanted: Wanted) -> None:
        problem = "something went wrong; the server's log says what"
        try:
            self._answer(wanted)
            problem = ""
        except RLHFError as error:
            problem = str(error)
        finally:
            self._tell(problem=problem, going=False)

    def _answer(self, wanted: Wanted) -> None:
        known = self._known(wanted.campaign)
        fresh = [prompt for prompt in wanted.prompts if prompt.id not in known]
        before = len(wanted.prompts) - len(fresh)
        self._tell(answered=before)
        for start in range(0, len(fresh), _AT_ONCE):
            part = fresh[start : start + _AT_ONCE]
            answers = [
                self._live.respond(number, part, before + start) for number in wanted.policies
            ]
            tasks = [
                task
                for prompt, responses in zip(part, zip(*answers, strict=True), strict=True)
                for task in _tasks(wanted.settings, prompt, responses)
            ]
            self._campaigns.add(wanted.campaign, tasks, settings=wanted.settings)
            self._tell(answered=before + start + len(part))

    def _tell(self, **changes: object) -> None:
        assert self._draft is not None
        self._draft = replace(self._draft, **changes)  # pyright: ignore[reportArgumentType]

    def _known(self, name: str) -> set[str]:
        with self._store.read() as session:
            number = find_campaign(session, name).id
            tasks = tasks_where(session, TaskRow.campaign_id == number)
        return {task.prompt.id for task in tasks.values()}


def _check(wanted: Wanted, num_policies: int) -> None:
    if not wanted.prompts:
        raise DataError("prompts: give one at least")
    if len(set(wanted.policies)) < len(wanted.policies):
        raise DataError("policies: each answers once; name none twice")
    if not all(0 <= number < num_policies for number in wanted.policies):
        raise DataError(f"policies: this server has {num_policies}; start it with --policies RUN …")
    if wanted.settings.source != "pool":
        raise DataError("settings.source: must be pool, for nobody has a list yet")
    few, many = NUM_RESPONSES[wanted.settings.kind]
    most = many if wanted.settings.kind == "ranking" else num_policies
    if not few <= len(wanted.policies) <= most:
        raise DataError(
            f"policies: kind {wanted.settings.kind} takes {few} at least, {most} at most"
        )


def _tasks(settings: Settings, prompt: Prompt, answers: Sequence[Response]) -> list[Task]:
    """What people are asked of the answers to one prompt; nothing of two that are the same.

    Raters get tasks in the order in which they came. Were it that of the policies, the place in it
    would tell whose answer is whose, so it is drawn anew for each prompt.
    """
    responses = random.SystemRandom().sample(answers, len(answers))
    if settings.kind == "ranking":
        return [Task(prompt, tuple(responses))]
    if settings.kind == "pairwise":
        pairs = combinations(responses, 2)
        return [Task(prompt, pair) for pair in pairs if pair[0].text != pair[1].text]
    return [Task(prompt, (response,)) for response in responses]
