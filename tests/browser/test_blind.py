"""What a rater receives does not depend on who wrote a response, or on which side it stands."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from labeling_ui.arena.battles import Arena
from labeling_ui.campaigns.service import Campaigns
from rlhf.records import to_json
from tests.labeling import client, comparisons, running

RUNS = (Path("runs/secretive-sft"), Path("runs/secretive-ppo"))

# Whatever the API tells a rater goes by one of these names; a new one is a decision.
SAID = {
    *("name", "role", "language", "direction", "texts", "languages", "detail"),
    *("guidelines", "progress", "done", "total", "item", "assignment", "messages", "content"),
    *("responses", "html", "saved", "ok", "notice", "kind", "strength", "ties", "aspects"),
    *("vote", "choice", "answered_at", "prompt", "policies"),  # numbers, to raters
}


class Scripted:
    names = tuple(run.name for run in RUNS)

    def stream(self, name, messages):
        assert name in self.names
        yield f"Answer to {messages[-1].content}"


def names_in(data) -> Iterator[str]:
    """Every name in a JSON value, but those of the words themselves."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield name
            if name not in ("texts", "languages"):
                yield from names_in(value)
    elif isinstance(data, list):
        for value in data:
            yield from names_in(value)


class Ear:
    """Hears everything that a tab receives."""

    def __init__(self, tab) -> None:
        self._tab, self._heard = tab, []
        tab.route("**/*", self._listen)

    def _listen(self, route) -> None:
        answer = route.fetch(max_redirects=0)
        self._heard.append((route.request.url, answer.headers, answer.body()))
        route.fulfill(response=answer)

    def everything(self) -> dict[str, str]:
        """Headers and body of each, by address."""
        found = {
            f"{number} {url}": json.dumps(headers) + body.decode(errors="replace")
            for number, (url, headers, body) in enumerate(self._heard)
        }
        kept = self._tab.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
        return {**found, "page": self._tab.content(), "storage": kept}


def test_no_page_answer_event_header_or_file_tells_a_rater_a_name_a_path_or_a_side(tmp_path, enter):
    database = tmp_path / "label.db"
    with running(database, policies=RUNS, loader=lambda _: Scripted()) as url:
        with client(url, "admin") as admin:
            asked = [to_json(c) for c in comparisons(4)]
            body = {"name": "blind", "guidelines": "Be *fair*.", "comparisons": asked}
            assert admin.post("/api/campaigns", json=body).status_code == 200
        tab = enter(url, "ann", "compare")
        ear = Ear(tab)
        tab.goto(f"{url}/rate/")
        tab.wait_for_selector("[data-state=ready]")
        for key in ("g", "x", "8", "1", "u", "2", "0", "s", "b"):
            tab.keyboard.press(key)
            tab.wait_for_timeout(150)
            tab.wait_for_selector("[data-state=ready], [data-state=done]")
        tab.evaluate(
            """async () => {
              const vote = {assignment: 1, choice: "left", key: "again"};
              const head = {method: "POST", headers: {"Content-Type": "application/json"}};
              for (const [path, body] of [["votes", vote], ["votes", {}], ["undo", {}]])
                await fetch("/api/campaigns/blind/" + path, {...head, body: JSON.stringify(body)});
              for (const path of ["next", "next?html=true", "status", "export"])
                await fetch("/api/campaigns/blind/" + path);
              await fetch("/api/campaigns/blind/history");
              for (const path of ["/rate/config", "/compare/config", "/admin/config", "/nowhere",
                "/rate/gradio_api/info", "/api/users", "/openapi.json"]) await fetch(path);
            }"""
        )
        tab.goto(f"{url}/compare/#chosen")
        expect(tab.get_by_label("Left policy").locator("option:checked")).to_have_text("Policy 1")
        tab.get_by_label("Prompt").fill("Where?")
        tab.get_by_role("button", name="Answer").click()
        expect(tab.locator(".rl-chosen .rl-text").first).to_have_text("Answer to Where?")
        tab.goto(f"{url}/admin/")
        received = ear.everything()
    told = "".join(received.values())
    assert "arrives on" in told
    assert "Answer to Where?" in told
    assert len(received) > 60
    for secret in ("secretive", "runs/", str(database), str(database.parent), "label.db"):
        assert [place for place, text in received.items() if secret in text] == []
    for place, text in received.items():
        if "/api/" in place:
            start = text.index("}") + 1
            assert set(names_in(json.loads(text[start:]))) <= SAID, place


