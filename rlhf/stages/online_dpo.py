"""Online DPO: pairs of the policy's own responses, in which the reward run prefers one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # before what it silences is imported

from trl.experimental.online_dpo.online_dpo_config import (
    OnlineDPOConfig as OnlineDPOArguments,
)
from trl.experimental.online_dpo.online_dpo_trainer import OnlineDPOTrainer

from rlhf.config import OnlineDPOConfig
from rlhf.model.scoring import logprobs
from rlhf.ppo.arguments import PPOArguments
from rlhf.rollouts.trl_trainer import Method, OnlineTrainer, run_online


def run(config: OnlineDPOConfig, *, resume: bool = False) -> Path:
    """Align the policy with a reward model; the finished run folder."""
    return run_online(METHOD, config, resume=resume)


class OnlinePairsTrainer(OnlineTrainer, OnlineDPOTrainer):
    """TRL's step on pairs of the collector's, whose reference is the policy that it started from.

    TRL itself would switch all adapters off, or copy the base, for a reference. It also adds up the
    losses of an optimizer step where their mean is meant.
    """

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - those of TRL's trainer
        # a stand-in, so that TRL copies no base: the collector asks the reference
        super().__init__(ref_model=nn.Identity(), **kwargs)
        self._rows: list[dict[str, Any]] = []
        self.accelerator.gradient_accumulation_steps = self.args.gradient_accumulation_steps

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Any = None,  # noqa: ANN401
    ) -> Tensor:
        """Keep the rows whole: TRL hands on their prompts, and rewards may want the rest."""
        self._rows = [
            dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)
        ]
        return super().training_step(model, inputs, num_items_in_batch)

    def _generate(self, model: nn.Module, prompts: Sequence[Any], images: None = None) -> Any:  # noqa: ANN401, ARG002
        rollout = self.collect([*self._rows, *self._rows])
        self.said.rewards = rollout.scores.tolist()
        ids, mask = rollout.sequences.response_ids, rollout.mask
        nothing = ids[:, :0]
        pad = self.collector.tokenizer.pad_token_id
        return nothing, nothing, ids.where(mask, torch.tensor(pad, device=ids.device)), mask, None

    def _forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        model: Any,  # noqa: ANN401 - the network, perhaps wrapped
        *_: Any,  # noqa: ANN401
    ) -> Tensor:
        if model is self.ref_model:
            return self.rollout.ref_logprobs
        return logprobs(model, self.rollout.sequences, temperature=self.plan.temperature)


def _knobs(config: OnlineDPOConfig, plan: PPOArguments) -> dict[str, Any]:
    return {
        # TRL counts prompts
        "per_device_train_batch_size": plan.micro_batch_size // 2,
        "max_new_tokens": config.max_new_tokens,
        "max_length": config.data.max_length + config.max_new_tokens,
        "beta": config.beta,
        "loss_type": config.loss_type,
        "missing_eos_penalty": None,  # the collector's scores have it
    }


METHOD = Method("online-dpo", OnlinePairsTrainer, OnlineDPOArguments, _knobs)
