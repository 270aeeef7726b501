"""The client of the package against a running server: all that it can do, and lost replies."""

import random

import httpx
import pytest

from rlhf import LabelClient, RunError
from rlhf.label_client import transport
from rlhf.label_client.client import Item
from tests.labeling import PASSWORD, comparisons

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def boss(url):
    with LabelClient(url, "admin", PASSWORD) as client:
        yield client


@pytest.fixture
def campaign(boss, request) -> str:
    name = request.node.name.removeprefix("test_")[:60]
    assert boss.add_campaign(name, comparisons(4), overlap=2, guidelines="Be fair.") == 4
    return name


def test_one_signs_in_by_password_or_by_token(url, boss):
    assert (boss.name, boss.role) == ("admin", "admin")
    [(name, token)] = boss.add_raters(["tess"]).items()
    with LabelClient(url, token=token) as tess:
        assert (tess.name, tess.role) == (name, "rater")
    with pytest.raises(RunError, match="GET /api/me was refused: sign in first"):
        LabelClient(url, token="rlhf_none")
    with pytest.raises(RunError, match="a name and its password, or with a token"):
        LabelClient(url, "ann")
    with pytest.raises(RunError, match="is no address"):
        LabelClient("http://host:port", "ann", PASSWORD)


def test_all_that_a_rater_does(url, campaign):
    with LabelClient(url, "ann", PASSWORD) as ann:
        [info] = [one for one in ann.campaigns() if one.name == campaign]
        assert (info.kind, info.guidelines, info.done, info.total) == ("pairwise", "Be fair.", 0, 4)
        first = ann.next(campaign)
        assert isinstance(first.item, Item)
        assert first.item.messages[1].role == "assistant"
        second = ann.vote(campaign, first.item, "left", strength=2, reason="clearer")
        assert (second.done, second.total) == (1, 4)
        undone = ann.undo(campaign)
        assert (undone.item, undone.done) == (first.item, 0)
        # the same assignment again, which a key of the first vote would have turned into a replay
        assert ann.vote(campaign, first.item, "right").done == 1
        turn = ann.next(campaign)
        assert turn.item is not None
        ann.flag(campaign, turn.item, "unsafe", "an address")
        turn = ann.skip(campaign, turn.item)
        while turn.item is not None:
            turn = ann.vote(campaign, turn.item.assignment, "tie")
        assert (turn.done, turn.item) == (turn.total, None)
        with pytest.raises(RunError, match="/export was refused: only an admin may do this"):
            ann.export(campaign)


def test_all_that_an_admin_does(url, boss, campaign):
    assert boss.add_campaign(campaign, comparisons(5), overlap=2) == 1
    lists = campaign + " lists"
    boss.add_campaign(lists, comparisons(3), source="list")
    pairs = [("bob", one) for one in comparisons(3)]
    assert boss.assign(lists, pairs) == 3
    assert boss.assign(lists, pairs) == 0
    boss.add_user("bob", PASSWORD)
    with LabelClient(url, "bob", PASSWORD) as bob:
        turn = bob.next(lists)
        while turn.item is not None:
            left = "Monday" in turn.item.responses[0]
            turn = bob.vote(lists, turn.item, "left" if left else "right")
    status = boss.status(lists)
    assert (status.comparisons, status.complete, status.votes) == (3, 3, 3)
    assert status.raters == {"bob": 3}
    assert status.agreement is None
    assert {p.chosen for p in boss.preferences(lists)} == {
        one.response_a.text for one in comparisons(3)
    }
    assert len(boss.votes(lists)) == 3
    [row, *_] = rows = boss.rows(lists, "trl-paired")
    assert len(rows) == 3
    assert row["chosen"][0]["role"] == "assistant"
    assert {row["label"] for row in boss.rows(lists, "trl-unpaired")} == {True, False}
    assert [row["ranks"] for row in boss.rows(lists, "trl-ranked")] == [[1, 2]] * 3


