import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from labeling_ui.__main__ import main
from labeling_ui.app import create_app
from labeling_ui.campaigns.answers import Answer, Choice
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.db.store import Store
from rlhf.errors import ConfigError
from rlhf.records import Comparison, Preference, Vote, from_json, to_json
from tests.labeling import PASSWORD, cheap_accounts, client, comparison, comparisons, tasks

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def ann(url):
    with client(url, "ann") as session:
        yield session


@pytest.fixture
def campaign(admin, request):
    """A fresh campaign of three comparisons, and its path."""
    name = "c" + str(abs(hash(request.node.name)) % 10**9)
    body = {
        "name": name,
        "settings": {"overlap": 2},
        "comparisons": [to_json(c) for c in comparisons(3)],
    }
    answer = admin.post("/api/campaigns", json=body)
    assert answer.json() == {"name": name, "added": 3, "duplicates": 0}
    return f"/api/campaigns/{name}"


def answer_to(item, choice="left", key="key-0000000", **extra):
    return {"assignment": item["assignment"], "choice": choice, "key": key, **extra}


def test_the_server_says_that_it_is_well(url):
    assert httpx.get(url + "/healthz").json() == {"ok": True}


def test_signing_in_sets_a_cookie_that_scripts_cannot_read(url):
    answer = httpx.post(url + "/api/login", json={"name": "ann", "password": PASSWORD})
    assert answer.json() == {"name": "ann", "role": "rater"}
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


