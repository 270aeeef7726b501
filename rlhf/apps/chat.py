"""Talk to a policy at the terminal, for a look by hand."""

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, TextIO

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlhf.config import STRICT, Count, NonNegative
from rlhf.errors import DataError
from rlhf.model.engine.generate import Sampling
from rlhf.model.policies import Policies, load_policies
from rlhf.records import Message, Prompt

HELP = "/reset starts a new conversation, /quit ends; Ctrl-C cuts an answer off"
_LEAST_ROOM = 32
"""Tokens; with less room for the answer, the oldest turns are forgotten."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ChatOptions:
    """Who answers, and how."""

    run: str
    """A run folder or a base."""
    system: str | None = None
    """A system message that opens every conversation."""
    max_new_tokens: Count = 256
    temperature: NonNegative = 1.0
    seed: Annotated[int, Field(ge=0)] | None = None


def run(options: ChatOptions, *, stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
    """Answer each line of ``stdin`` on ``stdout`` until ``/quit`` or the end.

    At a terminal there is a prompt and a hint; in a pipe, answers only, one after the other.
    """
    asked, said = stdin or sys.stdin, stdout or sys.stdout
    policies = load_policies([options.run])
    opening = (Message("system", options.system),) if options.system else ()
    chat = Chat(policies, options, opening)
    if asked.isatty():
        _note(f"{policies.names[0]}: {HELP}")
    for line in _lines(asked):
        if line == "/quit":
            return
        if line == "/reset":
            chat = Chat(policies, options, opening)
        elif line:
            chat.answer(line, said)


class Chat:
    """One conversation."""

    def __init__(
        self, policies: Policies, options: ChatOptions, opening: Sequence[Message]
    ) -> None:
        self._policies, self._options = policies, options
        self._opening, self._turns = tuple(opening), list[Message]()

    def answer(self, line: str, said: TextIO) -> None:
        """Write the answer to ``line`` as it grows, and remember both.

        An answer that Ctrl-C cuts off is remembered as far as it was written.
        """
        self._turns.append(Message("user", _clean(line)))
        room = self._make_room()
        if room < 1:
            self._turns.pop()
            _note("the message leaves the model no room to answer in its context; shorten it")
            return
        written = ""
        try:
            for text in self._stream(room):
                shown = _settled(text)
                said.write(shown[len(written) :])
                said.flush()
                written = shown
        except DataError as error:  # nothing was written yet
            self._turns.pop()
            _note(str(error))
            return
        except KeyboardInterrupt:
            _note("…")
        said.write("\n")
        said.flush()
        self._turns.append(Message("assistant", written))

    def _stream(self, room: int) -> Iterator[str]:
        options = self._options
        most = min(options.max_new_tokens, room)
        sampling = Sampling(most, options.temperature, options.seed)
        [name] = self._policies.names
        return self._policies.stream(name, (*self._opening, *self._turns), sampling)

    def _make_room(self) -> int:
        """Forget the oldest turns until an answer fits; how many tokens it may have."""
        [name] = self._policies.names
        while True:
            room = self._policies.room(name, Prompt((*self._opening, *self._turns)))
            if room >= min(self._options.max_new_tokens, _LEAST_ROOM) or len(self._turns) == 1:
                return room
            del self._turns[:2]
            _note("the oldest turns no longer fit and are forgotten")


def _lines(asked: TextIO) -> Iterator[str]:
    """What is typed, line by line; Ctrl-C at the prompt ends it like Ctrl-D."""
    while True:
        try:
            # at a terminal, `input` edits the line and `readline` does not
            yield (input("> ") if asked.isatty() else _next(asked)).strip()
        except (EOFError, KeyboardInterrupt):
            return


def _next(asked: TextIO) -> str:
    line = asked.readline()
    if not line:
        raise EOFError
    return line


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _clean(line: str) -> str:
    """What a terminal may send and no record holds: undecodable bytes and NUL."""
    return line.encode("utf-8", "replace").decode().replace("\0", "")


def _settled(text: str) -> str:
    """``text`` without a last character of which only some bytes are there yet."""
    return text.rstrip("\N{REPLACEMENT CHARACTER}")
