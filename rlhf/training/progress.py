"""What is seen of a training while it runs: a bar on stderr, and the page of the run."""
# ruff: noqa: ARG002, ANN401 - the signatures are those of Transformers

import time
from collections.abc import Mapping
from typing import Any, cast

from torch import nn
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from rlhf import processes
from rlhf.model.adapters import allocate_ranks, schedule_ranks
from rlhf.model.checks.finite import refuse_non_finite, trained
from rlhf.report import write_live_report
from rlhf.runs import Run

_PAGE_EVERY = 10.0
"""Seconds."""
_SHOWN = ("loss", "eval_loss", "eval_accuracy", "eval_rewards/accuracies")


class Progress(TrainerCallback):
    """Follows a training from its first step to an evaluation at the very end."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._bar: tqdm[Any] | None = None
        self._latest: dict[str, str] = {}
        self._next_page = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar (on a terminal only); tell AdaLoRA how many steps there are."""
        if processes.count() > 1:
            # the same dropout everywhere would be less of it; the order of the rows, which must be
            # the same everywhere, has been drawn
            set_seed(args.seed + processes.index())
        schedule_ranks(cast("nn.Module", kwargs["model"]), state.max_steps)
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            disable=None if state.is_world_process_zero else True,
            dynamic_ncols=True,
        )

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let AdaLoRA prune while the gradients are there."""
        allocate_ranks(cast("nn.Module", kwargs["model"]), state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar; evaluate after the last step, even if ``eval_steps`` does not divide it.

        Raises:
            ModelError: something that is trained is no number any more; looked at with every line
                of the log, in which Transformers leaves out losses that are NaN.
        """
        if control.should_log or control.should_evaluate or control.should_save:
            refuse_non_finite(trained(cast("nn.Module", kwargs["model"])), state.global_step)
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)
        if state.global_step >= state.max_steps and args.do_eval:
            control.should_evaluate = True

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """One line in the run's metrics; now and then, the page that plots them."""
        logs = cast("Mapping[str, float]", kwargs["logs"])
        self._run.log(logs, state.global_step)
        now = time.monotonic()
        if self._run.writes and now >= self._next_page:
            self._next_page = now + _PAGE_EVERY
            write_live_report(self._run, f"step {state.global_step} of {state.max_steps}")
        self._latest |= {name: f"{logs[name]:.4g}" for name in _SHOWN if name in logs}
        if self._bar is not None:
            self._bar.set_postfix(self._latest)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
