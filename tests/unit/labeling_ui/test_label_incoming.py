"""What the command line imports from other tools, and what it says about the rest."""

import json
from contextlib import closing

import pytest

from labeling_ui.__main__ import main
from labeling_ui.campaigns.setup import find_campaign
from labeling_ui.db.store import Store
from labeling_ui.results.answers import tasks_of
from rlhf.records import to_json
from tests.labeling import comparison
from tests.unit.data.test_foreign import ITEMS, NESTED, ORDER, PAIRWISE, annotation, battle


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLHF_LABEL_DB", raising=False)
    return tmp_path


def bring(folder, rows, *options: str) -> int:
    (folder / "x.json").write_text(json.dumps(rows))
    return main(["import", "one", "x.json", *options])


def held() -> list[list[tuple[str, str]]]:
    """The responses of every task with their policies."""
    with closing(Store("label.db", create=False)) as store, store.read() as session:
        tasks = tasks_of(session, find_campaign(session, "one")).values()
        return [[(r.text, r.policy) for r in task.responses] for task in tasks]


def test_battles_become_tasks_and_those_of_no_use_are_counted(folder, capsys):
    rows = [battle("tie"), battle("tie", a=""), battle("tie", a="I am koala-13b.")]
    assert bring(folder, [*rows, battle("model_b", judge="another")], "--from", "arena") == 0
    assert capsys.readouterr().out.splitlines() == [
        "one: 1 tasks added, 1 known already",
        "left out: 1 empty answer, 1 names a model",
        "2 votes in it are not this campaign's; stages train on the file itself",
    ]
    assert held() == [[("Paris.", "chatglm-6b"), ("Lyon.", "koala-13b")]]


def test_pairs_of_label_studio_and_argilla_become_tasks(folder):
    assert bring(folder, [PAIRWISE], "--from", "label-studio") == 0
    assert bring(folder, [NESTED], "--from", "argilla") == 0
    # the same comparison, whoever kept it
    assert held() == [[("Paris.", ""), ("Lyon.", "")]]


def test_a_ranker_task_needs_a_campaign_that_ranks(folder, capsys):
    task = {"id": 1, "data": {"prompt": "?", "items": ITEMS},
            "annotations": [annotation({"ranker": ORDER}, "ranker")]}  # fmt: skip
    assert bring(folder, [task], "--from", "label-studio") == 1
    assert "a task of kind pairwise has 2 responses, not 3" in capsys.readouterr().err
    assert bring(folder, [task], "--from", "label-studio", "--set", "kind=ranking") == 0
    assert [len(responses) for responses in held()] == [3]


def test_columns_are_named_by_options(folder, capsys):
    rows = [{"fields": {"q": "?", "one": "x", "two": "y"}, "responses": {}}]
    assert bring(folder, rows, "--from", "argilla") == 1
    assert "x.json, row 1: no responses among `q`, `one`, `two`" in capsys.readouterr().err
    names = ["--names", "prompt=q", "responses=two,one"]
    assert bring(folder, rows, "--from", "argilla", *names) == 0
    assert held() == [[("y", ""), ("x", "")]]
    assert bring(folder, rows, "--from", "argilla", "--names", "title=q") == 1
    assert "--names: 'title=q' is not one of prompt, responses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "tool"), [(battle("tie"), "arena"), (NESTED, "argilla"), (PAIRWISE, "label-studio")]
)
def test_a_file_of_another_tool_is_recognised_in_the_refusal(folder, capsys, row, tool):
    assert bring(folder, [row]) == 1
    error = capsys.readouterr().err
    assert error == (
        f"rlhf label: x.json:1: no comparison or task; the file looks like {tool}'s: "
        f"add --from {tool}\n"
    )
    assert bring(folder, [to_json(comparison(1))], "--from", tool) == 1
    assert f"x.json, row 1: not written by {tool} (there is" in capsys.readouterr().err


def test_a_file_without_anything_of_use_is_refused(folder, capsys):
    assert bring(folder, [battle("tie", a="")], "--from", "arena") == 1
    assert "holds no task (left out: 1 empty answer)" in capsys.readouterr().err
    assert not (folder / "label.db").exists()
