"""How much of each source a mixture holds."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def weighted(items: Sequence[T], weight: float) -> list[T]:
    """``items`` as often as ``weight`` says: 2 is twice, 0.5 is every second one, at random.

    The draw is the same in every run and keeps the order.
    """
    whole, part = divmod(weight, 1)
    drawn = random.Random(0).sample(range(len(items)), round(part * len(items)))
    return [*items] * int(whole) + [items[index] for index in sorted(drawn)]
