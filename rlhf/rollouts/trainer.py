"""What all trainers share that learn from rollouts: what they log, and how they evaluate."""

import logging
from collections.abc import Mapping
from typing import Any, cast

from datasets import Dataset
from torch import Tensor

from rlhf import processes
from rlhf.rollouts.collector import Collector
from rlhf.rollouts.diagnostics import Diagnostics
from rlhf.rollouts.distributed import Means
from rlhf.training.distributed_batches import WholeLoss

_log = logging.getLogger(__name__)


class RolloutTrainer(WholeLoss):
    """A trainer with a collector, to stand before one of TRL's."""

    collector: Collector

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of the other
        self._means = Means()
        self._diagnostics: Diagnostics | None = None
        super().__init__(*args, **kwargs)

    def note(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Take numbers down for the next line of the log."""
        self._means.add(metrics)

    def noted(self) -> dict[str, float]:
        """The means of what was taken down, which is forgotten."""
        return self._means.take(self.args.device)

    def diagnose(self, logs: Mapping[str, float]) -> None:
        """Warn of each trouble that the log shows with this line, once."""
        if self._diagnostics is None:
            self._diagnostics = Diagnostics()
            for line in self.state.log_history:  # of before a checkpoint
                self._diagnostics.add(line)
        for sentence in self._diagnostics.add(logs):
            if processes.is_first():
                _log.warning(sentence)

    def evaluate(
        self,
        eval_dataset: Any = None,  # noqa: ANN401 - Trainer's signature
        ignore_keys: Any = None,  # noqa: ANN401, ARG002
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Score, KL, length and share of finished responses: means over held-out prompts."""
        dataset = cast("Dataset", eval_dataset or self.eval_dataset)
        rows = [dict(dataset[i]) for i in range(len(dataset))]
        found = Means()
        for start in range(0, len(rows), size := self.collector.knobs.rollout_batch_size):
            _, seen = self.collector.collect(rows[start : start + size], start, evaluates=True)
            found.add(seen)
        metrics = {
            f"{metric_key_prefix}_{name}": mean
            for name, mean in found.take(self.args.device).items()
            if not name.startswith("time/")
        }
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
