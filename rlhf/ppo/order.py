"""Which prompts a rollout answers, and in which order it is learnt: both follow from the seed."""

import hashlib
import json
from typing import Any

import torch
from datasets import Dataset

from rlhf.ppo.arguments import PPOArguments


class PromptOrder:
    """The prompts of each rollout: every epoch in a new order, none left out."""

    def __init__(self, dataset: Dataset, args: PPOArguments) -> None:
        self._dataset, self._args = dataset, args
        self._orders: dict[int, list[int]] = {}

    def rows(self, number: int) -> list[dict[str, Any]]:
        """The rows of rollout ``number``, each as often as it is to be answered."""
        args, size = self._args, len(self._dataset)
        count = args.rollout_batch_size // args.samples_per_prompt
        rows: list[dict[str, Any]] = []
        for place in range(number * count, (number + 1) * count):
            epoch, offset = divmod(place, size)
            if epoch not in self._orders:
                self._orders = {epoch: shuffled(size, args.seed, epoch)}
            rows += [dict(self._dataset[self._orders[epoch][offset]])] * args.samples_per_prompt
        return rows


def shuffled(size: int, *seeds: int) -> list[int]:
    """An order of ``range(size)`` that follows from ``seeds`` alone."""
    mixed = int.from_bytes(hashlib.sha256(json.dumps(seeds).encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(mixed)
    return torch.randperm(size, generator=generator).tolist()
