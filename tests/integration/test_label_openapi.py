"""The description of the HTTP API is true: every route is in it, every answer is as it says."""

import re
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlhf.records import Prompt, to_json
from tests.doors import OURS, WHO, all_routes
from tests.labeling import PASSWORD, client, comparisons, running
from tests.openapi import (
    KNOWN,
    names_in,
    operations,
    problems,
    resolved,
    schemas_in,
    template_of,
)

pytestmark = pytest.mark.integration

NAMES = dict(zip(WHO, (None, "gus", "ann", "judy", "admin"), strict=True))
PAGES = {"/", "/login", "/join", "/account", "/new", "/api/docs"}
"""For people, not programs."""


class Two:
    """Policies that answer at once."""

    names = ("one", "two")

    def stream(self, name: str, messages: object) -> Generator[str]:  # noqa: ARG002
        yield name

    def respond(self, name: str, prompts: list[Prompt], sampling: object) -> list[str]:  # noqa: ARG002
        return [name for _ in prompts]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    database, runs = tmp_path_factory.mktemp("label") / "label.db", [Path("one"), Path("two")]
    with running(database, policies=runs, loader=lambda _: Two()) as address:
        yield address


@pytest.fixture(scope="module")
def document(admin) -> dict[str, Any]:
    return admin.get("/api/openapi.json").json()


def test_every_route_of_ours_is_described_and_nothing_else(document, tmp_path):
    programs = {key for key in OURS if key[1] not in PAGES}
    assert programs <= set(all_routes(tmp_path / "label.db"))
    assert operations(document).keys() == programs


def test_it_is_openapi_and_every_reference_leads_somewhere(document):
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version", "description"} <= document["info"].keys()
    tags = {tag["name"] for tag in document["tags"]}
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(ids) == len(set(ids))
    for (method, path), operation in operations(document).items():
        assert operation["summary"].strip(), path
        assert set(operation["tags"]) <= tags
        assert [code for code in operation["responses"] if code.startswith("2")], (method, path)
        assert {"429", "503"} <= operation["responses"].keys()
        declared = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", path))
        for code, answer in operation["responses"].items():
            assert answer["description"]
            if code >= "400":
                assert answer["content"]["application/json"]["schema"] == {
                    "$ref": "#/components/schemas/Refusal"
                }
    for schema in document["components"]["schemas"].values():
        assert schema.keys() <= KNOWN
    for part in schemas_in(document):
        if "$ref" in part:
            assert resolved(document, part)
    schemes = document["components"]["securitySchemes"].keys()
    assert {name for one in document["security"] for name in one} == schemes == {"token", "session"}


def test_what_raters_receive_has_no_policy_and_no_side_even_in_its_shape(document):
    shapes: set[str] = set()
    for (method, path), operation in operations(document).items():
        if "For raters" in operation["description"] and not path.endswith("openapi.json"):
            for answer in operation["responses"].values():
                for content in answer["content"].values():
                    shapes |= names_in(document, content["schema"])
            assert method
    assert {"item", "responses", "messages"} <= shapes
    hidden = {"policy", "policies", "a_side", "side", "order", "comparison", "metadata", "expected"}
    assert shapes & hidden == set()
    # the same walk finds them where they are allowed
    exported = operations(document)["GET", "/api/campaigns/{name}/export"]
    assert "a_side" in names_in(document, exported["responses"]["200"])


def test_the_checker_sees_what_is_wrong(document):
    shape = {"$ref": "#/components/schemas/TurnShown"}
    sound = {"item": None, "progress": {"done": 0, "total": 1}, "notice": ""}
    assert list(problems(document, shape, sound)) == []
    for wrong in (
        {**sound, "policy": "x"},
        {**sound, "notice": 1},
        {**sound, "progress": {"done": True, "total": 1}},
        {"item": None, "notice": ""},
        {**sound, "item": {"assignment": 1}},
        None,
    ):
        assert list(problems(document, shape, wrong))