def test_a_wrong_password_is_401_and_guessing_is_429(url):
    wrong = {"name": "ghost", "password": "wrong wrong"}
    answers = [httpx.post(url + "/api/login", json=wrong) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_signing_out_forgets_the_session(url):
    with client(url, "bob") as bob:
        assert bob.get("/api/me").json() == {"name": "bob", "role": "rater"}
        bob.post("/api/logout")
        assert bob.get("/api/me").status_code == 401


def test_an_admin_adds_users_once(admin, url):
    body = {"name": "new rater", "password": PASSWORD, "role": "rater"}
    assert admin.post("/api/users", json=body).status_code == 201
    again = admin.post("/api/users", json=body)
    assert (again.status_code, again.json()) == (
        409,
        {"detail": "user 'new rater' exists already"},
    )
    german = admin.post("/api/users", json=body, headers={"Accept-Language": "de-CH, en;q=0.5"})
    assert german.json() == {"detail": "den Namen 'new rater' gibt es schon"}
    with client(url, "new rater"):
        pass


def test_the_next_item_comes_with_the_vote_and_replays_are_harmless(ann, campaign):
    first = ann.get(campaign + "/next").json()
    assert first["progress"] == {"done": 0, "total": 3}
    item = first["item"]
    assert set(item) == {"assignment", "messages", "responses"}
    assert item["messages"][1] == {"role": "assistant", "content": "Which street?"}
    replies = [ann.post(campaign + "/votes", json=answer_to(item)) for _ in range(2)]
    assert replies[0].json() == replies[1].json()
    voted = replies[0].json()
    assert voted["progress"] == {"done": 1, "total": 3}
    assert voted["item"] == ann.get(campaign + "/next").json()["item"] != item
    clash = ann.post(campaign + "/votes", json=answer_to(item, "tie", "key-another"))
    assert clash.status_code == 409
    undone = ann.post(campaign + "/undo").json()
    assert undone == {"item": item, "progress": {"done": 0, "total": 3}, "notice": ""}
    assert ann.post(campaign + "/undo").status_code == 409


def test_calling_again_with_the_same_name_adds_more(admin, campaign):
    name = campaign.rsplit("/", 1)[1]
    more = [to_json(comparison(number)) for number in (2, 3)]
    body = {"name": name, "settings": {"overlap": 2}, "comparisons": more}
    assert admin.post("/api/campaigns", json=body).json() == {
        "name": name,
        "added": 1,
        "duplicates": 1,
    }


def test_a_bad_comparison_is_named_and_nothing_is_added(admin, ann):
    good = to_json(comparison(0))
    body = {
        "name": "never",
        "settings": {"overlap": 1},
        "comparisons": [good, {**good, "prompt": 7}],
    }
    answer = admin.post("/api/campaigns", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("comparisons[1]: ")
    assert "never" not in ann.get("/api/campaigns").text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('"response_b": {"text": "y", "policy": "\\ud800"}', "lone surrogates"),
        ('"metadata": ' + '{"a":' * 900 + "1" + "}" * 900, "is nested more than 50 deep"),
        ('"prompt": {"messages": []}', "a prompt has one message at least"),
    ],
)
def test_what_no_rater_could_be_shown_is_refused_in_a_sentence(admin, ann, wrong, said):
    good = {key: value for key, value in to_json(comparison(0)).items() if key != "id"}
    row = f"{json.dumps(good)[:-1]}, {wrong}}}"  # what comes later holds
    body = f'{{"name": "never", "comparisons": [{row}]}}'
    answer = admin.post(
        "/api/campaigns", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, said in answer.json()["detail"]) == (422, True)
    assert "never" not in ann.get("/api/campaigns").text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"name": "x", "password": "\\ud800"}', "password"),
        (b'{"name": "\\ud800", "password": "x"}', "name: text must not contain"),
        (b'{"name": "x"}', "password: Field required"),
        (b'{"name": "x", "password": "y", "z": 1}', "z: "),
        (b"nonsense", "JSON"),
        (b'{"name": ', "the body is no JSON from character 9 on"),
        (b"", "body: Field required"),
        (b'"x"', "body: Input should be"),
        (b'{"name": "x\\u0000", "password": "y"}', "name: text must not contain"),
        (
            b'{"name": "%b", "password": "y"}' % (b"x" * 201),
            "name: String should have at most 200 char",
        ),
    ],
)
def test_a_bad_body_is_refused_in_a_sentence_without_echo(url, content, said):
    answer = httpx.post(
        url + "/api/login", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert said in detail
    assert detail[0] != ":"
    assert "Value error" not in detail


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://a]b", "null", ""])
def test_an_origin_that_is_none_is_another_site(url, origin):
    answer = httpx.post(url + "/api/logout", headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json() == {"detail": "this request comes from another site"}


def test_status_and_export_are_what_was_voted(url, admin, campaign):
    choices = {"ann": ["left", "right", "skip"], "bob": ["left", "both_bad", "tie"]}
    texts: dict[tuple[str, str], str] = {}
    for name, answers in choices.items():
        with client(url, name) as session:
            for number, choice in enumerate(answers):
                item = session.get(campaign + "/next").json()["item"]
                body = answer_to(item, choice, f"{name}-{campaign[-9:]}-{number}".replace("/", "-"))
                assert session.post(campaign + "/votes", json=body).status_code == 200
                left, right = item["responses"]
                shown = {"left": left, "right": right}.get(choice, choice)
                texts[name, item["messages"][0]["content"]] = shown
    status = admin.get(campaign + "/status").json()
    assert {key: status[key] for key in ("comparisons", "votes", "complete", "skips")} == {
        "comparisons": 3,
        "votes": 5,
        "complete": 2,
        "skips": 1,
    }
    assert status["raters"] == [
        {"name": "ann", "votes": 2, "skips": 1},
        {"name": "bob", "votes": 3, "skips": 0},
    ]
    exported = admin.get(campaign + "/export").json()
    asked = {c.id: c for c in (from_json(Comparison, row) for row in exported["comparisons"])}
    held = {}
    for vote in (from_json(Vote, row) for row in exported["votes"]):
        c = asked[vote.comparison]
        meaning = {"a": c.response_a.text, "b": c.response_b.text}
        content = c.prompt.messages[0].content
        held[vote.rater, content] = meaning.get(vote.outcome, vote.outcome)
    assert held == texts
    for row in exported["preferences"]:
        from_json(Preference, row)
    assert len(exported["preferences"]) + len(exported["ties"]) == 3


def test_nothing_that_a_rater_receives_names_a_policy_or_a_side(url, campaign):
    with client(url, "ann") as session:
        pages = ("/rate/", "/rate/config", "/rate/gradio_api/info", "/api/campaigns", "/api/me")
        received = [session.get(path) for path in pages]
        for number in range(3):
            received.append(session.get(campaign + "/next?html=true"))
            body = answer_to(received[-1].json()["item"], "left", f"blind-key-{number}")
            received.append(session.post(campaign + "/votes?html=true", json=body))
            received.append(session.post(campaign + "/undo?html=true"))
            received.append(session.get(campaign + "/next"))
            again = answer_to(received[-1].json()["item"], "right", f"blind-again-{number}")
            received.append(session.post(campaign + "/votes", json=again))
        received.append(session.post(campaign + "/votes", json=answer_to({"assignment": 1})))
        received.append(session.get(campaign + "/export"))
    everything = "".join(str(answer.headers) + answer.text for answer in received)
    assert "arrives on" in everything
    everything = re.sub(r"'[a-z-]+-policy'", "", everything)  # names of headers
    for told in ("secretive", "runs/", "sft", "ppo", "a_side", "policy"):
        assert told not in everything, told


def test_model_text_arrives_rendered_and_exact(ann, campaign):
    item = ann.get(campaign + "/next?html=true").json()["item"]
    sides = dict(zip(item["responses"], item["html"]["responses"], strict=True))
    assert "<p>Parcel 0 arrives on <strong>Monday</strong>.</p>\n" in sides.values()
    assert "Parcel 0 arrives on **Monday**." in sides


def test_another_sites_page_cannot_vote(ann, campaign):
    item = ann.get(campaign + "/next").json()["item"]
    for origin in ("https://elsewhere.example", "null", "http://127.0.0.1:1"):
        answer = ann.post(campaign + "/votes", json=answer_to(item), headers={"Origin": origin})
        assert answer.status_code == 403
    own = {"Origin": str(ann.base_url).rstrip("/")}
    key = "own-origin-" + str(item["assignment"])
    assert (
        ann.post(campaign + "/votes", json=answer_to(item, key=key), headers=own).status_code == 200
    )


def test_every_answer_forbids_loading_from_elsewhere(url):
    for path in ("/login", "/rate/", "/healthz", "/nowhere"):
        headers = httpx.get(url + path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert httpx.get(url + "/api/me").headers["cache-control"] == "no-store"


def test_raters_at_the_same_time_fill_exactly_the_places_there_are(url, admin):
    body = {
        "name": "race",
        "settings": {"overlap": 3},
        "comparisons": [to_json(c) for c in comparisons(20)],
    }
    admin.post("/api/campaigns", json=body)
    for number in range(6):
        rater = {"name": f"racer {number}", "password": PASSWORD, "role": "rater"}
        assert admin.post("/api/users", json=rater).status_code == 201
    failures = []

    def work(number: int) -> None:
        with client(url, f"racer {number}") as session:
            turn = session.get("/api/campaigns/race/next").json()
            while item := turn["item"]:
                vote = answer_to(item, "left", f"racer-{number}-{item['assignment']}")
                first, twice = (
                    session.post("/api/campaigns/race/votes", json=vote).json() for _ in range(2)
                )
                if first["saved"] != twice["saved"]:
                    failures.append((first, twice))
                turn = twice

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    votes = admin.get("/api/campaigns/race/export").json()["votes"]
    assert len(votes) == 60
    assert len({(vote["comparison"], vote["rater"]) for vote in votes}) == 60
    assert admin.get("/api/campaigns/race/status").json()["complete"] == 20


@pytest.mark.parametrize("variable", ["GRADIO_SHARE", "GRADIO_VIBE_MODE"])
def test_a_server_that_would_open_itself_to_others_does_not_start(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    store = Store(tmp_path / "label.db")
    with pytest.raises(ConfigError, match=variable):
        create_app(store, cheap_accounts(store))
    store.close()


# The command line, in this process and in a process that is killed.


def run(*arguments: str) -> int:
    return main([*arguments])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    return tmp_path


def write_comparisons(path, count=3):
    import json

    path.write_text("".join(json.dumps(to_json(c)) + "\n" for c in comparisons(count)))


def test_from_import_to_export_on_the_command_line(folder, monkeypatch, capsys):
    import io

    write_comparisons(folder / "c.jsonl")
    (folder / "g.md").write_text("Be fair.")
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    assert run("add-user", "ann", "--admin", "--password-stdin") == 0
    assert run("import", "one", "c.jsonl", "--overlap", "2", "--guidelines", "g.md") == 0
    assert run("status") == 0
    said = capsys.readouterr()
    assert "admin ann added to label.db" in said.out
    assert "one: 3 tasks added, 0 known already" in said.out
    assert "one: 0 of 3 comparisons complete (overlap 2), 0 votes" in said.out
    assert said.err == ""
    assert run("export", "one", "out") == 1
    assert capsys.readouterr().err == (
        "rlhf label: campaign 'one' has no votes yet; there is nothing to export\n"
    )


def test_what_the_command_line_exports_is_a_dataset(folder, monkeypatch, capsys):
    store = Store(folder / "label.db")
    ann = cheap_accounts(store).add("ann", PASSWORD, "rater").id
    campaigns = Campaigns(store)
    campaigns.add("one", tasks(2))
    choices: list[tuple[str, Choice]] = [("1", "left"), ("2", "tie")]
    for key, choice in choices:
        item = campaigns.next("one", ann).item
        assert item is not None
        campaigns.submit("one", ann, Answer(item.assignment, choice, key))
    store.close()
    assert run("export", "one", "out") == 0
    assert capsys.readouterr().out == "out: 2 comparisons, 2 votes, 1 preferences, 1 ties\n"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    parts = ("preferences", "votes", "ties")
    read = {
        part: datasets.load_dataset(str(folder / "out"), part, cache_dir=str(folder / "cache"))
        for part in parts
    }
    assert [len(read[part]["train"]) for part in parts] == [1, 2, 1]
    unasked = datasets.load_dataset(str(folder / "out"), cache_dir=str(folder / "cache"))
    first = comparison(0)
    assert {unasked["train"]["chosen"][0], unasked["train"]["rejected"][0]} == {
        first.response_a.text,
        first.response_b.text,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"c\.jsonl: cannot be read \(No such file or directory\)"),
        ("", r"c\.jsonl: holds no task"),
        ("\n\n{bad\n", r"c\.jsonl:3: no comparison or task"),
        ('{"prompt": {"messages": []}}\n', r"c\.jsonl:1: no comparison or task .*response_a"),
        ("[1]\n", r"c\.jsonl:1: no comparison or task"),
        (b"\xff\xfe", r"c\.jsonl: is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(folder, capsys, content, said):
    if isinstance(content, bytes):
        (folder / "c.jsonl").write_bytes(content)
    elif content is not None:
        (folder / "c.jsonl").write_text(content)
    assert run("import", "one", "c.jsonl") == 1
    error = capsys.readouterr().err
    assert re.fullmatch(rf"rlhf label: {said}.*\n", error), error


def test_looking_at_a_database_that_is_not_there_says_so(folder, capsys):
    assert run("status") == 1
    assert "label.db: no such label database" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("folder")
def test_a_port_that_is_taken_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("serve", "--port", str(port)) == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err


@contextmanager
def served(database, *options):
    """A real server process, as ``rlhf label serve`` starts it; its address and process."""
    command = [sys.executable, "-m", "labeling_ui", "serve", "--db", str(database), "--port", "0"]
    command += options
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def wakes(process) -> int:
    """How often it has gone to sleep of its own will so far."""
    told = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", told, re.MULTILINE)[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc here")
def test_an_idle_server_sleeps(tmp_path):
    with served(tmp_path / "label.db") as (_, process):
        time.sleep(1)
        before = wakes(process)
        time.sleep(2)
        assert wakes(process) - before < 400  # Gradio alone would wake up a thousand times a second


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_has_said_where_it_is_ends_when_it_is_told_to(tmp_path, how):
    """Started as by ``nohup``, from a shell that lets nothing in the background be interrupted."""
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); import runpy; "
    start += "runpy.run_module('labeling_ui', run_name='__main__')"
    command = [sys.executable, "-c", start, "serve", "--db", str(tmp_path / "label.db")]
    with subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            process.send_signal(how)
            assert process.wait(30) == 0
        finally:
            process.kill()
        [told] = process.stderr.read().splitlines()
    assert told.startswith("nobody can sign in yet")
    assert not (tmp_path / "label.db-wal").exists()


def test_a_killed_server_has_lost_nothing_that_it_acknowledged(tmp_path):
    database = tmp_path / "label.db"
    store = Store(database)
    accounts = cheap_accounts(store)
    accounts.add("admin", PASSWORD, "admin")
    accounts.add("ann", PASSWORD, "rater")
    store.close()
    with served(database) as (url, process), client(url, "admin") as admin:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        body = {"name": "one", "comparisons": [to_json(c) for c in comparisons(12)]}
        admin.post("/api/campaigns", json=body)
        with client(url, "ann") as ann:
            item = ann.get("/api/campaigns/one/next").json()["item"]
            vote, answer = {}, {}
            for number in range(8):
                vote = answer_to(item, "left", f"before-{number}")
                answer = ann.post("/api/campaigns/one/votes", json=vote).json()
                item = answer["item"]
            session = dict(ann.cookies)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with served(database) as (url, _):
        # The session outlives the server, and so does what was on the screen.
        with httpx.Client(base_url=url, cookies=session) as ann:
            assert ann.get("/api/campaigns/one/next").json()["item"] == item
            assert ann.post("/api/campaigns/one/votes", json=vote).json() == answer
        with client(url, "admin") as admin:
            votes = admin.get("/api/campaigns/one/export").json()["votes"]
    assert len(votes) == 8


def test_behind_a_proxy_its_word_counts_and_cookies_go_over_tls_only(tmp_path):
    store = Store(tmp_path / "label.db")
    cheap_accounts(store).add("ann", PASSWORD, "rater")
    store.close()
    login = {"name": "ann", "password": PASSWORD}
    with served(tmp_path / "label.db", "--host", "0.0.0.0", "--behind-proxy") as (url, _):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.post(url + "/api/login", json=login).status_code == 400
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
        answer = httpx.post(url + "/api/login", json=login, headers=forwarded)
        assert answer.status_code == 200
        assert "Secure" in answer.headers["set-cookie"]
        assert "server" not in answer.headers
        wrong = {**login, "password": "wrong wrong"}
        for address, expected in (("198.51.100.7", 429), ("198.51.100.8", 401)):
            headers = {**forwarded, "X-Forwarded-For": address}
            statuses = [
                httpx.post(url + "/api/login", json=wrong, headers=headers).status_code
                for _ in range(6 if expected == 429 else 1)
            ]
            assert statuses[-1] == expected  # it is the address behind the proxy that waits
