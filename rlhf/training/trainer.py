"""What SFT, reward and DPO do otherwise than TRL: checkpoints, and which rows share a batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import trl.trainer.utils
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Sampler

from rlhf.model.adapters import rank_state, restore_ranks
from rlhf.model.checks.base_checks import refuse_other_tensors
from rlhf.model.checks.finite import refuse_non_finite, trained
from rlhf.model.shards import put, whole
from rlhf.training.distributed_batches import Sharing

_TRAINED = "trained.safetensors"
_RANKS = "ranks.safetensors"
_VOTES = ("share", "weight")
_POOL = 16
"""Batches among which rows are sorted by length."""

# On GPUs TRL's output layer works on labelled places only, elsewhere on all of them, for the sake
# of compilers. On a CPU the prompt's logits would take a good part of the time.
cast("Any", trl.trainer.utils)._use_triton = bool


Batch = dict[str, Any]
Collate = Callable[[list[Batch]], Batch]


class StageTrainer(Sharing):
    """A trainer with exact checkpoints and with batches of rows of similar length.

    A checkpoint holds every trainable tensor, whoever made it, and not the base. PEFT's own leave
    out what is ours (score heads) or is needed in training only (p-tuning's encoder, AdaLoRA's
    importances), and restore some adapters frozen.
    """

    _order: "ByLength | None" = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:  # noqa: ANN401
        rows = self.train_dataset  # the argument has lost the columns that the model does not read
        if self.args.train_sampling_strategy != "random" or not isinstance(rows, Dataset):
            return super()._get_train_sampler(train_dataset)
        size = self._train_batch_size * self.accelerator.num_processes
        step = size * self.args.gradient_accumulation_steps
        self._order = ByLength(rows["length"], step, self.args.seed)
        return self._order

    def _run_epoch(self, model: Any, epoch: int, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
        if self._order is not None:
            # where several processes resume, accelerate does not find it to tell it
            self._order.set_epoch(epoch)
        return super()._run_epoch(model, epoch, *rest, **named)

    @property
    def network(self) -> nn.Module:
        """The model, unwrapped."""
        return cast("nn.Module", self.model)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write what a checkpoint holds of the model, whatever the model is wrapped in.

        Raises:
            ModelError: something that was trained is no number any more.
        """
        refuse_non_finite(trained(self.network), self.state.global_step)
        if self.is_deepspeed_enabled:  # its engine has checkpoints of its own
            super().save_model(output_dir, _internal_call)
            return
        weights, ranks = whole(dict(trained(self.network))), whole(rank_state(self.network))
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, folder / _TRAINED)
        if ranks:
            save_file(ranks, folder / _RANKS)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        state = load_file(Path(resume_from_checkpoint) / _TRAINED)
        there = dict(trained(self.network))
        refuse_other_tensors(
            there.keys() - state.keys(),
            state.keys() - there.keys(),
            resume_from_checkpoint,
            "put the file back that the run wrote, or delete the checkpoint",
        )
        for name, tensor in there.items():
            put(tensor, state[name])
        ranks = Path(resume_from_checkpoint) / _RANKS
        if ranks.exists():
            restore_ranks(self.network, load_file(ranks))

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def create_model_card(self, *_: object, **__: object) -> None:
        """Nothing: a run writes one card, at its end."""


class PairStageTrainer(StageTrainer):
    """The same where the loss is a mean over pairs; a batch is the chosen, then the rejected."""

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **named)
        self.data_collator = partial(_with_votes, collate=cast("Collate", self.data_collator))

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns = self._signature_columns
        self._signature_columns = [*columns, *(name for name in _VOTES if name not in columns)]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:  # noqa: ANN401
        """The micro-batches of one optimizer step, and its number of pairs over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        pairs = sum(len(batch["input_ids"]) // 2 for batch in batches)
        return batches, pairs * self.accelerator.num_processes - self.num_filled

    def of_step(self, mean: torch.Tensor, batch: Mapping[str, Any], count: Any) -> torch.Tensor:  # noqa: ANN401
        """What the ``mean`` over a micro-batch contributes to that over the step's ``count`` pairs.

        Gradients are averaged over processes afterwards, hence their number. Where nothing is
        learnt there is no count.
        """
        if count is None:
            return mean
        return mean * (len(batch["input_ids"]) // 2 * self.accelerator.num_processes / count)


class ByLength(Sampler[int]):
    """A new order in every epoch, in which neighbours are of similar length, to pad less.

    The order follows from seed and epoch alone, so that a resumed epoch is the same epoch.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._size, self._seed = list(lengths), batch_size, seed
        self._epoch = 0

    def __len__(self) -> int:
        """Every row, once."""
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Shuffle rows, sort them within pools, shuffle the batches; the short one comes last."""
        generator = torch.Generator().manual_seed(hash((self._seed, self._epoch)) & 0xFFFFFFFF)

        def shuffled(count: int) -> list[int]:
            return torch.randperm(count, generator=generator).tolist()

        rows, pool = shuffled(len(self)), _POOL * self._size
        pools = [rows[i : i + pool] for i in range(0, len(rows), pool)]
        for each in pools:
            each.sort(key=lambda row: self._lengths[row])
        ordered = [row for each in pools for row in each]
        whole = len(ordered) // self._size
        for batch in [*shuffled(whole), whole]:
            yield from ordered[batch * self._size : (batch + 1) * self._size]


def loss_of_votes(lead: torch.Tensor, share: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Loss of each pair whose chosen response has a ``share`` of the votes (Bradley and Terry).

    ``weight`` * (``share`` * -log sigmoid(``lead``) + (1 - ``share``) * -log sigmoid(-``lead``)),
    where ``lead`` is by how much the chosen response is better; all of shape (pairs,). It is least
    at a lead of log(share / (1 - share)).
    """
    return weight * ((1 - share) * lead - nn.functional.logsigmoid(lead))


def _with_votes(rows: list[Batch], collate: Collate) -> Batch:
    """A batch that keeps the columns of the votes, which TRL's collators drop."""
    votes = {name: torch.tensor([row[name] for row in rows]) for name in _VOTES if name in rows[0]}
    return {**collate(rows), **votes}