def session_of(url: str) -> list[tuple[int, dict[str, str], str]]:
    """Everything that a rater's program receives while it answers all there is."""
    with client(url, "ann") as ann:
        received = [ann.get(p) for p in ("/rate/", "/rate/config", "/api/me", "/api/campaigns")]
        received.append(ann.get("/api/campaigns/blind/next?html=true"))
        for number in range(4):
            item = received[-1].json()["item"]
            vote = {"assignment": item["assignment"], "choice": "left", "key": f"k{number}"}
            received.append(ann.post("/api/campaigns/blind/votes?html=true", json=vote))
            received.append(ann.post("/api/campaigns/blind/undo?html=true"))
            received.append(
                ann.post("/api/campaigns/blind/votes", json={**vote, "key": f"l{number}"})
            )
            received.append(ann.get("/api/campaigns/blind/history"))
            received.append(ann.get("/api/campaigns/blind/next?html=true"))
    return [(one.status_code, dict(one.headers), one.text.replace(url, "")) for one in received]


def test_the_bytes_are_the_same_whoever_wrote_which_response(tmp_path, monkeypatch):
    """The same texts on the same sides, but the policies exchanged: no byte may differ."""
    heard = []
    for order in ("01", "10"):
        asked = [c if order == "01" else c.swapped() for c in comparisons(4)]
        monkeypatch.setattr(
            "labeling_ui.app.Campaigns",
            lambda store, order=order: Campaigns(store, draw=lambda _: order),
        )
        with running(tmp_path / f"{order}.db") as url:
            with client(url, "admin") as admin:
                body = {"name": "blind", "comparisons": [to_json(c) for c in asked]}
                admin.post("/api/campaigns", json=body)
            heard.append(session_of(url))
    assert "arrives on" in str(heard[0])
    for one, other in zip(*heard, strict=True):
        assert without_chance(one) == without_chance(other)


