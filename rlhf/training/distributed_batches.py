"""The rows of an optimizer step, shared out among processes and micro-batches."""

from typing import Any, cast

from torch import nn
from transformers import Trainer

from rlhf.model.checks.finite import refuse_non_finite, trained


class WholeLoss(Trainer):
    """A trainer whose ``train_loss`` is that of all processes, also of steps not logged yet."""

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Trainer's
        self._tr_loss: Any = self.accelerator.reduce(self._tr_loss, reduction="mean")
        return super()._finalize_training(*args, **kwargs)


class Sharing(WholeLoss):
    """A trainer whose step is the same whether one process takes it or several together.

    Where an epoch does not divide evenly, accelerate fills up its last batches with rows from its
    beginning. Nothing is learnt from those here, and no mean that is learnt from counts them.
    """

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:  # noqa: ANN401
        """The micro-batches of one optimizer step, and how many items its loss is a mean over."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and self.num_filled:
            size = self._train_batch_size
            behind = (self.accelerator.num_processes - 1 - self.accelerator.process_index) * size
            left_out = min(max(self.num_filled - behind, 0), size)
            self.leave_out(batches[-1], size - left_out)
            # what accelerate cuts off metrics would be of a batch that is not the last one fetched
            loader: Any = self.accelerator.gradient_state.active_dataloader
            loader.remainder = 0
            count = self._get_num_items_in_batch(batches, device)
        return batches, count

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write a checkpoint's model.

        Raises:
            ModelError: something that was trained is no number any more.
        """
        refuse_non_finite(trained(cast("nn.Module", self.model)), self.state.global_step)
        super().save_model(output_dir, _internal_call)

    def leave_out(self, batch: dict[str, Any], first: int) -> None:
        """Let nothing be learnt from the rows of ``batch`` from ``first`` on."""
        batch["labels"][first:] = -100

    @property
    def num_filled(self) -> int:
        """How many rows, over all processes, fill up the micro-batch that was fetched last."""
        processes = self.accelerator.num_processes
        at_end = self.accelerator.gradient_state.end_of_dataloader
        if processes == 1 or self.args.dataloader_drop_last or not at_end:
            return 0
        rows: Any = self.train_dataset
        return -len(rows) % (self._train_batch_size * processes)
