"""What can be wrong on the command line of the labelling app is one sentence, and exit 1."""

import io
import json
import sys
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import make_url

from labeling_ui.__main__ import main
from labeling_ui.accounts.sessions import session_secret
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Task
from labeling_ui.db.store import Store, StoreError
from labeling_ui.maintenance.backup import copy_to_file
from rlhf.errors import ConfigError, DataError
from rlhf.records import Comparison, Message, Prompt, Response, from_json, to_json
from tests.labeling import cheap_accounts, comparison, tasks


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where commands run; it holds a file of one comparison."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLHF_LABEL_DB", raising=False)
    (tmp_path / "one.jsonl").write_text(json.dumps(to_json(comparison(1))))
    return tmp_path


@pytest.fixture
def said(folder, capsys):  # noqa: ARG001 - it runs there
    """What a command that must fail says."""

    def run(*arguments: str) -> str:
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        [line] = captured.err.splitlines()
        assert line.startswith("rlhf label: ")
        return line

    return run


@pytest.mark.parametrize(
    "pair", ["aspects=[a", "overlap=: :", "overlap=2026-13-45", "ties=" + "[" * 5000]
)
def test_a_rule_that_is_not_yaml(folder, said, pair):
    assert f"--set: {pair!r} holds no YAML; write it as in" in said(
        "import", "c", "one.jsonl", "--set", pair
    )
    assert not (folder / "label.db").exists()


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("overlap=0", "`overlap`: input should be greater than or equal to 1, not 0"),
        ("kind=pairs", "`kind`: input should be 'pairwise', 'ranking', 'rating', 'thumbs' or"),
        ("strengh=yes", "unknown key `strengh`; did you mean `strength`?"),
    ],
)
def test_a_rule_that_there_is_not(folder, said, pair, told):
    assert f"--set: {told}" in said("import", "c", "one.jsonl", "--set", pair)
    assert not (folder / "label.db").exists()


def test_a_line_that_is_no_record(folder, said):
    odd = to_json(comparison(1))
    odd["prompt"]["messages"][0]["role"] = "usr"
    (folder / "odd.jsonl").write_text(json.dumps(odd))
    assert (
        "odd.jsonl:1: no comparison or task (`prompt.messages.0.role`: Input should be 'system', "
        "'user', 'assistant' or 'tool'); expected"
    ) in said("import", "c", "odd.jsonl")


@pytest.mark.parametrize("port", ["99999", "65536", "-1"])
def test_a_port_that_there_is_not(said, port):
    assert f"--port: {port} is no port; name one from" in said("serve", "--port", port)


@pytest.mark.parametrize("host", ["ä..b", "a..b"])
def test_a_host_that_is_no_name(said, host):
    assert f"--host: {host!r} is no name or address" in said(
        "serve", "--host", host, "--insecure-http"
    )


def test_a_secret_that_is_no_file_of_text(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\).*--secret-file"):
        session_secret(tmp_path / "label.db", tmp_path)
    (tmp_path / "secret").write_bytes(b"\xff\xfe" * 20)
    (tmp_path / "secret").chmod(0o600)
    with pytest.raises(ConfigError, match=r"secret: .* is not UTF-8 text; .*--secret-file"):
        session_secret(tmp_path / "label.db", tmp_path / "secret")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("postgresql://u:hush@nohost.invalid/x", "is at no known host; check the address"),
        ("postgresql://u:hush@127.0.0.1:1/x", "does not answer; check the address"),
        ("postgresql://u:hush@h:abc/x", "--db: is no address of a database; write postgresql://"),
        ("postgresql://u:hush@127.0.0.1:99999/x", "cannot be opened (connection is bad: invalid"),
        (
            "postgresql://u:hush@127.0.0.1:1/x?y=z",
            'cannot be opened (invalid connection option "y"',
        ),
    ],
)
def test_an_address_of_a_database_that_is_wrong(said, address, sentence):
    line = said("doctor", "--db", address)
    assert sentence in line
    assert "hush" not in line


def test_a_database_that_postgresql_does_not_have(postgresql):
    there = make_url(postgresql.fresh()).set(database="nowhere")
    with pytest.raises(StoreError, match="is not there; make it with `createdb`"):
        Store(there.render_as_string(hide_password=False))


