"""A smaller load than the benchmark's, on both databases, killed and with replies dropped."""

import random

import pytest

from rlhf.data.readers.votes import Judged
from rlhf.records import Outcome, Vote
from tests.benchmarks.label_load import made, raced, replayed

pytestmark = pytest.mark.integration

OUTCOMES: list[Outcome] = ["a", "b", "tie"]
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture
def database(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql").fresh()
    return tmp_path / "label.db"


@pytest.mark.parametrize("database", DATABASES, indirect=True)
def test_every_acknowledged_vote_of_the_lists_is_there_once_whatever_dies(database):
    rng = random.Random(0)
    judged: list[Judged] = []
    for one in made(120):
        raters = rng.sample([f"w{number}" for number in range(40)], 5)
        outcomes = rng.choices(OUTCOMES, [5, 3, 2], k=5)
        cast = tuple(
            Vote(one.id, rater, outcome, "left")
            for rater, outcome in zip(raters, outcomes, strict=True)
        )
        judged.append(Judged(one, cast))
    found = replayed(database, judged, kills=2, drops=0.15, clients=20)
    assert (found["votes"], found["kills"]) == (600, 2)
    assert min(found["sides"].values()) > 240


@pytest.mark.parametrize("database", DATABASES, indirect=True)
def test_racing_raters_fill_exactly_the_places_there_are_whatever_dies(database):
    found = raced(database, raters=20, tasks=100, overlap=3, kills=1, drops=0.15)
    assert (found["votes"], found["kills"]) == (300, 1)
