from hypothesis import given
from hypothesis import strategies as st

from rlhf.training.trainer import ByLength

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=200)


@given(lengths, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_every_row_comes_once_in_every_epoch(lengths, size, seed, epoch):
    sampler = ByLength(lengths, size, seed)
    sampler.set_epoch(epoch)
    assert sorted(sampler) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)


def padded(order: list[int], lengths: list[int], size: int) -> int:
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


def test_rows_of_similar_length_share_a_batch():
    lengths = [1 + (7919 * i) % 100 for i in range(400)]
    real = sum(lengths)
    assert padded(list(range(400)), lengths, 8) > 1.6 * real
    assert padded(list(ByLength(lengths, 8, 0)), lengths, 8) < 1.15 * real


def test_the_order_follows_from_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = ByLength(list(range(1, 60)), 4, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1, 2) for epoch in (0, 1, 2)}) == 9


def test_batches_do_not_come_in_the_order_of_their_lengths():
    lengths = list(range(1, 65))
    firsts = [lengths[row] for row in list(ByLength(lengths, 4, 0))[::4]]
    assert firsts != sorted(firsts)
