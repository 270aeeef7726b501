"""What RLOO, GRPO and online DPO share: TRL's losses on responses that PPO's collector drew.

The same prompts in the same order, the same sampler, reference, reward, units and metrics as PPO,
so that what differs between two runs is the method.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.utils.data import Sampler
from transformers import Trainer, TrainingArguments, set_seed

from rlhf.config import OnlineConfig
from rlhf.config.online import Steps
from rlhf.data.prepare import load
from rlhf.model.adapters import copy_adapter, refuse, unrounded
from rlhf.model.engine.engines import InProcess
from rlhf.model.roles import ADAPTER_OF, only_trainable_train
from rlhf.model.scoring import Sequences
from rlhf.model.start import Start, load_start
from rlhf.records import Prompt
from rlhf.report import write_run_report
from rlhf.rollouts.collector import Collector
from rlhf.rollouts.normaliser import RewardNormaliser
from rlhf.rollouts.prompt_order import PromptOrder
from rlhf.rollouts.rewards import Rewards
from rlhf.rollouts.rollout import Rollout
from rlhf.rollouts.sources import prompts_that_fit, reward_parents, rewards_of
from rlhf.rollouts.trainer import RolloutTrainer
from rlhf.runs import Run, new_run
from rlhf.training.arguments import (
    precision,
    refuse_launcher,
    save_trained,
    train,
    training_arguments,
    within_context,
)
from rlhf.training.samples import record_samples
from rlhf.training.trainer import StageTrainer

_NORMALISER = "reward_normaliser.json"
_NAMED = {
    "clip_ratio/region_mean": "policy/clipfrac",
    "frac_reward_zero_std": "policy/groups_without_signal",
    **{name: name for name in ("loss", "grad_norm", "learning_rate", "epoch")},
    **{name: name for name in ("rewards/accuracies", "rewards/margins")},
}
"""What is logged of that which TRL logs, under our names; the collector measures the rest."""


@dataclass(frozen=True, slots=True)
class Method:
    """One of TRL's methods, and how its arguments follow from ours."""

    stage: str
    trainer: type["OnlineTrainer"]
    arguments: type[TrainingArguments]
    knobs: Callable[[Any, Steps], dict[str, Any]]
    """From the stage's config, and how it steps, to TRL's arguments."""


def run_online(method: Method, config: OnlineConfig, *, resume: bool) -> Path:
    """Align the policy with a reward model by ``method``; the finished run folder."""
    refuse_launcher(method.stage)
    set_seed(config.seed)
    start = Start.of_run(config.policy)
    refuse(method.stage, start.tuning)
    parents = reward_parents(config)
    records = load(config.data, Prompt)
    with new_run(method.stage, config, parents=parents, resume=resume) as folder:
        model, tokenizer = load_start(start)
        assert isinstance(model, PeftModel)
        data = within_context(config.data, model)
        rows, held_out = (
            prompts_that_fit(prompts, tokenizer, data, config.max_new_tokens) if prompts else None
            for prompts in (records.train, records.eval)
        )
        passed_on = RewardPassthrough()
        with unrounded(model):
            trainer = method.trainer(
                model=model,
                reward_funcs=passed_on,
                args=_arguments(method, config, folder, start, evaluates=held_out is not None),
                train_dataset=rows,
                eval_dataset=held_out,
                processing_class=tokenizer,
            )
        copy_adapter(model, ADAPTER_OF["policy"], ADAPTER_OF["reference"])
        rewards = Rewards(model, *rewards_of(config), start.fingerprint)
        trainer.begin(config, rewards, passed_on)
        folder.record(base=start.facts(), data=records.files, records=records.notes)
        train(trainer, folder, config)
        save_trained(model, tokenizer, folder)
        record_samples(folder, model, tokenizer, records.eval or records.train)
    write_run_report(config.out)
    return Path(config.out)


def _arguments(
    method: Method, config: OnlineConfig, folder: Run, start: Start, *, evaluates: bool
) -> TrainingArguments:
    """TRL's, such that it collects, steps, saves and evaluates as PPO would."""
    steps = Steps.of(config, config.per_device_train_batch_size)
    fixed = {
        "max_steps": steps.total,
        "per_device_train_batch_size": steps.piece,
        "gradient_accumulation_steps": steps.pieces,
        "save_steps": steps.whole_rollouts(config.save_steps),
        "eval_steps": steps.whole_rollouts(config.eval_steps),
        "temperature": config.temperature,
        "disable_dropout": True,
        "remove_unused_columns": False,
        "metric_for_best_model": "eval_objective/scores",
        "greater_is_better": True,
        **precision(start),
    }
    return training_arguments(
        method.arguments,
        config,
        folder,
        evaluates=evaluates,
        **(fixed | method.knobs(config, steps)),
    )