class Checked:
    """Clients whose every answer is held to the description; what they saw is kept."""

    def __init__(self, url: str, document: dict[str, Any]) -> None:
        self.url, self.document = url, document
        self.seen: set[tuple[str, str, int]] = set()

    def check(self, answer: httpx.Response) -> None:
        answer.read()
        method, path = answer.request.method, answer.request.url.path
        known = template_of(self.document, method, path)
        assert known is not None, path
        described = operations(self.document)[method, known]["responses"]
        where = (method, known, answer.status_code)
        assert str(answer.status_code) in described, where
        kind = answer.headers["content-type"].split(";")[0]
        schema = described[str(answer.status_code)]["content"][kind]["schema"]
        value = answer.json() if kind == "application/json" else answer.text
        assert list(problems(self.document, schema, value)) == [], where
        self.seen.add(where)

    def person(self, stack: ExitStack, name: str | None) -> httpx.Client:
        session = stack.enter_context(client(self.url, name))
        session.event_hooks["response"].append(self.check)
        return session


@pytest.fixture(scope="module")
def checked(url, document) -> Checked:
    return Checked(url, document)


@pytest.fixture
def people(checked: Checked) -> Generator[dict[str, httpx.Client]]:
    with ExitStack() as stack:
        yield {who: checked.person(stack, name) for who, name in NAMES.items()}


def test_every_refusal_is_one_that_is_described(checked, people):
    for (method, path), row in OURS.items():
        if path in PAGES or path.endswith(("login", "logout", "join")):
            continue
        place = row.example or re.sub(r"\{[^}]*\}", "none", path)
        for session in people.values():
            session.request(method, place, json=row.body)
        if row.body is not None:
            content, kind = b"[" * 100_000, {"Content-Type": "application/json"}
            answer = people["admin"].request(method, place, content=content, headers=kind)
            assert answer.status_code == 400
    refused = {code for _, _, code in checked.seen if code >= 400}
    assert refused >= {400, 401, 403, 404, 422}


def campaign(admin: httpx.Client, name: str, count: int = 3, **settings: Any) -> str:
    body = {
        "name": name,
        "guidelines": "Be *fair*.",
        "settings": settings,
        "comparisons": [to_json(c) for c in comparisons(count)],
    }
    assert admin.post("/api/campaigns", json=body).status_code == 200
    return f"/api/campaigns/{name}"


def test_every_answer_is_as_described(checked, people, document):
    nobody, admin, judy, ann = (people[who] for who in ("nobody", "admin", "adjudicator", "rater"))
    one = campaign(admin, "one", overlap=2)
    ann.get("/api/campaigns?html=true")
    judy.get("/api/campaigns")
    item = ann.get(one + "/next?html=true").json()["item"]
    ann.post(f"{one}/beat/{item['assignment']}")
    ann.post(one + "/flags", json={"assignment": item["assignment"], "kind": "unsafe"})
    vote = {"assignment": item["assignment"], "choice": "left", "key": "key-ann-1", "strength": 2}
    assert ann.post(one + "/votes?html=true", json=vote).json()["saved"]
    assert ann.post(one + "/votes", json=vote | {"key": "another"}).status_code == 409
    ann.post(one + "/undo")
    ann.post(one + "/votes", json=vote | {"key": "key-ann-2"})
    while (other := judy.get(one + "/next").json()["item"]) is not None:
        body = {
            "assignment": other["assignment"],
            "choice": "tie",
            "key": f"judy-{other['assignment']}",
        }
        judy.post(one + "/votes", json=body)
    assert ann.get(one + "/history").json()
    assert judy.get(one + "/status").json()["votes"] == 4
    for form in ("records", "trl-ranked"):
        admin.get(one + "/export", params={"format": form})
    contested(people)
    two = campaign(admin, "two", source="list")
    assert admin.get(two + "/export?format=trl-paired").status_code == 422  # nothing yet
    assert admin.get(two + "/export?format=else").status_code == 422
    keys = [to_json(comparison)["id"] for comparison in comparisons(3)]
    lists = {"assignments": [["ann", key] for key in keys]}
    assert admin.post(two + "/assignments", json=lists).json() == {"added": 3, "duplicates": 0}
    battle(ann)
    body = {"name": "drafted", "prompts": ["Who?"], "policies": [0, 1]}
    assert admin.post("/api/drafts", json=body).status_code == 202
    while admin.get("/api/drafts").json()["draft"]["going"]:
        time.sleep(0.05)
    assert admin.get("/api/drafts").json()["draft"]["answered"] == 1
    accounts(nobody, admin)
    nobody.get("/healthz")
    nobody.get("/api/words")
    fine = {(method, path) for method, path, code in checked.seen if code < 300}
    assert operations(document).keys() - fine == set()


