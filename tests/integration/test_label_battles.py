"""The arena over HTTP: answers stream without names, the vote tells them, nothing is left over."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from labeling_ui.accounts.rate_limits import PROMPTS
from labeling_ui.campaigns.tasks import Task
from labeling_ui.db.store import Store
from labeling_ui.db.tables import TaskRow
from labeling_ui.maintenance.integrity import examine
from labeling_ui.text.markdown import render
from rlhf.errors import RunError
from tests.hostile import MARKUP
from tests.labeling import client, running

pytestmark = pytest.mark.integration

RUNS = (Path("runs/secretive-sft"), Path("runs/secretive-ppo"))


class Scripted:
    """Answers a piece at a time; waits for ``go_on`` where the prompt says so."""

    names = tuple(run.name for run in RUNS)

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.ended: list[str] = []

    def stream(self, name: str, messages) -> Iterator[str]:
        prompt = messages[-1].content
        if prompt == "fail":
            raise RunError(f"{RUNS[0]}: is damaged")
        if prompt == "explode":
            yield "So"
            raise MemoryError("the device is full")
        own = "" if prompt == "same" else f" {self.names.index(name)}"
        try:
            yield "So"
            if prompt == "wait":
                while not self.go_on.wait(0.02):
                    yield "So"
            yield f"So{own}: {prompt}"
        finally:
            self.ended.append(name)


@pytest.fixture(scope="module")
def policies():
    return Scripted()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return tmp_path_factory.mktemp("label") / "label.db"


@pytest.fixture(scope="module")
def url(database, policies):
    with running(database, policies=RUNS, loader=lambda _: policies) as address:
        yield address


@contextmanager
def person(url, role="guest"):
    """Somebody new, so that no test waits for another's allowance or battle."""
    with client(url, "admin") as admin:
        link = admin.post("/api/invitations", json={"role": role}).json()["link"]
    with httpx.Client(base_url=url, timeout=30) as session:
        name = f"p{time.time_ns()}"
        joined = {"code": link.partition("#")[2], "name": name, "password": "correct horse"}
        assert session.post("/api/join", json=joined).status_code in (200, 201)
        yield session


def ask(session, prompt: str, **more) -> list[dict]:
    """Every line of the reply."""
    with session.stream("POST", "/api/arena", json={"prompt": prompt} | more) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("application/jsonl")
        return [json.loads(line) for line in reply.iter_lines()]


def vote(session, item, choice="left", key="key-0001"):
    body = {"assignment": item["assignment"], "choice": choice, "key": key}
    return session.post("/api/arena/votes", json=body)


def stored(database, prompt: str) -> int:
    """How many battles over ``prompt`` are kept."""
    with closing(Store(database)) as store, store.read() as session:
        tasks = map(Task.from_text, session.scalars(select(TaskRow.record)))
        return sum(task.prompt.messages[-1].content == prompt for task in tasks)


def test_answers_grow_then_the_battle_comes_and_the_vote_names_who_answered(url, database):
    with person(url) as guest:
        assert guest.get("/api/arena").json() == {"item": None}
        *grown, last = ask(guest, "Where?")
        assert grown[0] == {"responses": ["<p>So</p>\n"] * 2}
        assert grown[-1]["responses"] == last["item"]["responses"]
        assert last["item"]["messages"] == [{"role": "user", "html": "<p>Where?</p>\n"}]
        assert guest.get("/api/arena").json() == last  # after a reload, the same
        assert "secretive" not in json.dumps([grown, last])
        told = vote(guest, last["item"]).json()
        assert stored(database, "Where?") == 1
        places = [int(text[6]) for text in last["item"]["responses"]]
        assert told["policies"] == [Scripted.names[place] for place in places]
        assert vote(guest, last["item"]).json() == told
        assert guest.get("/api/arena").json() == {"item": None}
        assert vote(guest, last["item"], "right", "key-0002").status_code == 409