class RewardPassthrough:
    """What TRL has for a reward function: it repeats what the collector found."""

    rewards: Sequence[float] = ()

    def __call__(self, **_: Any) -> Sequence[float]:  # noqa: ANN401 - TRL's signature
        """One reward per response, in the order in which they were drawn."""
        return self.rewards


class OnlineTrainer(RolloutTrainer, StageTrainer):
    """One of TRL's trainers, learning from what PPO's collector drew and judged.

    A subclass stands before TRL's and puts :meth:`collect` where TRL would sample.
    """

    config: OnlineConfig
    passed_on: RewardPassthrough
    rollout: Rollout

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - those of TRL's trainer
        self._num_drawn: int | None = None
        super().__init__(**kwargs)

    def begin(self, config: OnlineConfig, rewards: Rewards, passed_on: RewardPassthrough) -> None:
        """Take PPO's collector, without a value."""
        model = cast("PeftModel", self.network)
        self.config, self.passed_on = config, passed_on
        tokenizer = cast("Any", self.processing_class)
        self.collector = Collector(
            model=model,
            tokenizer=tokenizer,
            engine=InProcess(model, tokenizer),
            rewards=rewards,
            value=None,
            knobs=config,
            args=self.args,
            autocast=self.compute_loss_context_manager,
            normaliser=RewardNormaliser(config.score_norm, config.rollout_batch_size),
        )
        only_trainable_train(model)

    @property
    def steps(self) -> Steps:
        """How rollouts become optimizer steps."""
        return Steps.of(self.config, self.config.per_device_train_batch_size)

    @property
    def uses_of_rollout(self) -> int:
        """How often TRL asks for the prompts of one rollout."""
        return 1

    @property
    def repeats_of_prompt(self) -> int:
        """How often a prompt stands in a rollout's rows."""
        return 1

    def collect(self, rows: Sequence[Mapping[str, Any]]) -> Rollout:
        """Draw and judge one response per row, take down what they are like, and keep them."""
        if self._num_drawn is None:  # at the start, or where a checkpoint left off
            share = self.config.rollout_batch_size // self.steps.per_rollout
            self._num_drawn = self.state.global_step * share
        training = self.network.training
        self.rollout, metrics = self.collector.collect(rows, self._num_drawn)
        self.network.train(training)
        self._num_drawn += len(rows)
        self.note(metrics)
        return self.rollout

    def measured_by_trl(self) -> dict[str, list[float]]:
        """What TRL keeps for the next line of its own log; it is forgotten."""
        return {}

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:  # noqa: ANN401, ARG002
        order = PromptOrder(cast("Dataset", self.train_dataset), self.config, self.config.seed)
        repeats, uses = self.repeats_of_prompt, self.uses_of_rollout
        return _Prompts(order, self.config.num_rollouts, repeats, uses)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """PPO's names for what TRL knows; evaluations stand alone."""
        if "loss" in logs:
            theirs = logs | {k: sum(v) / len(v) for k, v in self.measured_by_trl().items() if v}
            logs = {ours: theirs[name] for name, ours in _NAMED.items() if name in theirs}
            logs |= self.noted()
            self.diagnose(logs)
        Trainer.log(self, logs, start_time)  # past TRL's, which would add its own names

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the units of scores beside what a checkpoint holds of the model."""
        super().save_model(output_dir, _internal_call)
        folder = Path(output_dir or str(self.args.output_dir))
        (folder / _NORMALISER).write_text(json.dumps(asdict(self.collector.normaliser)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ANN401
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = json.loads((Path(resume_from_checkpoint) / _NORMALISER).read_text())
        self.collector.normaliser = RewardNormaliser(**state)


@dataclass(frozen=True, slots=True)
class _Prompts(Sampler[int]):
    """The prompts that PPO would answer, rollout by rollout; the whole training is one epoch."""

    order: PromptOrder
    num_rollouts: int
    repeats: int
    uses: int

    def __iter__(self) -> Iterator[int]:
        for number in range(self.num_rollouts):
            rows = [i for i in self.order.indices(number) for _ in range(self.repeats)]
            yield from rows * self.uses

    def __len__(self) -> int:
        return self.num_rollouts * len(self.order.indices(0)) * self.repeats * self.uses


def joined(ids: Tensor, mask: Tensor, num_last: int) -> Sequences:
    """Prompts padded on the left with ``num_last`` columns of responses padded on the right."""
    there = mask.bool()
    together = (~there).int().argsort(dim=1, stable=True)  # what exists moves to the front
    width = int(there.sum(dim=1).max())
    starts = there[:, :-num_last].sum(dim=1, keepdim=True)
    steps = torch.arange(num_last, device=ids.device)
    return Sequences(
        ids.gather(1, together)[:, :width],
        there.gather(1, together)[:, :width],
        (starts + steps).clamp(max=width - 1),
        there[:, -num_last:],
    )
