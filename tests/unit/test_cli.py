"""The command line: quick to help, one line per mistake, results alone on stdout."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf import __version__, cli
from rlhf.config import CONFIG_OF

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def rlhf(*arguments: str, code: str = "import sys; from rlhf.cli import main; sys.exit(main())"):
    """The command line in a new process."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said about a wrong command line; it is one line, and nothing is on stdout."""
    try:
        status = cli.main(arguments)
    except SystemExit as exit_:
        status = exit_.code
    said = capsys.readouterr()
    assert status in (1, 2)
    assert said.out == ""
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1
    return said.err


def test_help_comes_in_under_three_tenths_of_a_second():
    # processor time, which on an idle machine is the time one waits, and here tests run in parallel
    def seconds() -> float:
        before = os.times()
        assert rlhf("--help").returncode == 0
        after = os.times()
        return after.children_user + after.children_system - sum(before[2:4])

    assert min(seconds() for _ in range(3)) < 0.3


@pytest.mark.parametrize("arguments", [["--help"], ["sft", "--help"], ["runs", "nowhere"]])
def test_no_torch_is_imported_where_none_is_needed(arguments: list[str]):
    done = rlhf(
        *arguments,
        code=(
            "import sys\n"
            "from rlhf.cli import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
        ),
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_help_names_every_command_and_teaches_by_example(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    others = ("plan", "new", "evaluate", "compare", "chat", "label", "demo", "doctor", "runs")
    for name in (*CONFIG_OF, *others):
        assert f"\n    {name}" in text
    assert "rlhf sft configs/demo/sft.yaml" in text


@pytest.mark.parametrize("stage", CONFIG_OF)
def test_the_help_of_a_stage_lists_every_key_of_its_config(
    stage: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        cli.main([stage, "--help"])
    text = capsys.readouterr().out
    assert f"rlhf {stage} configs/demo/{stage}.yaml" in text
    assert "runs/STAGE-DATE-TIME if left out" in text
    assert "  data.train.0.path: str (required)" in text
    assert "  data.max_dropped: float = 0.1" in text


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"rlhf {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["stf"], "invalid choice: 'stf'"),
        (["sft", "a.yaml", "b.yaml"], "'b.yaml' is not understood"),
        (["sft", "seed=1", "--resume", "a.yaml", "b"], "'b' is not understood"),
        (["sft", "a.yaml", "--resum"], "'--resum' is not understood; see `rlhf sft --help`"),
        (["sft", "a.yaml", "--resume", "seed"], "'seed' is not understood"),
        (["new", "compare"], "invalid choice: 'compare'"),
        (["doctor", "seed=1"], "'seed=1' is not understood"),
        (["demo", "--seed", "one"], "invalid int value: 'one'"),
        (["runs", "--sort", "beauty"], "invalid choice: 'beauty'"),
        (["demo", "--raters", "cats"], "invalid choice: 'cats'"),
    ],
)
def test_a_command_line_without_sense_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert message in mistake(capsys, *arguments)


def test_overrides_may_stand_after_an_option(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    config = tmp_path / "c.yaml"
    config.write_text("out: x")
    said = mistake(capsys, "sft", str(config), "sed=1", "--resume", "lerning_rate=2")
    assert "did you mean `seed`" in said
    assert "did you mean `learning_rate`" in said


@pytest.fixture
def four_runs(tmp_path: Path) -> Path:
    """Two finished runs that were judged, one that was not, and one that died."""

    def finished(name: str, stage: str, hour: int, *lines: dict, **config: object) -> None:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(json.dumps({"out": str(folder)} | config))
        facts = {"stage": stage, "status": "finished", "wall_seconds": 61.4, "best_step": 2}
        facts["finished"] = f"2026-01-01T1{hour}:00:00+00:00"
        (folder / "run.json").write_text(json.dumps(facts))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))

    evals = [{"step": 2, "eval_loss": 0.5, "eval_accuracy": 0.8},
             {"step": 4, "eval_loss": 0.7, "eval_accuracy": 0.75}]  # fmt: skip
    finished("last", "reward", 1, *evals, {"step": 4, "train_loss": 0.1})
    finished("kept", "dpo", 0, *evals, early_stopping_patience=1)
    rollout = {"objective/scores": 1.25, "objective/kl": 2.5, "response_length": None}
    finished("plain", "ppo", 2, {"step": 1} | rollout, {"step": 2, "response_length": 9.5})
    died = tmp_path / "died.partial"
    died.mkdir()
    (died / "run.json").write_text('{"stage": "sft", "status": "running"}')
    return tmp_path


