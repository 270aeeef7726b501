"""What several processes that train one policy tell each other; alone, each of these does nothing.

Each process samples and scores its share of a rollout. Then all of them know the whole rollout, so
that whatever is reckoned over it (units, advantages, whitening, KL) is what one process would find,
and each learns from its share of every optimizer step. Gradients are added up once per step: of
adapters that is little to send, and DDP, which expects one forward and one backward in between,
is not needed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Self, TypeVar, cast

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast, gather, gather_object, pad_across_processes, reduce
from torch import Tensor, nn

from rlhf import processes
from rlhf.errors import ConfigError

T = TypeVar("T")


def refuse_shards(accelerator: Accelerator) -> None:
    """Say so where a launcher asks for what PPO cannot do.

    Raises:
        ConfigError: it shards the model, or the processes do not know of each other.
    """
    kind = accelerator.distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ConfigError(
            f"PPO calls four roles on one model, which {kind.value} would have in pieces; launch "
            "it with configs/accelerate/ddp.yaml, and where memory is short train tuning: qlora"
        )
    if accelerator.num_processes != processes.count():
        raise ConfigError(
            f"{processes.count()} processes were launched and each would train alone; without a "
            "GPU, set use_cpu=True"
        )


def share(rows: Sequence[T]) -> tuple[list[T], int]:
    """The rows of this process, as many as any other's, and the number of the first.

    Where they do not divide, the last one stands in; :func:`of_all` leaves it out again.
    """
    count = -(-len(rows) // processes.count())
    first = processes.index() * count
    return [rows[min(i, len(rows) - 1)] for i in range(first, first + count)], first


def lists_of_all(own: Sequence[T], num_rows: int) -> list[T]:
    """Something of every row, from the shares."""
    if processes.count() == 1:
        return list(own)
    return cast("list[T]", gather_object(list(own)))[:num_rows]


def of_all(own: Tensor, like: Tensor) -> Tensor:
    """(batch) or (batch, response) from the shares; ``like`` has its shape and no gaps."""
    if processes.count() == 1:
        return own
    whole = cast("Tensor", gather(pad_across_processes(own.contiguous(), dim=1)))
    return whole[: len(like)] if own.dim() == 1 else whole[: len(like), : like.shape[1]]


def sum_over_all(numbers: Tensor) -> Tensor:
    """The same numbers, added up over the processes."""
    return cast("Tensor", reduce(numbers, "sum"))


def add_up_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Make each gradient the sum over the processes, all of them in one message.

    Where a process has none (no token of its came by an expert, say), it adds nothing.
    """
    if processes.count() == 1:
        return
    held = list(parameters)
    for parameter in held:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    grads = [cast("Tensor", parameter.grad) for parameter in held]
    total = sum_over_all(torch.cat([grad.flatten() for grad in grads]))
    for grad, added in zip(grads, total.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(added.view_as(grad))


def start_alike(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the first one's weights: a new adapter's are random."""
    for parameter in parameters:
        parameter.data.copy_(cast("Tensor", broadcast(parameter.data.clone())))


class Mean(float):
    """A mean, and over how many it is."""

    count: float

    def __new__(cls, value: float, count: float = 1.0) -> Self:
        """``value`` as the mean of ``count``."""
        made = super().__new__(cls, value)
        made.count = count
        return made

    @classmethod
    def of(cls, numbers: Tensor) -> Self:
        """Over those that are not NaN; NaN over none."""
        there = numbers[~numbers.isnan()]
        return cls(there.mean().item() if len(there) else math.nan, len(there))


class Means:
    """Metrics since the last time that somebody asked, of all processes."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Take down one value of each, or a :class:`Mean` over several.

        All processes take down the same names.
        """
        for name, value in metrics.items():
            count = value.count if isinstance(value, Mean) else 1.0
            total = float(value) * count if count else 0.0
            one = torch.tensor([total, count], dtype=torch.float64)
            self._sums[name] = self._sums.get(name, 0.0) + one

    def take(self, device: torch.device) -> dict[str, float]:
        """The means over all that was taken down, which is forgotten; none of nothing."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values()))
        if processes.count() > 1:  # alone on a device without fp64, they stay here
            sums = sum_over_all(sums.to(device)).cpu()
        named = zip(self._sums, sums.tolist(), strict=True)
        means = {name: total / count for name, (total, count) in named if count}
        self._sums = {}
        return means
