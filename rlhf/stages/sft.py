"""Supervised fine-tuning: imitate the assistant turns of demonstrations."""

from pathlib import Path
from typing import Any

import torch
from transformers import set_seed
from trl.trainer.sft_config import SFTConfig as SFTArguments
from trl.trainer.sft_trainer import SFTTrainer

from rlhf.config import SFTConfig
from rlhf.data.prepare import load
from rlhf.data.tokenized import sft_dataset
from rlhf.errors import ConfigError, ModelError
from rlhf.model.adapters import ALIGNABLE, orthogonality, unrounded
from rlhf.model.start import Start, load_start, starting_point
from rlhf.records import Demonstration
from rlhf.report import write_run_report
from rlhf.runs import new_run
from rlhf.training.arguments import (
    precision,
    router_loss,
    save_trained,
    train,
    training_arguments,
    within_context,
)
from rlhf.training.samples import record_samples
from rlhf.training.trainer import StageTrainer


def run(config: SFTConfig, *, resume: bool = False) -> Path:
    """Train a policy on demonstrations; the finished run folder."""
    set_seed(config.seed)
    start = starting_point(config.model, config.sft)
    _refuse(config, start)
    records = load(config.data, Demonstration)
    parents = {"sft": start.parent} if start.parent else {}
    with new_run("sft", config, parents=parents, resume=resume) as folder:
        model, tokenizer = load_start(start, config.model)
        data = within_context(config.data, model)
        arguments = training_arguments(
            SFTArguments,
            config,
            folder,
            evaluates=bool(records.eval),
            # what TRL would do again was done when the data were read
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            **precision(start),
            **router_loss(start),
        )
        with unrounded(model):
            trainer = Imitation(
                model=model,
                args=arguments,
                train_dataset=sft_dataset(records.train, tokenizer, data),
                eval_dataset=sft_dataset(records.eval, tokenizer, data) or None,
                processing_class=tokenizer,
            )
        folder.record(base=start.facts(), data=records.files, records=records.notes)
        train(trainer, folder, config)
        save_trained(model, tokenizer, folder)
        record_samples(folder, model, tokenizer, records.eval or records.train)
    write_run_report(config.out)
    return Path(config.out)


class Imitation(StageTrainer, SFTTrainer):
    """TRL's trainer, with the penalty that AdaLoRA needs and PEFT hides in an unread loss."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Token mean of the labelled tokens' loss."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        penalty = orthogonality(self.network) if self.network.training else None
        if penalty is None:
            return loss
        assert isinstance(loss, torch.Tensor)
        return loss + penalty / self.current_gradient_accumulation_steps


def _refuse(config: SFTConfig, start: Start) -> None:
    if start.parent and start.tuning not in ALIGNABLE["reward"]:
        raise ModelError(
            f"{config.sft}: its tuning: {start.tuning} comes back frozen or pruned and cannot be "
            "trained further; start from the base, with `model`"
        )
    if config.gradient_checkpointing and start.tuning == "prefix":
        raise ConfigError(
            "gradient_checkpointing throws away the cache that tuning: prefix lives in; "
            "set gradient_checkpointing: false"
        )
