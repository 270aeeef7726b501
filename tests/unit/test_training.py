import os
from pathlib import Path
from typing import Any, cast

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_simple_launcher_cmd_env
from trl.trainer.dpo_config import DPOConfig as DPOArguments
from trl.trainer.sft_config import SFTConfig as SFTArguments

from rlhf.config import SFTConfig
from rlhf.errors import ConfigError
from rlhf.runs import Run
from rlhf.training import arguments as training
from rlhf.training.arguments import drive_one_gpu, training_arguments
from rlhf.training.launch import check_launch
from tests.stages import config


def arguments(
    tmp_path: Path, *, kind: Any = SFTArguments, evaluates: bool = True, **keys: Any
) -> Any:
    made = config(SFTConfig, tmp_path / "out", tmp_path, model={"base": "base"}, **keys)
    return training_arguments(
        kind, made, Run(tmp_path, None, writes=True), evaluates=evaluates, bf16=False
    )


def test_every_shared_knob_reaches_the_trainer(tmp_path):
    made = arguments(
        tmp_path,
        seed=7,
        learning_rate=3e-4,
        per_device_train_batch_size=3,
        per_device_eval_batch_size=5,
        gradient_accumulation_steps=2,
        num_train_epochs=1.5,
        max_steps=9,
        warmup_steps=4,
        lr_scheduler_type="cosine",
        weight_decay=0.1,
        max_grad_norm=0.5,
        gradient_checkpointing=True,
        eval_steps=3,
        save_steps=6,
        logging_steps=2,
    )
    assert (made.seed, made.learning_rate, made.num_train_epochs) == (7, 3e-4, 1.5)
    assert (made.per_device_train_batch_size, made.per_device_eval_batch_size) == (3, 5)
    assert (made.gradient_accumulation_steps, made.max_steps, made.warmup_steps) == (2, 9, 4)
    assert (made.lr_scheduler_type, made.weight_decay, made.max_grad_norm) == ("cosine", 0.1, 0.5)
    assert made.gradient_checkpointing is True
    assert (made.eval_steps, made.save_steps, made.logging_steps) == (3, 6, 2)
    assert made.output_dir == str(tmp_path / "checkpoints")


def test_a_key_under_trainer_is_a_field_of_the_trainers_own_arguments(tmp_path):
    assert arguments(tmp_path, trainer={"adam_beta2": 0.95}).adam_beta2 == 0.95
    assert arguments(tmp_path, trainer={"ld_alpha": 0.5}, kind=DPOArguments).ld_alpha == 0.5


@pytest.mark.parametrize(
    ("trainer", "sentence"),
    [
        ({"adam_beta": 0.9}, r"unknown key `trainer\.adam_beta`; did you mean `adam_beta[12]`\?"),
        ({"xyzzy": 1}, r"unknown key `trainer\.xyzzy`; see the fields of SFTConfig"),
        ({"adam_beta1": "high"}, r"`trainer\.adam_beta1`: .*number.*, not 'high'"),
        ({"learning_rate": 1.0}, r"trainer\.learning_rate: the stage sets it"),
        ({"bf16": True}, r"trainer\.bf16: the stage sets it"),
        ({"optim": "adam_who"}, "adam_who"),
    ],
)
def test_a_bad_key_under_trainer_is_named(tmp_path, trainer, sentence):
    with pytest.raises(ConfigError, match=sentence):
        arguments(tmp_path, trainer=trainer)


def test_early_stopping_without_anything_to_evaluate_on_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs something to evaluate on"):
        arguments(tmp_path, evaluates=False, early_stopping_patience=2)


def test_without_evaluation_data_nothing_is_evaluated(tmp_path):
    assert arguments(tmp_path, evaluates=False).eval_strategy == "no"


def test_a_tracker_that_transformers_does_not_know_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no tracker 'tensorbord'; did you mean tensorboard\?"):
        arguments(tmp_path, report_to=["tensorbord"])


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "get_available_reporting_integrations", list)
    with pytest.raises(ConfigError, match="wandb is not installed"):
        arguments(tmp_path, report_to=["wandb"])


def test_a_tracker_that_is_installed_is_handed_on(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "get_available_reporting_integrations", lambda: ["wandb"])
    assert arguments(tmp_path, report_to=["wandb"]).report_to == ["wandb"]


def test_one_process_drives_one_gpu(tmp_path, caplog):
    made = arguments(tmp_path)
    made._n_gpu = 4
    drive_one_gpu(made)
    assert made.n_gpu == 1
    assert "one of 4 GPUs is used" in caplog.text


def launched(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Let this process see what ``accelerate launch`` with ``options`` tells the one it starts."""
    with monkeypatch.context() as clean:
        for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "MASTER_"))]:
            clean.delenv(name)
        arguments = launch_command_parser().parse_args(["--cpu", *options, "-m", "rlhf"])
        resolved, *_ = cast("Any", _validate_launch_command(arguments))
        _, environment = prepare_simple_launcher_cmd_env(resolved)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_one_process_where_several_were_asked_for_is_refused_with_the_remedy(monkeypatch):
    launched(monkeypatch, "--num_processes", "1")
    check_launch()
    launched(monkeypatch, "--num_processes", "2")
    with pytest.raises(ConfigError, match=r"asked for several processes and started one.*torchrun"):
        check_launch()
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_launch()


def test_processes_of_mpi_which_would_train_apart_are_refused(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    check_launch()
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"MPI's processes do not train together.*torchrun"):
        check_launch()


@pytest.mark.parametrize("way", ["MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_a_way_of_sharing_the_work_that_no_stage_has_is_refused(way: str, monkeypatch):
    monkeypatch.setenv(f"ACCELERATE_USE_{way}", "true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=f"no stage trains with .*--use_{way.lower()}"):
        check_launch()


def test_a_launch_that_asks_for_another_precision_than_the_stage_is_refused(tmp_path, monkeypatch):
    launched(monkeypatch, "--mixed_precision", "no")
    arguments(tmp_path)
    launched(monkeypatch, "--mixed_precision", "bf16")
    with pytest.raises(ConfigError, match=r"mixed_precision: bf16, .* let the stage decide"):
        arguments(tmp_path)