def test_a_conversation_goes_on_from_the_better_answer(url, database):
    with person(url) as guest, person(url) as other:
        *_, first = ask(guest, "One?")
        assert vote(guest, first["item"], "right").status_code == 200
        before = first["item"]["assignment"]
        *_, second = ask(guest, "Two?", after=before)
        roles = [message["role"] for message in second["item"]["messages"]]
        texts = [message["html"] for message in second["item"]["messages"]]
        assert roles == ["user", "assistant", "user"]
        assert texts == ["<p>One?</p>\n", first["item"]["responses"][1], "<p>Two?</p>\n"]
        assert guest.get("/api/arena").json() == second
        assert "secretive" not in json.dumps(second)
        [refused] = ask(other, "Mine?", after=before)
        assert refused["detail"].startswith("a conversation goes on from an answer")
        reply = other.post(
            "/api/arena", json={"prompt": "?", "after": before}, headers={"Accept-Language": "de"}
        )
        assert json.loads(reply.text)["detail"].startswith("ein Gespräch geht")
        assert vote(guest, second["item"], "both_bad", "key-0002").status_code == 200
        assert "detail" in ask(guest, "Three?", after=second["item"]["assignment"])[0]
    assert stored(database, "Two?") == 1
    assert stored(database, "Mine?") == 0


def test_a_skip_names_nobody(url):
    with person(url) as guest:
        *_, last = ask(guest, "Which?")
        assert vote(guest, last["item"], "skip").json()["policies"] == []


def test_the_same_answer_twice_is_said_and_not_stored(url, database):
    with person(url) as guest:
        *_, last = ask(guest, "same")
        assert last["notice"].startswith("Both gave the same answer")
        assert guest.get("/api/arena").json() == {"item": None}
    assert stored(database, "same") == 0


def test_what_cannot_be_judged_or_asked_is_refused_in_a_sentence(url):
    with person(url) as guest, person(url, "rater") as rater:
        *_, last = ask(guest, "mine")
        assert vote(rater, last["item"]).status_code == 404
        item = last["item"]
        assert vote(guest, item | {"assignment": 99}).status_code == 404
        body = {"assignment": item["assignment"], "choice": "good", "key": "key"}
        assert guest.post("/api/arena/votes", json=body).status_code == 422
        [refused] = ask(guest, "another")
        assert refused == {"detail": "judge the battle that you have before you ask for another"}
        too_long = guest.post("/api/arena", json={"prompt": "x" * 8001})
        assert (too_long.status_code, "8000" in too_long.json()["detail"]) == (422, True)
        assert guest.post("/api/arena", json={"prompt": "a\0b"}).status_code == 422
        foreign = guest.post(
            "/api/arena", json={"prompt": "x"}, headers={"Origin": "https://elsewhere.example"}
        )
        assert foreign.status_code == 403
        assert rater.get("/api/campaigns").json() == []  # the arena is no work
        assert rater.get("/api/campaigns/arena/next").json()["item"] is None


def test_a_failure_is_told_to_admins_and_that_there_was_one_to_others(url):
    with person(url) as guest, client(url, "admin") as admin:
        assert ask(guest, "fail") == [{"detail": "the policies cannot answer now; tell an admin"}]
        assert ask(admin, "fail") == [{"detail": f"{RUNS[0]}: is damaged"}]
        assert "item" in ask(guest, "and now?")[-1]


def test_what_breaks_in_the_middle_ends_the_reply_with_a_sentence_and_the_log_has_it(
    url, database, caplog
):
    chosen = {"prompt": "explode", "left": 0, "right": 1}
    with client(url, "admin") as admin:
        *grown, last = ask(admin, "explode")
        assert grown == [{"responses": ["<p>So</p>\n"] * 2}]
        assert last == {"detail": "the policies cannot answer now; tell an admin"}
        assert admin.get("/api/arena").json() == {"item": None}
        assert "detail" in admin.post("/api/policies", json=chosen).text
    assert "the device is full" in caplog.text
    assert stored(database, "explode") == 0


