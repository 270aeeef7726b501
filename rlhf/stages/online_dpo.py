"""Online DPO: pairs of the policy's own responses, in which the reward run prefers one."""

import os
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
from rlhf.config.online import Steps
from rlhf.model.scoring import logprobs
from rlhf.rollouts.distributed import Mean
from rlhf.rollouts.trl_trainer import Method, OnlineTrainer, run_online


def run(config: OnlineDPOConfig, *, resume: bool = False) -> Path:
    """Align the policy with a reward model; the finished run folder."""
    return run_online(METHOD, config, resume=resume)


class OnlinePairsTrainer(OnlineTrainer, OnlineDPOTrainer):
    """TRL's step on pairs of the collector's, whose reference is the policy that it started from.

    TRL itself would switch all adapters off, or copy the base, for a reference. It also adds up the
    losses of an optimizer step where their mean is meant, and takes the first of two responses with
    one score for the better one. Here such a pair teaches nothing, nor does one of which a response
    was not judged: a micro-batch's loss is the mean over its other pairs.
    """

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - those of TRL's trainer
        # a stand-in, so that TRL copies no base: the collector asks the reference
        super().__init__(ref_model=nn.Identity(), **kwargs)
        self.accelerator.gradient_accumulation_steps = self.args.gradient_accumulation_steps

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Any = None,  # noqa: ANN401
    ) -> Tensor:
        """Draw the pairs, and learn from those in which one response is better."""
        rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
        rollout = self.collect([*rows, *rows])
        first, second = rollout.scores.chunk(2)
        decided = (first > second) | (first < second)
        self.note({"policy/groups_without_signal": Mean.of((~decided).float())})
        kept = decided.nonzero()[:, 0]
        if not len(kept):
            return self._nothing_learnt()
        self.rollout = rollout.select(torch.cat([kept, kept + len(rows)]))
        self.passed_on.rewards = self.rollout.scores.tolist()
        left = {name: [column[i] for i in kept.tolist()] for name, column in inputs.items()}
        return super().training_step(model, left, num_items_in_batch)

    def _nothing_learnt(self) -> Tensor:
        """A loss of 0 with gradients of 0, which a gradient scaler has to see."""
        trained = [p.sum() for p in self.network.parameters() if p.requires_grad]
        loss = torch.stack(trained).sum() * 0.0
        self.accelerator.backward(loss)
        return loss.detach()

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        # TRL divides by the number of steps that noted something, which may be none
        names = list(self.stats)
        self.stats = {name: seen for name, seen in self.stats.items() if seen}
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.stats = {name: self.stats.get(name, []) for name in names}

    def _generate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *_: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        rollout = self.rollout
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
        return logprobs(model, self.rollout.sequences, temperature=self.config.temperature)


def _knobs(config: OnlineDPOConfig, steps: Steps) -> dict[str, Any]:
    return {
        # TRL counts prompts
        "per_device_train_batch_size": steps.piece // 2,
        "max_new_tokens": config.max_new_tokens,
        "max_length": config.data.max_length + config.max_new_tokens,
        "beta": config.beta,
        "loss_type": config.loss_type,
        "missing_eos_penalty": None,  # the collector's scores have it
    }


METHOD = Method("online-dpo", OnlinePairsTrainer, OnlineDPOArguments, _knobs)