@pytest.mark.parametrize("given", [b"", b"passw\xff\xfeord1\n"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_password_that_cannot_be_read(said, monkeypatch, given, errors):
    stdin = io.TextIOWrapper(io.BytesIO(given), encoding="utf-8", errors=errors)
    monkeypatch.setattr(sys, "stdin", stdin)

    def ask(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", ask)
    options = ["--password-stdin"] if given else []
    assert "no password was given; type one, or pipe it in" in said("add-user", "ann", *options)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"prompt": ' + '{"a":' * 900 + "1" + "}" * 901])
def test_a_line_that_is_nested_too_deep(folder, said, line):
    (folder / "deep.jsonl").write_text("\n" + line)
    sentence = said("import", "c", "deep.jsonl")
    assert "deep.jsonl:2: " in sentence
    assert "is nested more than 50 deep; flatten its metadata" in sentence


def test_metadata_is_kept_up_to_a_depth_that_everything_can_copy(store):
    def nested(depth: int) -> dict[str, Any]:
        value: Any = 1
        for _ in range(depth):
            value = {"a": [value]}
        return to_json(comparison(1)) | {"metadata": value}

    Campaigns(store).add("one", [task := Task.from_json(nested(24))])
    assert Task.from_text(task.to_text()) == task
    for depth in (25, 400):
        with pytest.raises(ValueError, match="is nested more than 50 deep"):
            Task.from_json(nested(depth))


def test_a_policy_that_no_file_can_hold(folder, said):
    row = to_json(comparison(1)) | {"response_b": {"text": "y", "policy": "\ud800"}}
    del row["id"]
    with pytest.raises(ValueError, match=r"response_b.policy\s.*lone surrogates"):
        from_json(Comparison, row)
    (folder / "odd.jsonl").write_text(json.dumps(row))
    line = said("import", "c", "odd.jsonl")
    assert "odd.jsonl:1: no comparison or task" in line
    assert "policy" in line
    assert "lone surrogates" in line


def test_a_prompt_without_a_message(store):
    empty = Task(Prompt(()), (Response("x", "a"), Response("y", "b")))
    with pytest.raises(DataError, match="task 1: a prompt has one message at least"):
        Campaigns(store).add("one", [*tasks(1), empty])
    assert Campaigns(store).names() == []


def test_a_prompt_of_which_raters_would_not_see_all(store):
    thoughtful = Prompt((Message("assistant", "x", thinking="hm"), Message("user", "y")))
    task = Task(thoughtful, (Response("x", "a"), Response("y", "b")))
    with pytest.raises(DataError, match="task 0: a prompt holds thoughts, calls of tools or"):
        Campaigns(store).add("one", [task])


def test_a_restore_that_fails_leaves_nothing(folder, said):
    (folder / "empty.db").touch()
    with closing(Store(folder / "label.db")) as store:
        cheap_accounts(store).add("ann", "correct horse", "rater")
        copy_to_file(store, folder / "good.db")
    (folder / "cut.db").write_bytes((folder / "good.db").read_bytes()[:40_000])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for wrong, sentence in {
        "nothing.db": "nothing.db: no such backup",
        "empty.db": "empty.db: no such backup, or an empty one",
        "one.jsonl": "one.jsonl: is not a label database",
        "cut.db": "cut.db: is damaged",
    }.items():
        assert sentence in said("restore", wrong, "--db", "new.db")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "label.db: holds something already" in said("restore", "good.db", "--db", "label.db")
    assert main(["restore", "good.db", "--db", "new.db"]) == 0
    assert {path.name for path in folder.iterdir()} == {*before, "new.db"}
    with closing(Store(folder / "new.db", create=False)) as store:
        assert cheap_accounts(store).count() == 1


def test_a_backup_that_fails_leaves_nothing(folder, monkeypatch):
    def full(*_: object) -> int:
        raise StoreError("the disk is full")

    monkeypatch.setattr("labeling_ui.maintenance.backup._copy", full)
    with closing(Store(folder / "label.db")) as store, pytest.raises(StoreError):
        copy_to_file(store, folder / "backup.db")
    assert {path.name for path in folder.iterdir()} == {"one.jsonl", "label.db"}
