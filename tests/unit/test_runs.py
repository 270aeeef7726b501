"""Run folders: finished or not there; resumable; one writer; one sentence for what went wrong."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlhf import provenance
from rlhf.errors import DataError, RunError
from rlhf.runs import (
    POLICY_STAGES,
    Run,
    is_run,
    list_runs,
    list_unfinished,
    name_by_date,
    new_run,
    newest_checkpoint,
    open_run,
)


@dataclass(frozen=True)
class Config:
    out: str
    seed: int = 3
    learning_rate: float = 1e-5
    logging_steps: float = 10


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(out=str(tmp_path / "runs" / "sft"))


def partial(config: Config) -> Path:
    return Path(config.out + ".partial")


def finish(out: Path, stage: str = "sft", **facts: object) -> Path:
    with new_run(stage, Config(out=str(out))) as run:
        run.record(**facts)
    return out


def checkpoint(run: Run, step: int) -> Path:
    """What Transformers writes, state last."""
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def fail(config: Config, error: BaseException, *checkpoints: int) -> None:
    """A run that logs, saves these checkpoints and then fails."""
    with new_run("sft", config) as run:
        run.log({"loss": 1.0}, step=5)
        for step in checkpoints:
            checkpoint(run, step)
        run.log({"loss": 0.5}, step=6)
        raise error


def die_after_checkpoint(config: Config) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(config, ZeroDivisionError(), 5)


def test_a_run_appears_under_its_name_only_when_it_ended_well(config: Config):
    with new_run("sft", config) as run:
        assert run.path == partial(config)
        assert not Path(config.out).exists()
    assert not partial(config).exists()
    assert open_run(config.out).path == Path(config.out)


def test_a_finished_run_says_what_it_was_made_with(config: Config):
    with new_run("sft", config) as run:
        run.record(data={"a.jsonl": "0" * 64})
        run.record(base={"path": "tiny"})
    found = open_run(config.out, "sft")
    assert found.stage == "sft"
    assert found.config == {
        "out": config.out,
        "seed": 3,
        "learning_rate": 1e-5,
        "logging_steps": 10,
    }
    facts = found.facts
    assert facts["status"] == "finished"
    assert facts["seed"] == 3
    assert facts["data"] == {"a.jsonl": "0" * 64}
    assert facts["base"] == {"path": "tiny"}
    assert facts["device"] == "cpu" or facts["peak_memory_mb"]["gpu"] >= 0
    assert facts["peak_memory_mb"]["ram"] > 1
    assert facts["wall_seconds"] >= 0
    assert facts["started"] <= facts["finished"]
    assert set(facts["versions"]) >= {"rlhf", "python", "torch", "trl", "peft", "bitsandbytes"}
    assert facts["command"]


def test_the_commit_is_recorded_and_marked_when_files_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert open_run(finish(tmp_path / "before")).facts["git_revision"] is None
    (tmp_path / "file").write_text("one")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    clean = open_run(finish(tmp_path / "clean")).facts["git_revision"]
    (tmp_path / "file").write_text("two")
    changed = open_run(finish(tmp_path / "changed")).facts["git_revision"]
    assert len(clean) == 40
    assert changed == f"{clean}+changed"


def test_parents_are_recorded_with_the_id_of_the_very_run(tmp_path: Path):
    sft = finish(tmp_path / "sft")
    with new_run("reward", Config(out=str(tmp_path / "rm")), parents={"sft": sft}):
        pass
    assert open_run(tmp_path / "rm").facts["parents"] == {
        "sft": {"path": str(sft), "id": open_run(sft).facts["id"]}
    }


def test_an_unfinished_parent_is_refused_before_anything_is_written(config: Config, tmp_path: Path):
    die_after_checkpoint(config)
    child = Config(out=str(tmp_path / "rm"))
    with (
        pytest.raises(RunError, match="unfinished"),
        new_run("reward", child, parents={"sft": Path(config.out)}),
    ):
        pass
    assert not partial(child).exists()


@pytest.mark.parametrize("error", [DataError("no rows"), ValueError("a bug"), KeyboardInterrupt()])
def test_an_error_before_the_first_checkpoint_leaves_no_folder(
    config: Config, error: BaseException
):
    with pytest.raises(type(error)):
        fail(config, error)
    assert not partial(config).exists()
    assert not Path(config.out).exists()


def test_an_error_after_a_checkpoint_leaves_a_run_to_resume(config: Config):
    die_after_checkpoint(config)
    assert not Path(config.out).exists()
    with new_run("sft", config, resume=True) as run:
        assert run.resume_from == run.checkpoints / "checkpoint-5"
        run.log({"loss": 0.25}, step=6)
    found = open_run(config.out)
    assert [(m["step"], m["loss"]) for m in found.read_metrics()] == [(5, 1.0), (6, 0.25)]
    assert found.facts["resumed"] == ["checkpoint-5"]


def test_a_resumed_run_counts_the_time_before_it_died(config: Config):
    die_after_checkpoint(config)
    path = partial(config) / "metrics.jsonl"
    lines = [json.loads(line) | {"seconds": 1000.0} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with new_run("sft", config, resume=True):
        pass
    assert 1000 <= open_run(config.out).facts["wall_seconds"] < 1100


def test_the_checkpoints_of_a_finished_run_are_gone(config: Config):
    with new_run("sft", config) as run:
        checkpoint(run, 2)
    assert newest_checkpoint(Path(config.out)) is None
    assert sorted(p.name for p in Path(config.out).iterdir()) == ["config.yaml", "run.json"]


def test_the_newest_checkpoint_is_the_one_with_the_most_steps_that_was_written_to_the_end(
    config: Config,
):
    with pytest.raises(KeyboardInterrupt):
        fail(config, KeyboardInterrupt(), 10, 9, 11, 12)
    (partial(config) / "checkpoints/checkpoint-11/trainer_state.json").unlink()
    (partial(config) / "checkpoints/checkpoint-12/trainer_state.json").write_text('{"global_st')
    assert newest_checkpoint(partial(config)) == partial(config) / "checkpoints/checkpoint-10"


def test_a_line_cut_off_by_a_kill_is_no_line(config: Config):
    die_after_checkpoint(config)
    with (partial(config) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    with new_run("sft", config, resume=True) as run:
        run.log({"loss": 0.5}, step=6)
    assert [m["step"] for m in open_run(config.out).read_metrics()] == [5, 6]


def test_a_number_that_is_not_finite_is_logged_as_null(config: Config):
    with new_run("sft", config) as run:
        run.log({"loss": float("nan"), "kl": float("inf"), "note": "x"}, step=1)
    [line] = open_run(config.out).read_metrics()
    assert (line["loss"], line["kl"], line["note"]) == (None, None, "x")


def test_a_finished_run_is_never_written_over(config: Config):
    finish(Path(config.out))
    before = open_run(config.out).facts
    for resume in (False, True):
        with (
            pytest.raises(RunError, match="exists already; choose another out="),
            new_run("sft", config, resume=resume),
        ):
            pass
    assert open_run(config.out).facts == before


def test_what_can_be_resumed_is_not_thrown_away(config: Config):
    die_after_checkpoint(config)
    command = r"rlhf sft .*config.yaml --resume"
    with pytest.raises(RunError, match=command), new_run("sft", replace(config, out=config.out)):
        pass
    assert newest_checkpoint(partial(config)) is not None


def test_what_cannot_be_resumed_is_replaced(config: Config):
    partial(config).mkdir(parents=True)
    (partial(config) / "adapter").mkdir()
    (partial(config) / "metrics.jsonl").write_text('{"step": 1, "seconds": 1}\n')
    with new_run("sft", config) as run:
        assert not run.adapter.exists()
    assert open_run(config.out).read_metrics() == []


def test_resuming_nothing_is_refused(config: Config):
    with pytest.raises(RunError, match="nothing to resume"), new_run("sft", config, resume=True):
        pass
    assert not partial(config).exists()


def test_a_run_killed_before_its_first_checkpoint_is_resumed_from_the_start(config: Config):
    partial(config).mkdir(parents=True)
    with new_run("sft", config, resume=True) as run:
        assert run.resume_from is None


def test_a_run_is_resumed_with_its_own_config_only(config: Config):
    die_after_checkpoint(config)
    changed = replace(config, learning_rate=1e-3, seed=4)
    with (
        pytest.raises(
            RunError, match=r"another `learning_rate`, `seed`; resume with .*config.yaml"
        ),
        new_run("sft", changed, resume=True),
    ):
        pass
    with new_run("sft", replace(config, logging_steps=1), resume=True) as run:
        assert run.resume_from is not None


def test_a_killed_process_leaves_a_run_that_never_passes_for_finished(config: Config):
    script = (
        "import json, os, signal\n"
        "from tests.unit.test_runs import Config, checkpoint\n"
        "from rlhf.runs import new_run\n"
        f"with new_run('sft', Config(out={config.out!r})) as run:\n"
        "    run.record(status='finished')  # even then\n"
        "    checkpoint(run, 5)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, env=_environment())
    assert done.returncode == -signal.SIGKILL
    root = Path(config.out).parent
    assert list_runs(root) == []
    assert list_unfinished(root) == [partial(config)]
    for name in (config.out, partial(config)):
        with pytest.raises(RunError, match=r"is unfinished; finish it with `rlhf sft .* --resume`"):
            open_run(name)
    with new_run("sft", config, resume=True) as run:
        assert run.resume_from is not None
    assert [run.path for run in list_runs(root)] == [Path(config.out)]


def test_a_renamed_unfinished_run_is_still_unfinished(config: Config, tmp_path: Path):
    die_after_checkpoint(config)
    partial(config).rename(tmp_path / "mine")
    with pytest.raises(RunError, match="never finished"):
        open_run(tmp_path / "mine")
    assert list_runs(tmp_path) == []


def test_two_processes_never_write_one_run(config: Config):
    script = (
        "from tests.unit.test_runs import Config\n"
        "from rlhf.errors import RunError\n"
        "from rlhf.runs import new_run\n"
        "try:\n"
        f"    with new_run('sft', Config(out={config.out!r})): print('wrote')\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    with new_run("sft", config) as run:
        run.log({"loss": 1.0}, step=1)
        done = subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            capture_output=True,
            text=True,
            env=_environment(),
        )
    assert "is being written by another process" in done.stdout
    assert len(open_run(config.out).read_metrics()) == 1


def test_the_other_processes_of_one_training_write_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    die_after_checkpoint(config)
    monkeypatch.setenv("RANK", "1")
    before = sorted(partial(config).rglob("*"))
    with new_run("sft", config, resume=True) as run:
        assert run.resume_from == run.checkpoints / "checkpoint-5"
        run.log({"loss": 1.0}, step=6)
        run.record(base={})
    assert sorted(partial(config).rglob("*")) == before
    assert not Path(config.out).exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_sentence(config: Config, error: Exception):
    with pytest.raises(RunError, match="the disk is full; free some space"), new_run("sft", config):
        raise error
    assert not partial(config).exists()


def test_a_full_disk_that_torch_wraps_is_recognised(config: Config):
    error = RuntimeError("unexpected pos 576 vs 534")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(RunError, match="the disk is full"):
        fail(config, error)


def test_a_full_disk_after_a_checkpoint_keeps_the_checkpoint(config: Config):
    with pytest.raises(RunError, match="--resume"):
        fail(config, OSError(errno.ENOSPC, "No space left on device"), 4)
    assert newest_checkpoint(partial(config)) is not None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_log_on_a_full_disk_is_one_sentence(config: Config):
    def log() -> None:
        with new_run("sft", config) as run:
            run.metrics.symlink_to("/dev/full")
            run.log({"loss": 1.0}, step=1)

    with pytest.raises(RunError, match="the disk is full"):
        log()
    assert not partial(config).exists()


def test_a_file_where_the_folder_should_be_is_one_sentence(tmp_path: Path):
    (tmp_path / "runs").write_text("a file")
    config = Config(out=str(tmp_path / "runs" / "sft"))
    with pytest.raises(RunError, match=r"not writable .*; choose another out="):  # noqa: SIM117
        with new_run("sft", config):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_one_sentence(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="not writable"):  # noqa: SIM117
        with new_run("sft", Config(out=str(tmp_path / "sft"))):
            pass


@pytest.mark.parametrize("free", [0, 2**30])
def test_a_write_that_torch_gave_up_is_a_full_disk_only_if_the_disk_is_full(
    config: Config, free: int, monkeypatch: pytest.MonkeyPatch
):
    error = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr("rlhf.runs.disk.shutil.disk_usage", lambda _: usage)
    with pytest.raises(RuntimeError if free else RunError):
        fail(config, error)


def test_a_file_of_the_run_that_cannot_be_written_is_one_sentence_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sft.partial" / "adapter"
    error = PermissionError(errno.EACCES, "Permission denied", str(path))
    with pytest.raises(RunError, match=r"sft: the folder is not writable \(Permission denied\)"):
        fail(Config(out="sft"), error)


def test_an_error_of_the_system_without_a_file_is_left_as_it_is(config: Config):
    with pytest.raises(ConnectionError):
        fail(config, ConnectionError(errno.ECONNREFUSED, "refused"))


def test_a_file_elsewhere_that_cannot_be_read_is_not_blamed_on_the_run_folder(config: Config):
    error = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/data.jsonl")
    with pytest.raises(PermissionError), new_run("sft", config):
        raise error


def test_a_run_of_the_wrong_stage_is_refused_in_one_sentence(tmp_path: Path):
    rm = finish(tmp_path / "rm", "reward")
    sft = finish(tmp_path / "sft", "sft")
    with pytest.raises(
        RunError, match=r"rm is a reward run; a policy run \(sft, dpo, .* online-dpo\) is needed"
    ):
        open_run(rm, POLICY_STAGES)
    with pytest.raises(RunError, match="sft is an sft run; a reward run is needed here"):
        open_run(sft, "reward")
    assert open_run(rm, "reward").stage == "reward"
    assert open_run(sft, POLICY_STAGES).stage == "sft"


def test_what_has_no_config_to_resume_by_is_to_be_deleted(tmp_path: Path):
    def die() -> None:
        with new_run("compare", Config(out=str(tmp_path / "c"))) as run:
            checkpoint(run, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        die()
    with pytest.raises(RunError, match="unfinished; delete it and start again"):
        open_run(tmp_path / "c")


def test_a_library_or_a_git_that_is_not_there_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(provenance, "LIBRARIES", ("no-such-library",))
    monkeypatch.setenv("PATH", "")
    facts = open_run(finish(tmp_path / "run")).facts
    assert facts["versions"]["no-such-library"] == "missing"
    assert facts["git_revision"] is None


def test_what_is_no_run_is_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(RunError, match="there is no such run"):
        open_run(tmp_path / "nothing")
    with pytest.raises(RunError, match="not a run folder"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(RunError, match="does not describe a run"):
        open_run(tmp_path)


def test_a_run_is_told_from_a_base(config: Config, tmp_path: Path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    die_after_checkpoint(config)
    assert not is_run(tmp_path / "base")
    assert is_run(config.out), "an unfinished run is a run"
    assert is_run(finish(tmp_path / "done"))


def test_runs_are_listed_oldest_first_wherever_they_lie(tmp_path: Path):
    first = finish(tmp_path / "b", finished="2020")
    second = finish(tmp_path / "deep" / "er" / "a")
    assert [run.path for run in list_runs(tmp_path)] == sorted(
        [first, second], key=lambda path: (open_run(path).facts["finished"], path)
    )


def test_a_run_with_weights_has_a_card(config: Config, tmp_path: Path):
    sft = finish(tmp_path / "parent")
    with new_run("reward", config, parents={"sft": sft}) as run:
        run.adapter.mkdir()
        run.record(base={"path": "org/base", "storage": "nf4"}, data={"votes.jsonl": "ab" * 32})
        run.log({"loss": 1.0, "eval_accuracy": 0.5}, step=1)
        run.log({"loss": 0.123456, "train_runtime": 3.0, "kl": float("nan")}, step=2)
    card = open_run(config.out).card.read_text()
    assert card.startswith("---\nbase_model: org/base\n")
    for part in (
        "A reward model",
        "- storage: nf4",
        "- votes.jsonl: " + "ab" * 16,
        f"- sft: {sft}",
        "- loss: 0.1235",
        "- eval_accuracy: 0.5",
        "## Licence",
        "- seed: 3",
    ):
        assert part in card
    for untold in ("runtime", "\n- seconds: ", "kl", "None"):
        assert untold not in card
    assert not (finish(tmp_path / "no-weights") / "README.md").exists()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def test_runs_that_start_in_the_same_second_have_names_of_their_own(tmp_path, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 12, 1, 15, 30, tzinfo=tz or UTC)

    monkeypatch.setattr("rlhf.runs.names.datetime", Clock)
    root = tmp_path / "runs"
    with name_by_date("sft", root) as one, name_by_date("sft", root) as two:
        assert one.name.startswith("sft-20261201-")
        assert two.name == f"{one.name}-2"
        finish(one)
        with name_by_date("sft", root) as three:
            assert three.name == f"{one.name}-3"
    assert [path.name for path in root.iterdir()] == [one.name], (
        "a name that is not used is given up"
    )


def test_many_processes_at_once_get_as_many_names(tmp_path):
    def named(_: int) -> str:
        with name_by_date("sft", tmp_path) as out:
            finish(out)
            return out.name

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(named, range(24)))) == 24
    assert len(list_runs(tmp_path)) == 24


def test_a_config_without_a_folder_is_refused():
    with pytest.raises(RunError, match="names no folder to write"), new_run("sft", Config(out="")):
        pass