def test_a_campaign_may_begin_empty_and_its_guidelines_change_alone(boss, campaign):
    empty = campaign + " empty"
    assert boss.add_campaign(empty, [], overlap=3) == 0
    assert boss.status(empty).comparisons == 0
    assert boss.add_campaign(campaign, [], guidelines="Be strict.") == 0
    told = {one.name: one.guidelines for one in boss.campaigns()}
    assert (told[campaign], told[empty]) == ("Be strict.", "")
    # what is not said of the rules is as it was: two votes on each, not the usual one
    assert boss.add_campaign(campaign, comparisons(5)) == 1
    with pytest.raises(RunError, match="has other settings"):
        boss.add_campaign(campaign, comparisons(5), overlap=1)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"reason": "\ud800"}, "surrogates not allowed"),
        ({"elapsed_ms": float("nan")}, "not JSON compliant"),
        ({"aspects": {1, 2}}, "not JSON serializable"),
    ],
)
def test_what_is_no_json_is_refused_in_a_sentence(boss, said, why):
    with pytest.raises(RunError, match=rf"/votes cannot be sent \(.*{why}\); mend"):
        boss.vote("any", 1, "left", **said)


def test_a_campaign_that_no_address_can_name_is_not_there(boss):
    with pytest.raises(RunError, match="was refused: there is no campaign"):
        boss.next("\ud800")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.001)


def losing(monkeypatch, share: float, seed: int = 0):
    """Of this share of the replies, the connection is lost when the server has done its part."""
    draw, lost, handle = random.Random(seed), [], httpx.HTTPTransport.handle_request

    def handle_request(self, request):
        answer = handle(self, request)
        if draw.random() < share:
            answer.read()
            lost.append(request.url.path)
            raise httpx.ReadError("reset by peer")
        return answer

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle_request)
    return lost


@pytest.mark.usefixtures("impatient")
def test_a_third_of_the_replies_is_lost_and_a_vote_counts_once(url, boss, campaign, monkeypatch):
    with LabelClient(url, "ann", PASSWORD) as ann, monkeypatch.context() as patch:
        lost = losing(patch, 1 / 3)
        told = {}
        turn = ann.next(campaign)
        while turn.item is not None:
            told[turn.item.messages[0].content] = turn.item.responses[0]
            turn = ann.vote(campaign, turn.item, "left")
    assert len([path for path in lost if path.endswith("/votes")]) >= 1
    votes = boss.votes(campaign)
    assert len(votes) == len(told) == 4
    asked = {one["id"]: one for one in boss.export(campaign)["comparisons"]}
    for vote in votes:
        comparison = asked[vote.comparison]
        key = comparison["prompt"]["messages"][0]["content"]
        assert comparison[f"response_{vote.outcome}"]["text"] == told[key]


@pytest.mark.usefixtures("impatient")
def test_what_is_not_harmless_twice_is_not_sent_twice(url, campaign, monkeypatch):
    with LabelClient(url, "bob", PASSWORD) as bob:
        turn = bob.next(campaign)
        for _ in range(2):
            assert turn.item is not None
            turn = bob.vote(campaign, turn.item, "left")
        with monkeypatch.context() as patch:
            lost = losing(patch, 1)
            with pytest.raises(RunError, match=r"lost during POST .*/undo \(reset by peer\); look"):
                bob.undo(campaign)
            assert len(lost) == 1
        assert bob.next(campaign).done == 1


@pytest.mark.usefixtures("impatient")
def test_tries_come_to_an_end(url, campaign, monkeypatch):
    with LabelClient(url, "ann", PASSWORD) as ann, monkeypatch.context() as patch:
        lost = losing(patch, 1)
        with pytest.raises(RunError, match="the connection was lost during GET"):
            ann.next(campaign)
        assert len(lost) == 6


def busy(monkeypatch, *waits: str) -> None:
    """A server that asks to wait as often before it answers."""
    left, handle = list(waits), httpx.HTTPTransport.handle_request

    def handle_request(self, request):
        if left:
            wait = {"Retry-After": left.pop(0)}
            return httpx.Response(429, headers=wait, json={"detail": f"try again in {wait} s"})
        return handle(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle_request)


def test_who_is_asked_to_wait_waits_but_not_for_ever(url, campaign, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", slept.append)
    with LabelClient(url, "ann", PASSWORD) as ann:
        busy(monkeypatch, "2", "3")
        assert ann.next(campaign).total == 4
        assert slept == [2, 3]
        busy(monkeypatch, "200")
        with pytest.raises(RunError, match="was refused: try again in"):
            ann.next(campaign)
        assert slept == [2, 3]
