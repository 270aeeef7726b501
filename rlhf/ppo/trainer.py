"""PPO on one base: the policy, its reference, the reward and the value are adapters of it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl.trainer.base_trainer import (
    _BaseTrainer,  # pyright: ignore[reportPrivateUsage] - TRL's trainers all extend it
)
from trl.trainer.utils import disable_dropout_in_model

from rlhf import processes
from rlhf.model.adapters import copy_adapter
from rlhf.model.checks.finite import refuse_non_finite, trained
from rlhf.model.roles import acting_as, only_trainable_train, role_parameters
from rlhf.model.scoring import response_states, token_logprobs
from rlhf.ppo import checkpoints
from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.losses import (
    MicroBatch,
    micro_batches,
    policy_loss,
    update_metrics,
    value_loss,
)
from rlhf.ppo.objectives import Advantages, adapted_kl_coef, explained_variance
from rlhf.rollouts.actors import add_value, load_policy, sampling_engine
from rlhf.rollouts.collector import Collector, Value
from rlhf.rollouts.distributed import (
    Mean,
    add_up_gradients,
    refuse_shards,
    start_alike,
    sum_over_all,
)
from rlhf.rollouts.normaliser import RewardNormaliser
from rlhf.rollouts.prompt_order import PromptOrder, shuffled
from rlhf.rollouts.rewards import RewardFunc, Rewards, listed
from rlhf.rollouts.rollout import Rollout
from rlhf.rollouts.trainer import RolloutTrainer


class PPOTrainer(RolloutTrainer, _BaseTrainer):
    """Proximal policy optimization of an adapter, by rewards from runs and callables.

    Args:
        model: a finished policy run, or a ``PeftModel`` whose adapter ``default`` is the policy; or
            a base together with ``peft_config``. A frozen copy of the adapter is the reference.
        reward_funcs: finished reward runs on the same base, Python callables with TRL's signature
            ``(prompts, completions, completion_ids, **columns) -> list of float``, or several.
            The value starts from the first reward run, and from the policy where there is none.
        args: see :class:`PPOArguments`.
        train_dataset: a ``prompt`` column with text or messages; other columns go to callables.
        eval_dataset: the same, for ``evaluate``.
        processing_class: the tokenizer; that of ``model`` if left out.
        callbacks: of Transformers' Trainer.
        optimizers: an optimizer and a schedule instead of those that ``args`` describe.
        peft_config: the adapter to put on a base.

    Raises:
        RunError, ModelError: a run is unfinished, of another stage or on another base.
    """

    _tag_names = ["trl", "ppo"]  # noqa: RUF012 - TRL's attribute
    _name = "PPO"
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: str | Path | PeftModel,
        reward_funcs: RewardFunc | Sequence[RewardFunc],
        args: PPOArguments | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        processing_class: PreTrainedTokenizerFast | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: PeftConfig | None = None,
    ) -> None:
        self.ppo = args = args or PPOArguments(output_dir="ppo")
        if train_dataset is None or "prompt" not in train_dataset.column_names:
            raise ValueError("train_dataset needs a `prompt` column")
        self.knobs = knobs = args.knobs
        self._order = PromptOrder(train_dataset, knobs, args.seed)
        policy, tokenizer, base = load_policy(model, peft_config)
        self.tokenizer = processing_class or tokenizer
        copy_adapter(policy, "default", "ref")
        self.rewards = Rewards(policy, listed(reward_funcs), args.reward_weights, base)
        value = add_value(policy, self.rewards, knobs.value_model)
        self.value_head = value.head
        # a child of the model, so that gradients are cleared and devices moved with it
        policy.add_module("value_head", self.value_head)
        disable_dropout_in_model(policy)
        only_trainable_train(policy)
        self.kl_coef = knobs.kl_coef
        self._skips_policy = False
        self._step_kl = 0.0
        super().__init__(
            model=policy,
            args=args,
            data_collator=list,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=self.tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        refuse_shards(self.accelerator)
        # several processes: gradients are added up here, and DDP has no place
        make = self.accelerator.prepare_model
        self.accelerator.prepare_model = partial(make, evaluation_mode=True)
        frozen = role_parameters(policy, "reference")
        start_alike([*frozen, *self._policy_parameters, *self._value_parameters])
        self.collector = Collector(
            model=policy,
            tokenizer=self.tokenizer,
            engine=sampling_engine(
                policy, self.tokenizer, knobs, cast("str", args.output_dir), base
            ),
            rewards=self.rewards,
            value=value,
            knobs=knobs,
            args=args,
            autocast=self.compute_loss_context_manager,
            normaliser=RewardNormaliser(knobs.score_norm, knobs.rollout_batch_size),
        )

    # -- collecting ------------------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:  # noqa: ANN401 - an iterable, as Trainer needs it
        """The generator of rollouts, as micro-batches."""
        return _Rollouts(self)

    def rollout_batches(self) -> Iterator[MicroBatch]:
        """Collect, learn, forget: the pieces of every optimizer step that is still to come."""
        knobs = self.knobs
        done = self.state.global_step // self.ppo.steps.per_rollout
        for number in range(done, knobs.num_rollouts):
            rows = self._order.rows(number)
            rollout, metrics = self.collector.collect(rows, number * knobs.rollout_batch_size)
            self.note(metrics)
            advantages = self._advantages(rollout)
            self._adapt_kl_coef(rollout)
            self._skips_policy = number < knobs.value_warmup_rollouts
            for epoch in range(knobs.num_ppo_epochs):
                pieces = micro_batches(
                    rollout,
                    advantages,
                    num_mini_batches=knobs.num_mini_batches,
                    micro_batch_size=self.ppo.steps.piece,
                    weight_cap=knobs.importance_weight_cap,
                    order=shuffled(knobs.rollout_batch_size, self.ppo.seed, number, epoch),
                    share=slice(processes.index(), None, processes.count()),
                )
                for place, piece in enumerate(pieces):
                    # Trainer takes all pieces of a step before it learns from the first
                    yield replace(
                        piece,
                        trains_policy=not self._skips_policy,
                        is_first=epoch == 0 and place < self.ppo.steps.pieces,
                    )
            self.note({"policy/skipped_updates": self._skips_policy})

    def _advantages(self, rollout: Rollout) -> Advantages:
        """What a rollout teaches; how good the value was is taken down."""
        knobs = self.knobs
        advantages = rollout.advantages(
            kl_coef=self.kl_coef,
            gamma=knobs.gamma,
            lam=knobs.lam,
            lam_value=knobs.lam_value,
            whitened=knobs.whiten_advantages,
        )
        assert rollout.values is not None
        explained = explained_variance(rollout.values, advantages.returns, rollout.learnt)
        self.note({"val/explained_variance": explained, "objective/kl_coef": self.kl_coef})
        if (weights := rollout.weights(knobs.importance_weight_cap)) is not None:
            self.note({"sampling/importance_weight": Mean.of(weights[rollout.mask])})
        return advantages

    def _adapt_kl_coef(self, rollout: Rollout) -> None:
        if self.knobs.kl_target is not None:
            self.kl_coef = adapted_kl_coef(
                self.kl_coef,
                rollout.kl.mean().item(),
                target=self.knobs.kl_target,
                horizon=self.knobs.kl_horizon,
                num_responses=self.knobs.rollout_batch_size,
            )

    # -- learning --------------------------------------------------------------------------------

    def training_step(
        self,
        model: nn.Module,
        inputs: Any,  # noqa: ANN401 - a MicroBatch, where Trainer has a dict
        num_items_in_batch: Any = None,  # noqa: ANN401, ARG002
    ) -> Tensor:
        """Gradients of one micro-batch, each role's inside its own block."""
        assert isinstance(inputs, MicroBatch)
        model.train()
        peft, batch = self._peft, inputs.sequences
        of_policy = torch.zeros((), device=self.ppo.device)
        if self._value.is_own:
            if inputs.trains_policy:
                with acting_as(peft, "policy"), self.compute_loss_context_manager():
                    of_policy = self._policy_loss(response_states(peft, batch), inputs)
                    self.accelerator.backward(of_policy)
            with acting_as(peft, "value"), self.compute_loss_context_manager():
                of_value = self._value_loss(response_states(peft, batch), inputs)
                self.accelerator.backward(of_value)
        else:
            with acting_as(peft, "policy"), self.compute_loss_context_manager():
                with torch.set_grad_enabled(inputs.trains_policy):
                    states = response_states(peft, batch)
                of_value = self._value_loss(states.detach(), inputs)
                if inputs.trains_policy:
                    of_policy = self._policy_loss(states, inputs)
                self.accelerator.backward(of_policy + of_value)
        pieces = self.ppo.gradient_accumulation_steps * processes.count()
        self.note(
            {
                "loss/policy": of_policy.detach() * pieces,
                "loss/value": of_value.detach() * pieces,
            }
        )
        if self.accelerator.sync_gradients:
            self._end_step(inputs)
        # Trainer reports the mean over processes
        return (of_policy.detach() + of_value.detach()) * processes.count()

    def _end_step(self, inputs: MicroBatch) -> None:
        """The gradients of all processes; whether all of them have gone too far."""
        if inputs.trains_policy:
            add_up_gradients(self._policy_parameters)
        add_up_gradients(self._value_parameters)
        kl = float(sum_over_all(torch.tensor(self._step_kl, device=self.ppo.device)))
        if self.knobs.stop_kl is not None and kl > self.knobs.stop_kl:
            self._skips_policy = True
        self._step_kl = 0.0

    def _policy_loss(self, states: Tensor, inputs: MicroBatch) -> Tensor:
        knobs, batch = self.knobs, inputs.sequences
        new = token_logprobs(self._peft, states, batch, temperature=knobs.temperature)
        seen = update_metrics(new.detach(), inputs, knobs)
        self.note(seen)
        self._step_kl += float(seen["policy/approxkl"] * inputs.mask.sum() / inputs.num_tokens)
        return policy_loss(new, inputs, knobs)

    def _value_loss(self, states: Tensor, inputs: MicroBatch) -> Tensor:
        return value_loss(self.value_head(states).squeeze(2), inputs, self.knobs)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:  # noqa: ANN401, ARG002
        """Policy and value, each with a learning rate of its own, and nothing else."""
        if self.optimizer is None:
            cls, options = self.get_optimizer_cls_and_kwargs(self.args, cast("Any", self.model))
            decay = {"weight_decay": self.ppo.weight_decay}
            self.optimizer = cls(
                [
                    {"params": self._policy_parameters, **decay},
                    {
                        "params": self._value_parameters,
                        "lr": self.knobs.value_learning_rate,
                        **decay,
                    },
                ],
                **options,
            )
        return self.optimizer

    @property
    def _policy_parameters(self) -> list[nn.Parameter]:
        return role_parameters(self._peft, "policy")

    @property
    def _value_parameters(self) -> list[nn.Parameter]:
        return [*role_parameters(self._peft, "value"), *self.value_head.parameters()]

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:  # noqa: ARG002 - Trainer's signature
        """Each role by itself: a large value loss must not shrink the policy's step."""
        self.accelerator.unscale_gradients()
        most = self.ppo.max_grad_norm
        value = nn.utils.clip_grad_norm_(self._value_parameters, most)
        self.note({"val/grad_norm": value})
        return nn.utils.clip_grad_norm_(self._policy_parameters, most)

    def _get_num_items_in_batch(self, batch_samples: Any, device: Any) -> None:  # noqa: ANN401, ARG002
        return None

    def floating_point_ops(self, inputs: Any) -> int:  # noqa: ANN401, ARG002
        """Not estimated: Transformers' estimate knows one model in one role."""
        return 0

    # -- judging, logging, saving ----------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last log; evaluations stand alone."""
        if not any(key.startswith("eval_") for key in logs):
            logs = {**logs, **self.noted()}
            self.diagnose(logs)
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ANN401, ARG002
        refuse_non_finite(trained(self._peft), self.state.global_step)
        if not self.ppo.should_save:
            return
        folder = Path(output_dir or cast("str", self.ppo.output_dir))
        state = {"kl_coef": self.kl_coef, "normaliser": asdict(self.collector.normaliser)}
        checkpoints.save(self._peft, self.value_head, state, folder)
        self.tokenizer.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ANN401, ARG002
        folder = Path(resume_from_checkpoint)
        state = checkpoints.restore(self._peft, self.value_head, folder)
        self.kl_coef = state["kl_coef"]
        self.collector.normaliser = RewardNormaliser(**state["normaliser"])

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(cast("str", self.state.best_model_checkpoint))

    @property
    def _value(self) -> Value:
        assert self.collector.value is not None
        return self.collector.value

    @property
    def _peft(self) -> PeftModel:
        return cast("PeftModel", self.model)


@dataclass(frozen=True, slots=True)
class _Rollouts:
    """An iterable without a length, which is what Trainer wants of a stream."""

    trainer: PPOTrainer

    def __iter__(self) -> Iterator[MicroBatch]:
        return self.trainer.rollout_batches()