ANSWERS = {
    "pairwise": {"choice": "left"},
    "ranking": {"choice": "ranked", "ranking": [[1], [0]]},
    "rating": {"choice": "rated", "aspects": {"honest": 3}},
    "thumbs": {"choice": "good"},
    "rewrite": {"choice": "rewritten", "text": "better"},
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_no_kind_of_task_tells_who_wrote_what(tmp_path, monkeypatch, kind):
    """The same texts in the same places, of one policy and then of the other; all who judge."""
    settings = {"kind": kind, "overlap": 2, "aspects": ["honest"] if kind == "rating" else []}
    heard = []
    monkeypatch.setattr(
        "labeling_ui.app.Campaigns", lambda store: Campaigns(store, draw=lambda n: "01"[:n])
    )
    for policies in (("secretive-sft", "ppo"), ("ppo", "secretive-sft")):
        texts = ("one", "two") if kind in ("pairwise", "ranking") else ("one",)
        written = zip(texts, policies, strict=False)
        responses = [{"text": text, "policy": policy} for text, policy in written]
        row = {"prompt": to_json(comparisons(1)[0].prompt), "responses": responses}
        with running(tmp_path / f"{policies[0]}.db") as url:
            with client(url, "admin") as admin:
                body = {"name": "blind", "settings": settings, "comparisons": [row]}
                assert admin.post("/api/campaigns", json=body).status_code == 200
            heard.append(kind_of_session(url, ANSWERS[kind]))
    assert '"one"' in str(heard[0])
    assert "secretive" not in str(heard)
    for one, other in zip(*heard, strict=True):
        assert without_chance(one) == without_chance(other)


def kind_of_session(url: str, answer: dict) -> list[tuple[int, dict[str, str], str]]:
    """Everything that two raters and then an adjudicator receive over one task."""
    received, place = [], "/api/campaigns/blind"
    other = {"choice": "tie"} if answer["choice"] == "left" else {"choice": "bad"}
    desks = [("ann", "rate", answer), ("bob", "rate", answer), ("judy", "adjudicate", answer)]
    if answer["choice"] in ("left", "good"):
        desks[1] = ("bob", "rate", other)
    if "ranking" in answer:
        desks[1] = ("bob", "rate", answer | {"ranking": [[0], [1]]})
    for name, desk, said in desks:
        with client(url, name) as person:
            received.append(person.get("/api/campaigns?html=true"))
            received.append(person.get(f"{place}/next", params={"html": True, "desk": desk}))
            if (item := received[-1].json()["item"]) is None:
                continue
            vote = {"assignment": item["assignment"], "key": f"key-{name}", **said}
            for what, body in (("votes", vote), ("undo", {}), ("votes", vote | {"key": name * 3})):
                received.append(person.post(f"{place}/{what}?desk={desk}&html=true", json=body))
                assert received[-1].status_code == 200
            received.append(person.get(f"{place}/history?desk={desk}"))
    return [(one.status_code, dict(one.headers), one.text.replace(url, "")) for one in received]


def without_chance(answer: tuple[int, dict[str, str], str]) -> tuple:
    """Less what differs between any two servers: the time, and how Gradio numbers its parts."""
    status, headers, text = answer
    text = re.sub(r'"answered_at":"[^"]*"', "", text)
    headers = {k: v for k, v in headers.items() if k not in ("date", "content-length")}
    if not headers["content-type"].startswith("application/json") or '"components"' in text:
        text = re.sub(r"[0-9a-z]*[0-9][0-9a-z]*", "#", text)
    return status, headers, text


class Duel(Scripted):
    """The first policy and the second say certain texts, whoever they are."""

    def __init__(self, *texts: str) -> None:
        self._texts = dict(zip(self.names, texts, strict=True))

    def stream(self, name, messages):
        yield from (self._texts[name][:4], f"{self._texts[name]} {messages[-1].content}")


def test_nothing_tells_who_answers_in_the_arena_before_the_vote_is_stored(tmp_path, enter):
    database = tmp_path / "label.db"
    duel = Duel("It is *there*.", "I do not know.")
    with running(database, policies=RUNS, loader=lambda _: duel) as url:
        tab = enter(url, "gus", "compare")
        ear = Ear(tab)
        tab.goto(f"{url}/compare/")
        expect(tab.locator("#rl-ask")).to_be_focused()
        tab.keyboard.type("Where?")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("[data-state=judge]")
        tab.reload()
        tab.wait_for_selector("[data-state=judge]")
        tab.evaluate(
            """async () => {
              const head = {method: "POST", headers: {"Content-Type": "application/json"}};
              for (const body of [{prompt: "another"}, {prompt: ""}, {}])
                await fetch("/api/arena", {...head, body: JSON.stringify(body)});
              const votes = [{assignment: 1, choice: "good", key: "k"}, {assignment: 2}, {}];
              for (const body of votes)
                await fetch("/api/arena/votes", {...head, body: JSON.stringify(body)});
              for (const path of ["next", "history", "status", "export"])
                await fetch("/api/campaigns/arena/" + path);
              for (const path of ["/api/arena", "/compare/config"]) await fetch(path);
            }"""
        )
        received = ear.everything()
        tab.keyboard.press("1")
        expect(tab.locator(".rl-name").first).to_contain_text("secretive")
    told = "".join(received.values())
    assert "I do not know." in told
    for secret in ("secretive", "runs/", str(database), "label.db", '"order"', '"source"'):
        assert [place for place, text in received.items() if secret in text] == []
    for place, text in received.items():
        if "/api/" in place:
            for line in text[text.index("}") + 1 :].splitlines():
                assert set(names_in(json.loads(line))) <= SAID, place


def battle_of(url: str) -> tuple[list, list[str]]:
    """Everything that a guest's program receives until the vote, and whom the vote names."""
    with client(url, "gus") as gus:
        received = [gus.get(path) for path in ("/compare/", "/compare/config", "/api/arena")]
        received.append(gus.post("/api/arena", json={"prompt": "Where?"}))
        received.append(gus.get("/api/arena"))
        item = received[-1].json()["item"]
        vote = {"assignment": item["assignment"], "choice": "left", "key": "key"}
        told = gus.post("/api/arena/votes", json=vote).json()["policies"]
    return [
        (one.status_code, dict(one.headers), one.text.replace(url, "")) for one in received
    ], told


def test_the_bytes_of_a_battle_are_the_same_whoever_answers(tmp_path, monkeypatch):
    """The same texts on the same sides, but by the other policies."""
    heard, named = [], []
    for order, texts in (("01", ("One.", "Two.")), ("10", ("Two.", "One."))):
        monkeypatch.setattr(
            "labeling_ui.app.Arena",
            lambda *parts, order=order: Arena(*parts, draw=lambda _: order),
        )
        duel = Duel(*texts)
        with running(tmp_path / f"{order}.db", policies=RUNS, loader=lambda _, d=duel: d) as url:
            received, told = battle_of(url)
        heard.append(received)
        named.append(told)
    assert "Two. Where?" in str(heard[0])
    for one, other in zip(*heard, strict=True):
        assert without_chance(one) == without_chance(other)
    assert named[0] == named[1][::-1] == list(Duel.names)
