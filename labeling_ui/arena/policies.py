"""Policies that answer live, side by side; shared by everything on one server that asks them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from rlhf.records import Message, Prompt, Response

MAX_PROMPT = 8000
MAX_ANSWER = 256
"""Tokens."""


class Policies(Protocol):
    """Policies that answer live."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name for each, in the order in which they were given."""
        ...

    def stream(self, name: str, messages: tuple[Message, ...]) -> Iterator[str]:
        """The growing answer of one policy."""
        ...

    def respond(self, name: str, prompts: Sequence[Prompt], sampling: Any) -> list[str]:  # noqa: ANN401
        """One response of a policy to each prompt."""
        ...


PolicyLoader = Callable[[Sequence[Path]], Policies]


def load_policies(runs: Sequence[Path]) -> Policies:
    """Policies from run folders; torch is imported here, when somebody asks for an answer."""
    from rlhf.model.policies import load_policies as load

    return load(list(runs))


class Live:
    """The policies of a server, in memory once somebody has asked one."""

    def __init__(self, runs: Sequence[Path], loader: PolicyLoader = load_policies) -> None:
        self.runs = tuple(runs)
        self._loader = loader
        self._loaded: Policies | None = None
        self._lock = threading.Lock()

    def policies(self) -> Policies:
        """All of them, loaded by whoever comes first."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._loader(self.runs)
            return self._loaded

    def answers(
        self, left: int, right: int, messages: tuple[Message, ...]
    ) -> Iterator[tuple[str, str]]:
        """What two of them, by number, answer, as it grows."""
        policies = self.policies()
        names = policies.names
        streams = [policies.stream(names[number], messages) for number in (left, right)]
        return side_by_side(*streams)

    def respond(self, number: int, prompts: Sequence[Prompt], first: int) -> list[Response]:
        """One response of the policy of that number to each prompt, drawn alike every time.

        ``first`` is the number of the first prompt, where others came before it.
        """
        from rlhf.model.engine.generate import Sampling  # with torch, which a server may do without

        policies = self.policies()
        name = policies.names[number]
        texts = policies.respond(name, prompts, Sampling(MAX_ANSWER, seed=number, first=first))
        return [Response(text, name) for text in texts]


def side_by_side(left: Iterator[str], right: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Both answers as they grow, one step each in turn."""
    shown = ("", "")
    for step in zip_longest(left, right):
        shown = (step[0] or shown[0], step[1] or shown[1])
        yield shown
