"""What is least certain is handed out first, apart from the share that stays random."""

from collections import Counter
from itertools import count

import pytest
from sqlalchemy import event, select

import rlhf.model.scorer
from labeling_ui.campaigns import assignment as assign
from labeling_ui.campaigns.active_learning import rank_by_disagreement, rank_by_reward
from labeling_ui.campaigns.answers import Answer, Choice
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.tables import TaskRow, UserRow
from labeling_ui.results.export import export
from rlhf.errors import DataError
from rlhf.records import Prompt, Response
from tests.labeling import tasks

KEYS = count()


def person(store, name):
    with store.write() as session:
        row = UserRow(name=name, handle=name, role="rater", password_hash="", created_at="")
        session.add(row)
    return row.id


def asked(number, *texts):
    responses = tuple(Response(text, f"p{k}") for k, text in enumerate(texts))
    return Task(Prompt.from_text(f"{number}?"), responses)


def handed_out(campaigns, rater):
    """The prompts in the order in which they come."""
    found = []
    while (item := campaigns.next("one", rater).item) is not None:
        found.append(item.messages[0].content)
        answer = Answer(item.assignment, "skip", f"key-{next(KEYS):08}")
        campaigns.submit("one", rater, answer)
    return found


def test_votes_are_read_before_the_database_is_locked_for_writing(store):
    campaigns = Campaigns(store)
    settings = Settings(overlap=2, random_share=0.5)
    campaigns.add("one", tasks(2), settings=settings)
    locked: list[str] = []

    def heard(connection, _cursor, statement, *_):
        if connection.get_execution_options().get("write"):
            locked.append(statement)

    event.listen(store._engine, "before_cursor_execute", heard)
    rank_by_disagreement(store, "one")
    assert any(statement.startswith("UPDATE task") for statement in locked)
    assert [statement for statement in locked if "FROM vote" in statement] == []


class Lengths:
    """A reward model that likes long responses."""

    def score(self, prompts, texts, on_progress=None):
        assert len(prompts) == len(texts)
        if on_progress:
            on_progress(len(texts))
        return [float(len(text)) for text in texts]


@pytest.fixture
def by_length(monkeypatch):
    monkeypatch.setattr(rlhf.model.scorer, "load_scorer", lambda _: Lengths())


@pytest.mark.usefixtures("by_length")
@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("pairwise", [("a", "bbbbb"), ("a", "bb"), ("a", "bbb")]),
        # the two nearest of several count
        ("ranking", [("a", "bbbbb", "c" * 20), ("a", "c" * 20, "d" * 21), ("a", "bbb", "c" * 9)]),
    ],
)
def test_what_the_reward_model_scores_most_alike_comes_first(store, kind, texts):
    campaigns, seen = Campaigns(store), []
    many = [asked(number, *some) for number, some in enumerate(texts)]
    campaigns.add("one", many, settings=Settings(kind=kind, random_share=0.0))
    assert rank_by_reward(store, "one", "runs/reward", seen.append) == 3
    assert handed_out(campaigns, person(store, "ann")) == ["1?", "2?", "0?"]
    assert sum(seen) == sum(map(len, texts))


def test_what_raters_differ_on_comes_first_and_what_nobody_saw_last(store):
    campaigns = Campaigns(store, draw=lambda _: "01")
    campaigns.add("one", tasks(4), settings=Settings(overlap=5, random_share=0.0))
    choices: list[tuple[Choice, ...]] = [
        ("left", "left", "left"),
        ("left", "tie", "right"),
        ("left", "left", "tie"),
    ]
    for k in range(3):
        rater = person(store, f"rater {k}")
        for row in choices:
            item = campaigns.next("one", rater).item
            assert item is not None
            answer = Answer(item.assignment, row[k], f"key-{next(KEYS):08}")
            campaigns.submit("one", rater, answer)
    assert rank_by_disagreement(store, "one") == 2
    order = handed_out(campaigns, person(store, "ann"))
    assert order == [f"Where is parcel {number}?" for number in (1, 2, 0, 3)]


@pytest.mark.usefixtures("by_length")
def test_the_random_share_is_apart_and_alone_is_independent(store, monkeypatch):
    luck = iter([0.1, 0.9] * 10)
    monkeypatch.setattr(assign, "chance", lambda: next(luck))
    campaigns = Campaigns(store)
    many = [asked(number, "a", "a" + "b" * (20 - number)) for number in range(12)]
    campaigns.add("one", many, settings=Settings(random_share=0.5))
    rank_by_reward(store, "one", "runs/reward")
    ann = person(store, "ann")
    for _ in range(6):
        item = campaigns.next("one", ann).item
        assert item is not None
        answer = Answer(item.assignment, "left", f"key-{next(KEYS):08}")
        campaigns.submit("one", ann, answer)
    result = export(store, "one")
    assert (len(result.votes), len(result.independent)) == (6, 3)
    with store.read() as session:
        first = session.scalars(
            select(TaskRow.record).order_by(TaskRow.rank, TaskRow.id).limit(3)
        ).all()
    chosen = Counter(vote.comparison for vote in result.votes)
    for record in first:  # the surest come last, so the three of lowest rank were chosen
        [comparison] = Task.from_text(record).comparisons()
        assert chosen[comparison.id] == 1


@pytest.mark.usefixtures("by_length")
def test_what_cannot_be_ranked_is_refused(store):
    campaigns = Campaigns(store)
    campaigns.add("one", tasks(1))
    with pytest.raises(DataError, match="random_share"):
        rank_by_disagreement(store, "one")
    thumbs = Settings(kind="thumbs", random_share=0.0)
    campaigns.add("two", [asked(0, "a")], settings=thumbs)
    with pytest.raises(DataError, match="rank by disagreement"):
        rank_by_reward(store, "two", "runs/reward")
    assert rank_by_disagreement(store, "two") == 0
