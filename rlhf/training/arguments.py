"""What the stages that drive one of TRL's trainers share: arguments, the loop, what is left."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainingArguments,
)
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from rlhf import processes
from rlhf.config import DataConfig, StageConfig
from rlhf.errors import ConfigError
from rlhf.model.adapters import save_adapter
from rlhf.model.bases import context_length
from rlhf.model.checks.finite import refuse_non_finite, trained
from rlhf.model.load import compute_dtype, quantized
from rlhf.model.shards import is_sharded, whole
from rlhf.model.start import Start
from rlhf.runs import Run
from rlhf.training.launch import refuse_other_precision
from rlhf.training.progress import Progress
from rlhf.training.trainer_keys import checked

log = logging.getLogger(__name__)

A = TypeVar("A", bound=TrainingArguments)

_SAME_NAME = (
    "seed", "learning_rate", "per_device_train_batch_size", "per_device_eval_batch_size",
    "gradient_accumulation_steps", "num_train_epochs", "max_steps", "warmup_steps",
    "lr_scheduler_type", "weight_decay", "max_grad_norm",
    "eval_steps", "save_steps", "logging_steps", "report_to",
)  # fmt: skip


def training_arguments(
    kind: type[A],
    config: StageConfig,
    run: Run,
    *,
    evaluates: bool,
    **fixed: Any,  # noqa: ANN401 - any argument of the trainer
) -> A:
    """``config`` as the arguments of a trainer, its ``trainer:`` block included.

    Raises:
        ConfigError: a key under ``trainer:`` does not exist, is set elsewhere, or has a bad value.
    """
    stops_early = config.early_stopping_patience is not None
    if stops_early and not evaluates:
        raise ConfigError(
            "early_stopping_patience needs something to evaluate on; set data.eval or "
            "data.eval_fraction"
        )
    _check_trackers(config.report_to)
    ours = {name: getattr(config, name) for name in _SAME_NAME} | {
        "output_dir": str(run.checkpoints),
        "run_name": config.out,
        "eval_strategy": "steps" if evaluates else "no",
        "activation_checkpointing": config.gradient_checkpointing,
        "save_strategy": "steps",
        # the best is one that was saved
        "save_steps": config.eval_steps if stops_early else config.save_steps,
        "load_best_model_at_end": stops_early,
        "restore_callback_states_from_checkpoint": stops_early,
        "save_total_limit": 2,
        "dataloader_pin_memory": torch.cuda.is_available(),
        # without it, processes on a CPU would not know of each other
        "use_cpu": not torch.cuda.is_available(),
        **fixed,
    }
    made = checked(kind, config, ours)
    refuse_other_precision(made)
    drive_one_gpu(made)
    return made


def drive_one_gpu(arguments: TrainingArguments) -> None:
    """Keep the Trainer from spreading one process over all GPUs, which adapters do not survive."""
    if arguments.n_gpu > 1:
        log.warning(
            "one of %d GPUs is used; `accelerate launch --config_file configs/accelerate/ddp.yaml "
            "-m rlhf …` uses them all",
            arguments.n_gpu,
        )
        cast("Any", arguments)._n_gpu = 1


def within_context(data: DataConfig, model: PreTrainedModel | PeftModel) -> DataConfig:
    """``data`` with no row longer than what ``model`` was built for."""
    limit = context_length(model)
    if limit >= data.max_length:
        return data
    log.warning(
        "the model reads %d tokens at most; that is used as data.max_length instead of %d",
        limit,
        data.max_length,
    )
    return replace(data, max_length=limit)


def router_loss(start: Start) -> dict[str, float]:
    """TRL adds a loss that balances experts, which has nothing to move where adapters train."""
    return {} if start.tuning == "full" else {"router_aux_loss_coef": 0.0}


def refuse_launcher(stage: str) -> None:
    """Say so where ``stage`` was launched in several processes and works in one.

    Raises:
        ConfigError: it was.
    """
    if processes.count() > 1:
        raise ConfigError(f"{stage} works in one process; start it without a launcher")


def precision(start: Start) -> dict[str, bool]:
    """Autocast on a GPU, to what the base computes in; full fine-tuning keeps fp32 weights."""
    asked = "auto" if start.tuning == "full" else start.spec.dtype
    dtype = compute_dtype(asked) if torch.cuda.is_available() else torch.float32
    return {"bf16": dtype == torch.bfloat16, "fp16": dtype == torch.float16}


def train(trainer: Trainer, run: Run, config: StageConfig) -> None:
    """Run the loop, from the newest checkpoint where the run is resumed."""
    # both of them print metrics to stdout, which is for results
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Progress(run))
    if config.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(config.early_stopping_patience))
    if trainer.is_fsdp_enabled and quantized(cast("nn.Module", trainer.model)):
        raise ConfigError(
            "FSDP would not shard a quantised base; set model.tuning: lora and quantization: none, "
            "or launch with configs/accelerate/ddp.yaml"
        )
    assert trainer.accelerator.num_processes == processes.count(), "they would train alone"
    trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
    refuse_non_finite(trained(cast("nn.Module", trainer.model)), trainer.state.global_step)
    trainer.accelerator.wait_for_everyone()  # a run is finished only where all of them got here
    run.record(steps=trainer.state.global_step, best_step=trainer.state.best_global_step)


def save_trained(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    run: Run,
    dtype: torch.dtype | None = None,
) -> None:
    """Write what later stages load: the adapter or the whole model, and the tokenizer.

    A whole model is written in ``dtype``.
    """
    if isinstance(model, PeftModel):
        save_adapter(model, run.adapter, writes=run.writes)
    else:
        model.config.use_cache = True  # the Trainer switched it off for itself
        state = None
        if is_sharded(model):
            state = {name: tensor.to(dtype) for name, tensor in whole(model.state_dict()).items()}
        elif dtype is not None:
            model.to(dtype)  # pyright: ignore[reportArgumentType] - Transformers hides the overload
        if run.writes:
            model.save_pretrained(run.model, state_dict=state)
    if run.writes:
        tokenizer.save_pretrained(str(run.tokenizer))


def _check_trackers(names: Sequence[str]) -> None:
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            near = difflib.get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "see Transformers' `report_to`"
            raise ConfigError(f"report_to: there is no tracker {name!r}; {hint}")
        if name not in get_available_reporting_integrations():
            raise ConfigError(f"report_to: {name} is not installed; install it, or leave it out")
