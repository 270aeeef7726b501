"""Direct preference optimization: raise what was chosen over what was rejected."""

import math
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import set_seed
from trl.trainer.dpo_config import DPOConfig as DPOArguments
from trl.trainer.dpo_trainer import DPOTrainer

from rlhf.config import DPOConfig
from rlhf.data.prepare import load
from rlhf.data.tokenized import preference_dataset
from rlhf.model.adapters import copy_adapter, refuse, unrounded
from rlhf.model.load import load_base
from rlhf.model.roles import ADAPTER_OF
from rlhf.model.start import load_start, starting_point
from rlhf.records import Preference
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
from rlhf.training.trainer import PairStageTrainer, loss_of_votes


def run(config: DPOConfig, *, resume: bool = False) -> Path:
    """Align the SFT policy with preferences; the finished run folder."""
    set_seed(config.seed)
    start = starting_point(config.model, config.sft)
    refuse("dpo", start.tuning)
    records = load(config.data, Preference, config.labels)
    parents = {"sft": start.parent} if start.parent else {}
    with new_run("dpo", config, parents=parents, resume=resume) as folder:
        model, tokenizer = load_start(start, config.model)
        data = within_context(config.data, model)
        encode = partial(preference_dataset, tokenizer=tokenizer, data=data, labels=config.labels)
        with unrounded(model):
            trainer = PreferenceTrainer(
                model=model,
                # adapters have their reference in a frozen copy beside them
                ref_model=load_base(start.spec) if start.tuning == "full" else None,
                args=training_arguments(
                    DPOArguments,
                    config,
                    folder,
                    evaluates=bool(records.eval),
                    beta=config.beta,
                    loss_type=[config.loss_type],
                    label_smoothing=config.label_smoothing,
                    disable_dropout=True,
                    max_length=None,
                    **precision(start),
                    **router_loss(start),
                ),
                train_dataset=encode(records.train),
                eval_dataset=encode(records.eval) or None,
                processing_class=tokenizer,
            )
        if isinstance(model, PeftModel):
            copy_adapter(model, ADAPTER_OF["policy"], ADAPTER_OF["reference"])
        folder.record(base=start.facts(), data=records.files, records=records.notes)
        train(trainer, folder, config)
        save_trained(model, tokenizer, folder)
        record_samples(folder, model, tokenizer, records.eval or records.train)
    write_run_report(config.out)
    return Path(config.out)


class PreferenceTrainer(PairStageTrainer, DPOTrainer):
    """TRL's trainer on ids that are tokenised already, each pair of a step counting the same."""

    def compute_loss(
        self,
        model: Any,  # noqa: ANN401
        inputs: Any,  # noqa: ANN401
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """What the micro-batch contributes to the mean over the pairs of the step."""
        num_filled = inputs.pop("num_filled", 0)
        votes = [inputs.pop(name) for name in ("share", "weight") if name in inputs]
        if votes:
            mean = self._of_votes(model, inputs, *votes)
            if num_filled:
                self._of_filled(inputs, num_filled)
            return (mean, {}) if return_outputs else self.of_step(mean, inputs, num_items_in_batch)
        found = super().compute_loss(model, inputs, return_outputs)
        if return_outputs:
            return found
        if num_filled:
            found = found - self._of_filled(inputs, num_filled)
        return self.of_step(found, inputs, num_items_in_batch)

    def _of_votes(
        self,
        model: Any,  # noqa: ANN401
        inputs: Any,  # noqa: ANN401
        share: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        """Mean loss of the votes; TRL's own loss is of the majority, and gives the metrics."""
        logprobs: list[torch.Tensor] = []

        def recorded(**named: Any) -> Any:  # noqa: ANN401
            output = model(**named)
            logprobs.append(output.log_probs)
            return output

        reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
        scored = inputs | {"ref_chosen_logps": reference[0], "ref_rejected_logps": reference[1]}
        self.precompute_ref_logps = True
        super().compute_loss(cast("Any", recorded), scored)
        self.precompute_ref_logps = False
        of_answer = logprobs[0][:, 1 - inputs["input_ids"].shape[1] :].sum(dim=1)
        chosen, rejected = of_answer.chunk(2)
        lead = self.beta * ((chosen - reference[0]) - (rejected - reference[1]))
        has_tokens = inputs["completion_mask"].any(dim=1).chunk(2)[0]
        return loss_of_votes(lead, share, weight).where(has_tokens, 0.0).mean()

    def leave_out(self, batch: dict[str, Any], first: int) -> None:
        """Responses without tokens have no logprobs, and a loss that does not change."""
        for of_side in batch["completion_mask"].chunk(2):
            of_side[first:] = 0
        batch["num_filled"] = self.num_filled

    def _of_filled(self, inputs: Any, num_filled: int) -> float:  # noqa: ANN401
        """What pairs without tokens add to the mean loss; TRL's means of pairs are put right."""
        constant = {"hinge": 1.0, "ipo": (2 * self.beta) ** -2}
        rows = inputs["completion_mask"].any(dim=1).chunk(2)[0]
        whole = len(rows) * self.accelerator.num_processes
        for name, found in self._metrics["train"].items():
            if name.startswith(("rewards/", "logps/")):
                found[-1] *= whole / (whole - num_filled)
        return constant.get(self.loss_types[0], math.log(2)) * float((~rows).float().mean())

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        return dataset
