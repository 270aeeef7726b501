import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling_ui.accounts.rate_limits import (
    PER_ACCOUNT,
    PER_ADDRESS,
    SIGN_INS,
    Allowance,
    Rate,
    Throttle,
    TooMany,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def passed(rate: Rate, count: int, key: str = "ann") -> int:
    """How many of ``count`` requests at once get through."""
    done = 0
    for _ in range(count):
        try:
            rate.spend(key)
        except TooMany:
            continue
        done += 1
    return done


def test_a_burst_passes_and_what_is_more_must_wait_as_long_as_it_is_told():
    clock = Clock()
    rate = Rate(Allowance("requests", 2.0, 10), clock=clock)
    assert passed(rate, 25) == 10
    with pytest.raises(TooMany, match="too many requests; try again in 1 s") as refused:
        rate.spend("ann")
    clock.now += refused.value.seconds
    assert passed(rate, 25) == 2  # two per second


def test_one_who_asks_too_often_does_not_slow_another():
    rate = Rate(Allowance("requests", 1.0, 3), clock=Clock())
    assert passed(rate, 5, "ann") == 3
    assert passed(rate, 5, "bob") == 3


def test_after_a_rest_the_whole_burst_is_there_again_and_no_more():
    clock = Clock()
    rate = Rate(Allowance("requests", 2.0, 10), clock=clock)
    passed(rate, 10)
    clock.now += 3600
    assert passed(rate, 25) == 10


@given(
    st.floats(0.5, 200),
    st.integers(1, 50),
    st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=200),
)
def test_never_more_pass_than_the_burst_and_the_time_allow(per_second, burst, pauses):
    clock = Clock()
    rate = Rate(Allowance("requests", per_second, burst), clock=clock)
    done = 0
    for pause in pauses:
        clock.now += pause
        done += passed(rate, 3)
    allowed = burst + per_second * (clock.now - 1000.0)
    assert min(3 * len(pauses), burst) <= done <= allowed + 1


def test_memory_does_not_grow_with_those_who_came_once():
    clock = Clock()
    rate = Rate(Allowance("requests", 1.0, 3), clock=clock)
    for number in range(60_000):
        clock.now += 1
        rate.spend(str(number))
    assert len(rate._whole_at) <= 20_001


class Counting(float):
    """A time that counts how often it is compared or subtracted from."""

    done = 0

    def __lt__(self, other):
        Counting.done += 1
        return float(self) < other

    def __sub__(self, other):
        Counting.done += 1
        return float(self) - other


@pytest.mark.parametrize("kind", ["rate", "throttle"])
def test_the_cost_of_a_request_does_not_grow_with_how_many_others_ask(kind):
    clock = Clock()
    rate = Rate(Allowance("requests", 1e-4, 3), clock=lambda: Counting(clock.now))
    limit = rate.spend if kind == "rate" else Throttle(clock=lambda: Counting(clock.now)).try_at
    for number in range(25_000):
        limit(f"one of many {number}")
    Counting.done = 0
    for number in range(1000):
        clock.now += 0.01
        limit(f"another {number}")
    assert Counting.done < 10 * 1000


def test_a_program_that_votes_50_times_a_second_for_a_minute_passes():
    clock = Clock()
    rates = [Rate(allowance, clock=clock) for allowance in (PER_ACCOUNT, PER_ADDRESS)]
    for _ in range(60 * 50):
        clock.now += 1 / 50
        for rate in rates:
            rate.spend("script")  # asks
            rate.spend("script")  # answers


def test_a_class_of_raters_signs_in_at_once_and_a_guesser_of_names_does_not_go_on():
    rate = Rate(SIGN_INS, clock=Clock())
    assert passed(rate, 1000) == 200
