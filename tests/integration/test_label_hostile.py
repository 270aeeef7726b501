"""What is accepted reads back as it was written, and what is not is refused in a sentence."""

import json

import pytest

from rlhf.records import to_json
from tests.hostile import LONG, MARKUP, REFUSED
from tests.labeling import PASSWORD, client, comparison

pytestmark = pytest.mark.integration


def asked(text: str) -> dict:
    """A comparison that holds ``text`` wherever a text may stand."""
    return {
        "prompt": {"messages": [{"role": "user", "content": text}], "metadata": {"note": text}},
        "response_a": {"text": "a " + text, "policy": "one " + text},
        "response_b": {"text": "b " + text, "policy": "two " + text},
    }


def test_there_are_enough_of_them():
    assert len(set(MARKUP)) == len(MARKUP) >= 60


def test_what_is_accepted_reads_back_verbatim(url, admin):
    texts = [*MARKUP, LONG[:-2]]
    body = {"name": "verbatim", "comparisons": [asked(text) for text in texts]}
    assert admin.post("/api/campaigns", json=body).json()["added"] == len(texts)
    shown = []
    with client(url, "ann") as ann:
        turn = ann.get("/api/campaigns/verbatim/next").json()
        while item := turn["item"]:
            text = item["messages"][0]["content"]
            assert set(item["responses"]) == {"a " + text, "b " + text}
            shown.append(text)
            vote = {"assignment": item["assignment"], "choice": "left", "reason": text[:4000]}
            answer = ann.post(
                "/api/campaigns/verbatim/votes", json={**vote, "key": f"v{len(shown)}"}
            )
            assert answer.status_code == 200
            turn = answer.json()
    assert shown == texts
    exported = admin.get("/api/campaigns/verbatim/export").json()
    told = {vote["reason"] for vote in exported["votes"] if vote.get("reason")}
    assert told == {text[:4000] for text in texts}
    for row, text in zip(exported["comparisons"], texts, strict=True):
        row["prompt"].pop("id")
        assert {key: row[key] for key in asked(text)} == asked(text)


def test_guidelines_read_back_verbatim_and_rendered_as_text(url, admin):
    text = "\n\n".join(MARKUP)
    body = {"name": "guided", "guidelines": text, "comparisons": [to_json(comparison(0))]}
    assert admin.post("/api/campaigns", json=body).status_code == 200
    with client(url, "ann") as ann:
        exact, rendered = (
            next(c for c in ann.get(path).json() if c["name"] == "guided")["guidelines"]
            for path in ("/api/campaigns", "/api/campaigns?html=true")
        )
    assert exact == text
    assert not {"<script", "<img", "<iframe", "<form"} & set(rendered.lower().split(">"))


def test_a_hostile_name_is_refused_or_is_somebodys_name_from_then_on(url, admin):
    accepted = []
    for text in [*MARKUP, "Ann \u202e", "علي", "a\u200bb", "x" * 64, "x" * 65]:
        answer = admin.post("/api/users", json={"name": text, "password": PASSWORD})
        if answer.status_code == 201:
            with client(url, text) as session:
                assert session.get("/api/me").json()["name"] == text
            accepted.append(text)
        else:
            assert answer.status_code == 422
            assert "\n" not in answer.json()["detail"]
    assert accepted == ["__proto__", "علي", "x" * 64]


def refused_in_a_sentence(answer) -> None:
    assert answer.status_code == 422, answer.text
    detail = answer.json()["detail"]
    assert "\n" not in detail
    assert len(detail) < 300  # what was sent is not sent back


def post(session, path, body):
    """JSON in ASCII, which can say what UTF-8 cannot."""
    headers = {"Content-Type": "application/json"}
    return session.post(path, content=json.dumps(body), headers=headers)


@pytest.mark.parametrize("text", REFUSED.values(), ids=list(REFUSED))
def test_what_no_store_can_hold_or_is_too_long_is_refused_wherever_it_stands(url, admin, text):
    good = asked("fine")
    for part in ("prompt", "response_a", "response_b"):
        bad = {**good, part: asked(text)[part]}
        answer = post(admin, "/api/campaigns", {"name": "bad", "comparisons": [good, bad]})
        refused_in_a_sentence(answer)
        assert "comparisons[1]" in answer.json()["detail"]
    body = {"name": "bad", "comparisons": [good]}
    refused_in_a_sentence(post(admin, "/api/campaigns", {**body, "guidelines": text}))
    refused_in_a_sentence(post(admin, "/api/campaigns", {**body, "name": text}))
    assert "bad" not in [c["name"] for c in admin.get("/api/campaigns").json()]
    for field in ("name", "password", "role"):
        user = {"name": "someone", "password": PASSWORD, field: text}
        refused_in_a_sentence(post(admin, "/api/users", user))
    refused_in_a_sentence(post(admin, "/api/login", {"name": text, "password": PASSWORD}))
    post(admin, "/api/campaigns", {"name": "reasons", "comparisons": [good]})
    with client(url, "bob") as bob:
        item = bob.get("/api/campaigns/reasons/next").json()["item"]
        vote = {"assignment": item["assignment"], "choice": "tie", "key": "k"}
        for field in ("reason", "key", "choice", "elapsed_ms"):
            answer = post(bob, "/api/campaigns/reasons/votes", {**vote, field: text})
            refused_in_a_sentence(answer)
        assert bob.get("/api/campaigns/reasons/next").json()["progress"]["done"] == 0


@pytest.mark.parametrize("number", [2**63, -1, 1.5, "1", True, None, 10**400])
def test_a_number_that_is_no_assignment_is_refused(url, admin, number):
    admin.post("/api/campaigns", json={"name": "numbers", "comparisons": [asked("fine")]})
    with client(url, "ann") as ann:
        vote = {"assignment": number, "choice": "tie", "key": "k"}
        answer = ann.post("/api/campaigns/numbers/votes", json=vote)
    assert answer.status_code in (404, 422)
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("name", MARKUP)
def test_a_hostile_campaign_in_a_path_is_only_not_there(admin, name):
    from urllib.parse import quote

    answer = admin.get(f"/api/campaigns/{quote(name, safe='')}/next")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "settings",
    [
        {"lease_minutes": 1e308},
        {"lease_minutes": "Infinity"},
        {"overlap": 10**30},
        {"quota": 10**30},
        {"aspects": ["\ud800"]},
        {"aspects": ["a\0b"]},
        {"kind": "\ud800"},
        {"unknown": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(admin, settings):
    body = {"name": "settings", "settings": settings, "comparisons": [asked("fine")]}
    refused_in_a_sentence(post(admin, "/api/campaigns", body))