def test_runs_lists_what_is_finished_with_its_key_figures_and_what_is_not(four_runs, capsys):
    assert cli.main(["runs", str(four_runs)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{four_runs}/kept  dpo  2026-01-01T10:00  61 s  eval loss 0.5  eval accuracy 0.8",
        f"{four_runs}/last  reward  2026-01-01T11:00  61 s  eval loss 0.7  eval accuracy 0.75",
        f"{four_runs}/plain  ppo  2026-01-01T12:00  61 s  training score 1.25  training kl 2.5"
        "  training length 9.5",
        f"{four_runs}/died.partial  unfinished: being written, or to be finished with --resume",
    ]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("finished", ["kept", "last", "plain"]),
        ("path", ["kept", "last", "plain"]),
        ("loss", ["kept", "last", "plain"]),
        ("accuracy", ["kept", "last", "plain"]),
        ("score", ["plain", "kept", "last"]),
        ("kl", ["plain", "kept", "last"]),
    ],
)
def test_runs_are_sorted_by_any_figure_the_best_first_and_those_without_it_last(
    four_runs, capsys, by, names
):
    assert cli.main(["runs", str(four_runs), "--json", "--sort", by]) == 0
    *listed, died = json.loads(capsys.readouterr().out)
    assert [Path(run["path"]).name for run in listed] == names
    assert died == {"path": f"{four_runs}/died.partial", "finished": None}
    [plain] = [run for run in listed if run["stage"] == "ppo"]
    assert (plain["score"], plain["kl"], plain["length"], plain["loss"]) == (1.25, 2.5, 9.5, None)
    assert plain["metrics"]["score"] == "objective/scores"


def test_a_folder_without_runs_is_said_to_be_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert cli.main(["runs", str(tmp_path / "nowhere")]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no run in" in said.err


def test_a_new_config_is_written_once_and_is_a_config(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "sft"]) == 0
    assert capsys.readouterr().out == "sft.yaml\n"
    assert "name the run to go on with" in mistake(capsys, "sft", "sft.yaml", "--resume")
    assert "sft.yaml exists already; name another file" in mistake(capsys, "new", "sft")
    assert "none/x.yaml cannot be written" in mistake(capsys, "new", "ppo", "none/x.yaml")


def test_label_is_handed_to_the_labelling_app(tmp_path: Path):
    done = rlhf("label", "status", "--db", str(tmp_path / "none.db"))
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("rlhf label: ")
    assert rlhf("label", "--help").stdout.startswith("usage: rlhf label")


def test_a_siblings_yaml_is_refused_in_one_line_and_what_it_prints_is_accepted(capsys, tmp_path):
    path = ROOT / "configs" / "demo" / "ppo.yaml"
    said = mistake(capsys, "rloo", str(path), f"policy={tmp_path}/none")
    assert "rloo has no use for value_learning_rate, value_warmup_rollouts; run `rlhf rloo" in said
    _, *words = shlex.split(said.split("`")[1])
    assert cli.main(words) == 1
    assert "none: there is no such run" in capsys.readouterr().err


def test_a_stage_is_run_without_a_yaml(capsys):
    assert "`data` is missing" in mistake(capsys, "sft")
    assert "example `rlhf sft model.base=BASE data.train=FILE`" in mistake(capsys, "sft", "seed=1")


def test_a_run_that_is_resumed_has_to_be_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = mistake(capsys, "sft", "--resume", "model.base=b", "data.train=f")
    assert "name the run to go on with, as out=FOLDER" in said
    assert list(tmp_path.iterdir()) == []


def test_processes_that_train_together_have_to_be_told_one_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = mistake(capsys, "sft", "model.base=b", "data.train=f")
    assert "as out=FOLDER" in said
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_was_to_have_company_does_not_start_alone(capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert "torchrun" in mistake(capsys, "sft", "model.base=b", "data.train=f")


@pytest.mark.parametrize("to_terminal", [False, True])
def test_bars_of_loading_weights_are_for_terminals(to_terminal: bool):
    code = (
        "from rlhf.cli import main\n"
        "main(['runs', 'nowhere'])\n"
        "from transformers.utils import logging\n"
        "print(logging.is_progress_bar_enabled())"
    )
    bars = "_DISABLE_PROGRESS_BARS"
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={name: value for name, value in ENVIRONMENT.items() if not name.endswith(bars)},
        stdout=subprocess.PIPE,
        stderr=theirs if to_terminal else subprocess.DEVNULL,
        text=True,
        check=True,
    )
    os.close(ours)
    os.close(theirs)
    assert done.stdout == f"{to_terminal}\n"
