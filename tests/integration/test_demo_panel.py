import json
import random
import time

import pytest

from rlhf.apps.demo import DemoOptions, _start
from rlhf.apps.panel import NUM_RATERS, Ask, simulated_votes
from rlhf.errors import RunError
from rlhf.label_client.client import LabelClient
from rlhf.label_client.server_process import label_server, passwords
from rlhf.records import Comparison, Response, settle
from rlhf.sandbox.raters import panel
from rlhf.sandbox.staff import staff_reply
from rlhf.sandbox.world import prompts

pytestmark = pytest.mark.integration


def comparisons(seed, n):
    found = []
    for prompt in prompts(seed, n):
        rng = random.Random(prompt.id)
        a, b = (Response(staff_reply(prompt, rng)[1], "sft") for _ in range(2))
        if a.text != b.text:
            found.append(Comparison(prompt, a, b))
    return found


def by_prompt(preferences):
    return {preference.prompt.id: preference for preference in preferences}


@pytest.fixture(scope="module")
def asked():
    return [Ask("all", comparisons(1, 12), NUM_RATERS), Ask("some", comparisons(2, 12), 3)]


@pytest.fixture(scope="module")
def voted(asked, tmp_path_factory):
    return simulated_votes(tmp_path_factory.mktemp("label") / "label.db", asked, seed=3)


def test_votes_through_the_server_are_those_of_the_panel_sides_mapped_back(asked, voted):
    expected = {}
    for comparison in asked[0].comparisons:
        votes = [rater.vote(comparison, "left") for rater in panel(3, NUM_RATERS)]
        if settled := settle(comparison, votes):
            expected[comparison.prompt.id] = settled
    assert by_prompt(voted["all"]) == expected
    assert len(expected) > 5


def test_no_more_raters_are_asked_than_wanted(voted):
    assert {preference.num_votes for preference in voted["some"]} == {3}


def test_the_same_seed_deals_the_same_comparisons_to_the_same_raters(asked, voted, tmp_path):
    again = simulated_votes(tmp_path / "label.db", asked[1:], seed=3)
    assert by_prompt(again["some"]) == by_prompt(voted["some"])


def test_a_second_start_on_the_same_database_asks_nothing_twice(asked, tmp_path):
    database = tmp_path / "label.db"
    first = simulated_votes(database, asked[1:], seed=3)
    assert simulated_votes(database, asked[1:], seed=3) == first


def test_a_refusal_of_the_server_is_told(tmp_path):
    keys = passwords(tmp_path / "label.db", ["admin"])
    with label_server(tmp_path / "label.db") as url:
        with pytest.raises(RunError, match="name or password is wrong"):
            LabelClient(url, "admin", "not the password")
        with (
            LabelClient(url, "admin", keys["admin"]) as admin,
            pytest.raises(RunError, match="no campaign"),
        ):
            admin.votes("unknown")
    with pytest.raises(RunError, match="no labelling server answers"):
        LabelClient(url, "admin", keys["admin"])


def test_a_server_that_cannot_start_is_told(tmp_path):
    database = tmp_path / "label.db"
    database.write_text("this is no database, and long enough to be read as one" * 20)
    with (
        pytest.raises(RunError, match=r"did not start; .*label\.log says why"),
        label_server(database),
    ):
        pass


def test_the_parts_of_a_demo_add_up_to_the_time_that_one_waited(tmp_path):
    told = []
    started = time.monotonic() - 3  # before the demo was there to count
    kept = {"sft": 40.0, "other": 2.0}  # of a session that was interrupted
    (tmp_path / "seconds.json").write_text(json.dumps(kept))
    demo = _start(DemoOptions(out=tmp_path, resume=True), told.append)
    demo.started = started
    for _ in range(2):
        with demo.timed("sample"):
            time.sleep(0.2)
    time.sleep(0.1)
    demo.count_rest()
    waited = time.monotonic() - started
    found = json.loads((tmp_path / "seconds.json").read_text())
    assert sum(found.values()) == pytest.approx(42 + waited, abs=0.05)
    assert found["sample"] == pytest.approx(0.4, abs=0.1)
    assert found["other"] == pytest.approx(2 + 3.1, abs=0.1)
    assert told == ["── sample", "   0 s"] * 2
