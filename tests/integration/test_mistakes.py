"""Every mistake that a user can make is one sentence, exit 1, and leaves no run folder behind."""

import errno
import json
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from labeling_ui.__main__ import main as label
from labeling_ui.db.store import Store
from rlhf import cli
from rlhf.config import load_stage, to_dict
from rlhf.runs import open_run
from tests import tiny

pytestmark = pytest.mark.integration

Mistake = Callable[..., str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """Data, a config per stage, and a finished SFT and reward run on a base of their own."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(base, home / "base")
    tiny.write_demonstrations(home / "demonstrations.jsonl")
    tiny.write_preferences(home / "preferences.jsonl")
    few = {"max_steps": 1, "per_device_train_batch_size": 4, "logging_steps": 1}
    model = {"base": str(home / "base"), "lora": {"rank": 2}}
    preferences = {"train": [{"path": str(home / "preferences.jsonl")}], "max_length": 256}
    demonstrations = {"train": [{"path": str(home / "demonstrations.jsonl")}], "max_length": 256}
    sizes = {"rollout_batch_size": 8, "num_mini_batches": 1, "num_rollouts": 1}
    sft, reward = str(home / "runs/sft"), str(home / "runs/reward")
    configs = {
        "sft": {"data": demonstrations, "model": model, **few},
        "reward": {"data": preferences, "sft": sft, **few},
        "dpo": {"data": preferences, "sft": sft, **few},
        "ppo": {
            "data": preferences,
            "policy": sft,
            "reward": reward,
            "per_device_train_batch_size": 4,
            "max_new_tokens": 8,
            **sizes,
        },
    }
    for stage, config in configs.items():
        out = {"out": str(home / "runs" / stage)}
        (home / f"{stage}.yaml").write_text(yaml.safe_dump(out | config))
    for stage in ("sft", "reward"):
        assert cli.main([stage, str(home / f"{stage}.yaml")]) == 0
    return home


@pytest.fixture
def mistake(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Mistake:
    """``mistake("sft", "seed=x")``: what is said; the rest of the promise is checked here."""

    def said(stage: str, *overrides: str) -> str:
        out = tmp_path / "runs" / "new"
        arguments = [stage, str(home / f"{stage}.yaml"), f"out={out}", *overrides]
        capsys.readouterr()
        assert cli.main(arguments) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        [line] = [one for one in captured.err.splitlines() if one.startswith("rlhf ")]
        assert captured.err.endswith(line + "\n"), "nothing comes after it"
        assert list((tmp_path / "runs").glob("*")) == []
        return line

    return said


def rows(tmp_path: Path, source: Path, change: Callable[[int, dict], dict | str]) -> str:
    """A copy of ``source`` with every line changed; as an override of the training data."""
    path = tmp_path / "changed.jsonl"
    lines = [change(i, json.loads(t)) for i, t in enumerate(source.read_text().splitlines(), 1)]
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return f"data.train.0.path={path}"


def test_a_finished_stage_prints_its_folder_and_nothing_else_on_stdout(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["sft", str(home / "sft.yaml"), f"out={tmp_path / 'new'}"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'new'}\n"
    assert captured.err.startswith("sft on ")
    assert "sft finished in " in captured.err
    assert "; loss " in captured.err
    assert " MiB ram" in captured.err
    assert open_run(tmp_path / "new", "sft").card.exists()


def test_an_unknown_key(mistake: Mistake):
    assert "did you mean `learning_rate`?" in mistake("sft", "lerning_rate=1")


def test_a_value_of_the_wrong_type(mistake: Mistake):
    assert "`seed`" in mistake("sft", "seed=often")


def test_an_unknown_key_of_the_trainer(mistake: Mistake):
    assert "did you mean `adam_beta1`" in mistake("sft", "trainer.adam_beta_1=0.9")


def test_a_missing_config(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert cli.main(["sft", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml: cannot be read" in capsys.readouterr().err


def test_a_missing_file(mistake: Mistake):
    assert "nowhere.jsonl" in mistake("sft", "data.train.0.path=nowhere.jsonl")


def test_bad_json_on_line_7(mistake: Mistake, home: Path, tmp_path: Path):
    override = rows(
        tmp_path, home / "demonstrations.jsonl", lambda i, row: "{oops" if i == 7 else row
    )
    assert "changed.jsonl:7: " in mistake("sft", override)


def test_a_missing_field(mistake: Mistake, home: Path, tmp_path: Path):
    def without(i: int, row: dict) -> dict:
        return {k: v for k, v in row.items() if k != "rejected"} if i == 3 else row

    said = mistake("reward", rows(tmp_path, home / "preferences.jsonl", without))
    assert "changed.jsonl:3: " in said
    assert "rejected" in said


def test_an_empty_file(mistake: Mistake, tmp_path: Path):
    (tmp_path / "empty.jsonl").touch()
    assert "empty.jsonl" in mistake("sft", f"data.train.0.path={tmp_path / 'empty.jsonl'}")


@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_chosen_and_rejected_the_same_everywhere(
    mistake: Mistake, home: Path, tmp_path: Path, stage: str
):
    override = rows(
        tmp_path, home / "preferences.jsonl", lambda _, row: row | {"rejected": row["chosen"]}
    )
    said = mistake(stage, override)
    assert "chosen" in said
    assert "rejected" in said


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo"])
def test_every_row_too_long(mistake: Mistake, stage: str):
    assert "max_length" in mistake(stage, "data.max_length=9")


def test_more_rows_too_long_than_allowed(mistake: Mistake, home: Path, tmp_path: Path):
    def longer(i: int, row: dict) -> dict:
        return row | {"chosen": "long " * 400} if i % 4 == 0 else row

    override = rows(tmp_path, home / "preferences.jsonl", longer)
    assert "max_dropped" in mistake("dpo", override)


@pytest.mark.parametrize("name", ["nobody/knows-this", "./not/here"])
def test_an_unknown_base(mistake: Mistake, name: str):
    assert name in mistake("sft", f"model.base={name}")


def test_a_base_that_is_no_folder_and_cannot_be_a_name(mistake: Mistake):
    assert "a/b/c: no model that can be loaded (there is no such folder)" in mistake(
        "sft", "model.base=a/b/c"
    )


def test_an_architecture_that_there_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = Path(__file__).parents[2] / "configs/demo/pretrain.yaml"
    out = tmp_path / "new"
    wrong = "architecture.model_type=lama"
    assert cli.main(["pretrain", str(config), wrong, f"out={out}"]) == 1
    [line] = [one for one in capsys.readouterr().err.splitlines() if one.startswith("rlhf ")]
    assert "model_type: llama" in line
    assert len(line) < 300
    assert not out.exists()


def test_an_adapter_of_another_base(
    mistake: Mistake, home: Path, make_base: Callable[..., Path], tmp_path: Path
):
    kept = tmp_path / "kept"
    shutil.move(home / "base", kept)
    try:
        shutil.copytree(make_base("llama", seed=1), home / "base")
        said = mistake("dpo")
    finally:
        shutil.rmtree(home / "base")
        shutil.move(kept, home / "base")
    assert "base" in said
    assert "sft" in said


def test_a_reward_run_where_a_policy_run_is_needed(mistake: Mistake, home: Path):
    said = mistake("ppo", f"policy={home / 'runs/reward'}")
    assert "is a reward run; a policy run (sft, dpo, kto, ppo, " in said


def test_a_policy_run_where_a_reward_run_is_needed(mistake: Mistake, home: Path):
    said = mistake("ppo", f"reward={home / 'runs/sft'}")
    assert "is an sft run; a reward run is needed here" in said


def test_a_run_that_is_not_there(mistake: Mistake):
    assert "no such run" in mistake("dpo", "sft=runs/nowhere")


def test_a_full_disk(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rlhf.stages.sft.save_trained", full)
    monkeypatch.setattr("rlhf.training.trainer.save_file", full)
    assert "the disk is full" in mistake("sft")


def interrupt(*_args: object, **_kwargs: object) -> None:
    raise KeyboardInterrupt


def test_an_interruption_before_the_first_checkpoint_says_that_nothing_was_kept(
    mistake: Mistake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("rlhf.stages.sft.train", interrupt)
    assert "before the first checkpoint; nothing was kept" in mistake("sft")


def test_an_interruption_after_a_checkpoint_says_how_to_go_on_and_that_works(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    arguments = ["sft", str(home / "sft.yaml"), f"out={tmp_path / 'new'}"]
    with monkeypatch.context() as patched:
        patched.setattr("rlhf.stages.sft.save_trained", interrupt)
        assert cli.main(arguments) == 1
    said = capsys.readouterr()
    [command] = re.findall(r"go on with `rlhf (.*)`\n$", said.err)
    assert shlex.split(command) == [*arguments, "--resume"]
    assert said.out == ""
    assert cli.main(arguments) == 1
    assert "is unfinished; finish it with" in capsys.readouterr().err
    assert cli.main(shlex.split(command)) == 0
    assert open_run(tmp_path / "new").facts["resumed"] == ["checkpoint-1"]


def test_a_run_without_a_yaml_is_named_by_the_date_resolved_and_resumed_by_what_is_printed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "sft",
        f"model.base={home / 'base'}",
        f"data.train={home / 'demonstrations.jsonl'}",
    ]
    with monkeypatch.context() as patched:
        patched.setattr("rlhf.stages.sft.save_trained", interrupt)
        assert cli.main([*arguments, "data.max_length=256"]) == 1
    [command] = re.findall(r"go on with `rlhf (.*)`\n$", capsys.readouterr().err)
    assert cli.main(shlex.split(command)) == 0
    folder = capsys.readouterr().out.strip()
    assert re.fullmatch(r"runs/sft-\d{8}-\d{6}", folder)
    config = open_run(folder).config
    assert config["out"] == folder
    assert config == to_dict(load_stage("sft", Path(folder) / "config.yaml"))
    assert config["data"]["train"][0]["format"] == "auto"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [Path(folder).name]


def test_a_folder_that_cannot_be_written(mistake: Mistake, tmp_path: Path):
    (tmp_path / "file").touch()
    said = mistake("sft", f"out={tmp_path / 'file' / 'new'}")
    assert "not writable" in said
    assert "choose another out=" in said


def test_a_run_that_is_there_already(mistake: Mistake, home: Path):
    before = open_run(home / "runs/sft").facts
    assert "exists already" in mistake("sft", f"out={home / 'runs/sft'}")
    assert open_run(home / "runs/sft").facts == before


def new_database(path: Path) -> Path:
    file = path.with_suffix(".jsonl")
    file.write_text(
        '{"prompt": {"messages": [{"role": "user", "content": "?"}]},'
        ' "response_a": {"text": "a", "policy": "p"}, "response_b": {"text": "b", "policy": "q"}}\n'
    )
    assert label(["import", "c", str(file), "--db", str(path)]) == 0
    return path


def test_a_label_database_that_is_locked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = new_database(tmp_path / "label.db")
    defaults = Store.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "patience", 0.1)
    capsys.readouterr()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert label(["status", "--db", str(path)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "is locked by another program" in line


def test_a_label_database_of_a_newer_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = new_database(tmp_path / "label.db")
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE alembic_version SET version_num = '0999'")
    capsys.readouterr()
    assert label(["status", "--db", str(path)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "newer version of this program (schema 999" in line