def test_chosen_policies_answer_openly_and_nothing_is_stored(url, database):
    with person(url) as guest, client(url, "admin") as admin:
        assert guest.get("/api/policies").json() == {"policies": ["Policy 1", "Policy 2"]}
        assert admin.get("/api/policies").json() == {"policies": [run.name for run in RUNS]}
        reply = guest.post("/api/policies", json={"prompt": "Open?", "left": 1, "right": 0})
        lines = [json.loads(line) for line in reply.text.splitlines()]
        assert lines[-1] == {"responses": ["<p>So 1: Open?</p>\n", "<p>So 0: Open?</p>\n"]}
        assert "secretive" not in reply.text
        reply = guest.post("/api/policies", json={"prompt": "Open?", "left": 2, "right": 0})
        assert reply.json() == {"detail": "there is no such policy; reload the page"}
        unjudged = ask(guest, "Where?")[-1]["item"]  # does not keep anybody from asking openly
        assert (
            "detail"
            not in guest.post("/api/policies", json={"prompt": "Open?", "left": 0, "right": 0}).text
        )
        assert vote(guest, unjudged).status_code == 200
    assert stored(database, "Open?") == 0


def test_nobody_asks_chosen_policies_more_often_than_in_battles_or_twice_at_once(url, policies):
    body = {"prompt": "wait", "left": 0, "right": 1}
    policies.go_on.clear()
    with person(url) as guest:
        with guest.stream("POST", "/api/policies", json=body) as first:
            next(first.iter_lines())
            second = guest.post("/api/policies", json=body | {"prompt": "Now?"})
            assert "still being answered" in second.json()["detail"]
            policies.go_on.set()
        codes = [
            guest.post("/api/policies", json=body | {"prompt": "Now?"}).status_code
            for _ in range(PROMPTS.burst + 2)
        ]
    policies.go_on.clear()
    assert codes[-1] == 429
    assert 200 in codes


def test_nothing_that_is_sent_makes_the_server_open_a_file_or_an_address(url):
    """Gradio takes what looks like a file of its own for one, wherever it stands."""
    for path in ("/dev/zero", "/etc/passwd", "http://127.0.0.1:9/x"):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        event = {"data": [file, None, None], "fn_index": 1, "session_hash": "a"}
        with person(url) as guest:
            joined = guest.post("/compare/gradio_api/queue/join", json=event)
            assert joined.status_code == 404
            asked = {"prompt": file, "left": 0, "right": 1}
            assert guest.post("/api/policies", json=asked).status_code == 422


def test_who_goes_away_in_the_middle_leaves_nothing_behind(url, policies, database):
    policies.ended.clear()
    with person(url) as guest:
        with guest.stream("POST", "/api/arena", json={"prompt": "wait"}) as reply:
            lines = reply.iter_lines()  # to let go of it is to hang up
            assert next(lines) == '{"responses": ["<p>So</p>\\n", "<p>So</p>\\n"]}'
            [refused] = ask_again(guest, url)
            assert refused == {"detail": "your last prompt is still being answered; wait for it"}
        deadline = time.monotonic() + 10
        while len(policies.ended) < 2:  # both generators are closed, though nobody let them go on
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not policies.go_on.is_set()
        assert guest.get("/api/arena").json() == {"item": None}
        assert "item" in ask(guest, "Are you there?")[-1]
    assert stored(database, "wait") == 0


def ask_again(guest, url) -> list[dict]:
    """With the same cookies, from another connection."""
    with httpx.Client(base_url=url, cookies=guest.cookies, timeout=30) as other:
        return ask(other, "and?")


def test_who_asks_too_often_is_told_to_wait(url):
    with person(url) as guest:
        for _ in range(PROMPTS.burst):
            assert "notice" in ask(guest, "same")[-1]
        answer = guest.post("/api/arena", json={"prompt": "same"})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1


def test_hostile_texts_come_rendered_as_everywhere(url):
    for start in range(0, len(MARKUP), PROMPTS.burst):
        with person(url) as guest:
            for number, text in enumerate(MARKUP[start : start + PROMPTS.burst]):
                *_, last = ask(guest, text)
                item = last["item"]
                assert item["messages"][0]["html"] == render(text)
                answers = {render(f"So {place}: {text}") for place in (0, 1)}
                assert set(item["responses"]) == answers
                assert vote(guest, item, key=f"key-{number}").status_code == 200


def test_the_database_is_sound_after_all_this(url, database):
    with closing(Store(database)) as store:
        assert examine(store).problems == ()
    with client(url, "admin") as admin:
        exported = admin.get("/api/campaigns/arena/export").json()
        assert {c["metadata"]["source"] for c in exported["comparisons"]} == {"arena"}
        assert len(exported["votes"]) >= 2