def contested(people: dict[str, httpx.Client]) -> None:
    """Two raters disagree, and an adjudicator is shown what they said."""
    admin, judy = people["admin"], people["adjudicator"]
    path = campaign(admin, "contested", 1, overlap=2)
    for name, text in (("rater", "Monday"), ("admin", "do not")):
        item = people[name].get(path + "/next").json()["item"]
        choice = "left" if text in item["responses"][0] else "right"
        body = {"assignment": item["assignment"], "choice": choice, "key": f"contested-{name}"}
        people[name].post(path + "/votes", json=body)
    turn = judy.get(path + "/next?desk=adjudicate&html=true").json()
    assert len(turn["said"]) == 2
    body = {"assignment": turn["item"]["assignment"], "choice": "left", "key": "contested-judy"}
    assert judy.post(path + "/votes?desk=adjudicate", json=body).status_code == 200
    for form in ("records", "trl-paired", "trl-unpaired"):
        assert admin.get(path + "/export", params={"format": form}).status_code == 200


def battle(ann: httpx.Client) -> None:
    """A prompt is answered by two, judged, and who answered is told."""
    ann.post("/api/policies", json={"prompt": "Who is there?", "left": 0, "right": 1})
    ann.get("/api/policies")
    ann.post("/api/arena", json={"prompt": "Who is there?"})
    item = ann.get("/api/arena").json()["item"]
    body = {"assignment": item["assignment"], "choice": "left", "key": "key-of-a-battle"}
    assert set(ann.post("/api/arena/votes", json=body).json()["policies"]) == set(Two.names)


def accounts(nobody: httpx.Client, admin: httpx.Client) -> None:
    """Everything about people, by an admin and by somebody who is invited."""
    admin.post("/api/users", json={"name": "una", "password": PASSWORD})
    many = admin.post("/api/users", json=[{"name": "dua"}, {"name": "tria", "role": "guest"}])
    assert many.json()[0]["token"]
    assert admin.post("/api/users", json={"name": "una", "password": PASSWORD}).status_code == 409
    admin.get("/api/me")
    admin.post("/api/tokens")
    [token] = admin.get("/api/tokens").json()
    admin.delete(f"/api/tokens/{token['id']}")
    code = admin.post("/api/invitations", json={}).json()["link"].partition("#")[2]
    admin.post("/api/invitations", json={"uses": 3})
    *_, spare = admin.get("/api/invitations").json()
    admin.delete(f"/api/invitations/{spare['id']}")
    assert admin.get("/api/audit?limit=50").json()
    nobody.post("/api/join", json={"code": code, "name": "joan", "password": PASSWORD})
    nobody.post("/api/password", json={"old": PASSWORD, "new": PASSWORD + "!"})
    nobody.post("/api/logout")
    nobody.post("/api/login", json={"name": "joan", "password": PASSWORD + "!"})
    nobody.post("/api/logout")


def test_people_read_the_same_on_a_page_that_loads_nothing(url, document):
    with client(url, "ann") as ann:
        text = ann.get("/api/docs").text
    for (method, path), operation in operations(document).items():
        assert f"<code>{method} {path}</code></h3>" in text
        assert f'<section class="rl-card" id="{operation["operationId"]}">' in text
    for name in document["components"]["schemas"]:
        assert f'id="shape-{name}"' in text
    anchors = set(re.findall(r'href="#([^"]+)"', text))
    assert anchors <= set(re.findall(r'id="([^"]+)"', text))
    assert re.findall(r'(?:src|href)="(?:https?:)?//', text) == []
    assert "<script" not in text
