"""Accounts, tokens, invitations and the log, through the server and the command line."""

import io

import httpx
import pytest

from labeling_ui.__main__ import main
from rlhf.records import to_json
from tests.labeling import PASSWORD, client, comparisons

pytestmark = pytest.mark.integration


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_raters_made_in_bulk_vote_with_their_tokens(url, admin):
    asked = {"name": "bulk", "comparisons": [to_json(c) for c in comparisons(2)]}
    admin.post("/api/campaigns", json={**asked, "settings": {"overlap": 20}})
    people = [{"name": f"worker {number}"} for number in range(20)]
    made = admin.post("/api/users", json=people)
    assert made.status_code == 201
    assert [one["name"] for one in made.json()] == [one["name"] for one in people]
    for number, one in enumerate(made.json()):
        headers = bearer(one["token"])
        with httpx.Client(base_url=url, headers=headers) as program:
            item = program.get("/api/campaigns/bulk/next").json()["item"]
            vote = {"assignment": item["assignment"], "choice": "tie", "key": f"k{number}"}
            assert program.post("/api/campaigns/bulk/votes", json=vote).status_code == 200
    votes = admin.get("/api/campaigns/bulk/export").json()["votes"]
    assert {vote["rater"] for vote in votes} == {one["name"] for one in people}
    again = admin.post("/api/users", json=[{"name": "fresh"}, {"name": "worker 3"}])
    assert (again.status_code, again.json()["detail"]) == (409, "user 'worker 3' exists already")
    assert admin.post("/api/users", json=[{"name": "fresh"}]).status_code == 201


def test_a_token_of_ones_own_is_shown_once_and_can_be_revoked(url):
    with client(url, "ann") as ann:
        token = ann.post("/api/tokens").json()["token"]
        [kept] = ann.get("/api/tokens").json()
        assert kept["user"] == "ann"
        assert token not in ann.get("/api/tokens").text
        me = httpx.get(url + "/api/me", headers=bearer(token))
        assert me.json() == {"name": "ann", "role": "rater"}
        assert ann.delete(f"/api/tokens/{kept['id']}").status_code == 200
        assert httpx.get(url + "/api/me", headers=bearer(token)).status_code == 401


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", "bearer rlhf_", "Bearer \xff"])
def test_a_wrong_token_is_nobody_even_beside_a_session(url, header):
    with client(url, "ann") as ann:
        headers = {b"Authorization": header.encode("latin-1")}
        assert ann.get("/api/me", headers=headers).status_code == 401


def test_a_token_opens_no_page(url):
    with client(url, "ann") as ann:
        token = ann.post("/api/tokens").json()["token"]
    assert httpx.get(url + "/rate/", headers=bearer(token)).status_code == 307
    assert httpx.get(url + "/rate/config", headers=bearer(token)).status_code == 401


def test_who_is_invited_makes_an_account_and_is_signed_in(url, admin):
    link = admin.post("/api/invitations", json={"uses": 1, "role": "guest"}).json()["link"]
    path, code = link.split("#")
    assert path == "/join"
    body = {"code": code, "name": "visitor", "password": PASSWORD}
    with httpx.Client(base_url=url) as visitor:
        assert visitor.post("/api/join", json={**body, "code": "wrong"}).status_code == 404
        assert visitor.post("/api/join", json=body).json() == {"name": "visitor", "role": "guest"}
        assert visitor.get("/api/me").json()["role"] == "guest"
        assert visitor.get("/api/campaigns").status_code == 403
    again = httpx.post(url + "/api/join", json={**body, "name": "another"})
    assert (again.status_code, "ask for another" in again.text) == (404, True)
    code = admin.post("/api/invitations", json={"uses": 9}).json()["link"].split("#")[1]
    number = admin.get("/api/invitations").json()[-1]["id"]
    assert admin.delete(f"/api/invitations/{number}").status_code == 200
    assert httpx.post(url + "/api/join", json={**body, "code": code}).status_code == 404


def test_changing_the_password_needs_the_old_one_and_ends_the_other_sessions(url, admin):
    new = {"name": "changer", "password": PASSWORD}
    assert admin.post("/api/users", json=new).status_code == 201
    with client(url, "changer") as here, client(url, "changer") as there:
        body = {"old": "not the old", "new": "another password"}
        assert here.post("/api/password", json=body).status_code == 403
        assert here.post("/api/password", json={**body, "old": PASSWORD}).status_code == 200
        assert here.get("/api/me").status_code == 200
        assert there.get("/api/me").status_code == 401
    login = {"name": "changer", "password": "another password"}
    assert httpx.post(url + "/api/login", json=login).status_code == 200


def test_guessing_the_old_password_of_an_open_session_is_throttled(url, admin):
    admin.post("/api/users", json={"name": "open", "password": PASSWORD})
    with client(url, "open") as session:
        body = {"old": "wrong wrong", "new": "another password"}
        answers = [session.post("/api/password", json=body).status_code for _ in range(7)]
    assert answers == [403] * 5 + [429] * 2


