"""How often somebody may ask, and how often somebody may guess a password."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from rlhf.errors import RLHFError

Clock = Callable[[], float]


class TooMany(RLHFError):  # noqa: N818 - 429 Too Many Requests
    """The caller must wait for ``seconds``."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(f"{message}; try again in {seconds} s")
        self.seconds = seconds


class Throttled(TooMany):
    """Too many wrong passwords."""

    def __init__(self, seconds: int) -> None:
        super().__init__("too many wrong passwords", seconds)


class Throttle:
    """After a few free tries each further one must wait twice as long, up to ``longest`` s."""

    def __init__(
        self, *, free: int = 5, longest: float = 300.0, clock: Clock = time.monotonic
    ) -> None:
        self._free, self._longest, self._clock = free, longest, clock
        # the latest try last, so that what may be forgotten is at the front
        self._failures: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def try_at(self, key: str) -> None:
        """Count a try at ``key`` as failed until it succeeds; refuse it while ``key`` must wait."""
        now = self._clock()
        with self._lock:
            while self._failures:
                oldest = next(iter(self._failures))
                if now - self._failures[oldest][1] <= 3600:
                    break
                del self._failures[oldest]
            failures, last = self._failures.get(key, (0, now))
            wait = min(self._longest, 2.0 ** min(failures - self._free, 30)) - (now - last)
            if failures >= self._free and wait > 0:
                raise Throttled(int(wait) + 1)
            self._failures.pop(key, None)
            self._failures[key] = (failures + 1, now)

    def succeeded(self, key: str) -> None:
        """Forget the failures of ``key``."""
        with self._lock:
            self._failures.pop(key, None)


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much of something is not too much: so many per second in the long run, and at once."""

    what: str
    per_second: float
    burst: int


PER_ACCOUNT = Allowance("requests by your account", 120.0, 600)
"""A program that asks and answers 50 times a second stays below it for good."""

PER_ADDRESS = Allowance("requests from your address", 1000.0, 5000)
"""Many raters may share one address."""

SIGN_INS = Allowance("sign-ins from your address", 5.0, 200)
"""To hash a password is work for us, and to guess names is easy for others."""


PROMPTS = Allowance("prompts by your account", 0.2, 20)
"""Each keeps a model busy for a while; who reads both answers asks less often."""


class Rate:
    """Counts requests, for each key apart, against an allowance."""

    def __init__(self, allowance: Allowance, *, clock: Clock = time.monotonic) -> None:
        self._what, self._clock = allowance.what, clock
        self._step = 1 / allowance.per_second
        self._ahead = allowance.burst * self._step
        # For each key, when its allowance will be whole again (generic cell rate algorithm).
        self._whole_at: dict[str, float] = {}
        self._clean_at = 20_000
        self._lock = threading.Lock()

    def spend(self, key: str) -> None:
        """Count one request.

        Raises:
            TooMany: if it is one too many; it is not counted then.
        """
        now = self._clock()
        with self._lock:
            if len(self._whole_at) > self._clean_at:
                self._whole_at = {k: at for k, at in self._whole_at.items() if at > now}
                # twice as many as are left, so that a request walks past two keys on average
                self._clean_at = max(20_000, 2 * len(self._whole_at))
            after = max(now, self._whole_at.get(key, now)) + self._step
            # a whole number of steps must not fail by a rounding error
            if after - now > self._ahead + self._step / 2:
                raise TooMany(f"too many {self._what}", ceil(after - now - self._ahead))
            self._whole_at[key] = after