def test_acts_of_admins_are_in_the_log(admin):
    admin.post("/api/users", json={"name": "logged", "password": PASSWORD})
    body = {"name": "logged", "comparisons": [to_json(c) for c in comparisons(1)]}
    admin.post("/api/campaigns", json=body)
    admin.post("/api/tokens", json={"name": "logged"})
    assert admin.get("/api/campaigns/logged/export").status_code == 200
    latest = admin.get("/api/audit", params={"limit": 4}).json()
    assert [(entry["user"], entry["action"]) for entry in latest] == [
        ("admin", "export"),
        ("admin", "make token"),
        ("admin", "add tasks"),
        ("admin", "add users"),
    ]
    assert latest[2]["detail"] == {"campaign": "logged", "added": 1, "duplicates": 0}
    assert PASSWORD not in admin.get("/api/audit", params={"limit": 1000}).text


def run(monkeypatch, *arguments: str, typed: str = "") -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    return main([*arguments])


def test_the_command_line_makes_tokens_invitations_and_passwords(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    add = ("add-user", "ann", "--role", "adjudicator", "--password-stdin")
    assert run(monkeypatch, *add, typed=PASSWORD) == 0
    assert "adjudicator ann added" in capsys.readouterr().out
    assert run(monkeypatch, "token", "ann") == 0
    token = capsys.readouterr().out.strip()
    assert run(monkeypatch, "invite", "--role", "guest", "--uses", "2", "--days", "1") == 0
    link = capsys.readouterr().out.strip()
    other = ("password", "ann", "--password-stdin")
    assert run(monkeypatch, *other, typed="another password") == 0
    from contextlib import closing

    from labeling_ui.accounts.invitations import Invitations
    from labeling_ui.accounts.tokens import Tokens
    from labeling_ui.db.store import Store
    from tests.labeling import cheap_accounts

    with closing(Store(tmp_path / "label.db")) as store:
        accounts = cheap_accounts(store)
        tokens, invitations = Tokens(store, accounts), Invitations(store, accounts)
        ann = tokens.owner(token)
        assert ann is not None
        assert ann == accounts.sign_in("ann", "another password", "here")
        assert invitations.accept(link.removeprefix("/join#"), "gus", PASSWORD).role == "guest"
        assert run(monkeypatch, "token", "ann", "--revoke") == 0
        assert tokens.owner(token) is None
    assert run(monkeypatch, "token", "nobody") == 1
    assert capsys.readouterr().err == "rlhf label: there is no user 'nobody'\n"


DESK = "/api/campaigns/desks"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "next", None),
        ("GET", "history", None),
        ("POST", "votes", {"assignment": 1, "choice": "left", "key": "key-00000001"}),
        ("POST", "undo", {}),
        ("POST", "beat/1", None),
        ("POST", "flags", {"assignment": 1, "kind": "other"}),
    ],
)
def test_a_rater_has_no_place_at_the_desk_of_an_adjudicator(url, method, path, body):
    with client(url, "ann") as ann, client(url, "judy") as judy:
        for place, session, refused in (
            ("adjudicate", ann, True),
            ("rate", ann, False),
            ("adjudicate", judy, False),
        ):
            answer = session.request(method, f"{DESK}/{path}", params={"desk": place}, json=body)
            assert (answer.status_code == 403) == refused, answer.text
        assert ann.get(f"{DESK}/next", params={"desk": "other"}).status_code == 422


def test_only_an_adjudicator_learns_what_others_said(url, admin):
    asked = {"name": "contest", "comparisons": [to_json(one) for one in comparisons(1)]}
    admin.post("/api/campaigns", json={**asked, "settings": {"overlap": 2}})
    place = "/api/campaigns/contest"
    with client(url, "ann") as ann, client(url, "bob") as bob, client(url, "judy") as judy:
        for session, choice in ((ann, "tie"), (bob, "both_bad")):
            item = session.get(f"{place}/next").json()["item"]
            vote = {"assignment": item["assignment"], "choice": choice, "key": "k" * 8}
            assert session.post(f"{place}/votes", json=vote | {"reason": "so"}).is_success
        seen = {one["name"]: one.get("contested") for one in judy.get("/api/campaigns").json()}
        assert seen["contest"] == 1
        assert all("contested" not in one for one in ann.get("/api/campaigns").json())
        told = judy.get(f"{place}/next", params={"desk": "adjudicate"}).text
        assert '"tie"' in told
        assert "ann" not in told
        assert "secretive" not in told
        vote["assignment"] = judy.get(f"{place}/next", params={"desk": "adjudicate"}).json()[
            "item"
        ]["assignment"]
        assert judy.post(f"{place}/votes", json=vote).status_code == 404
        done = judy.post(f"{place}/votes", params={"desk": "adjudicate"}, json=vote).json()
        assert done["item"] is None
