"""Many raters at once against a running labelling server, over HTTP as a browser would."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

Item = Mapping[str, Any]
Choose = Callable[[str, Item], str]
"""What a rater presses at an item."""

LONGEST_WAIT = 60.0


class GoneError(ConnectionError):
    """The server did not answer, or its answer was dropped on purpose."""


@dataclass
class Link:
    """One connection to a server; it is opened again where it broke.

    A share ``drops`` of the replies is thrown away after the server has sent them.
    """

    url: Callable[[], str]
    headers: Mapping[str, str]
    drops: float = 0.0
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        try:
            answer = await self._exchange(method, path, body)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.close()
            raise GoneError(str(error)) from error
        if random.random() < self.drops:
            self.close()
            raise GoneError("dropped")
        return answer

    async def _exchange(self, method: str, path: str, body: object) -> tuple[int, Any]:
        place = urlsplit(self.url())
        if self._streams is None:
            self._streams = await asyncio.open_connection(place.hostname, place.port)
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        head = {"Host": place.netloc, "Content-Length": str(len(content)), **self.headers}
        if content:
            head["Content-Type"] = "application/json"
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + content)
        first = await reader.readline()
        if not first:
            raise ConnectionResetError("the server hung up")
        status = int(first.split()[1])
        told: dict[str, str] = {}
        while line := (await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            told[name.lower()] = value.strip()
        if told.get("transfer-encoding") == "chunked":
            return status, await _completed(reader)
        length = int(told.get("content-length", 0))
        return status, json.loads(await reader.readexactly(length) or b"null")

    async def insist(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The same, again and again until the server answers, as the page does."""
        started = time.monotonic()
        while True:
            try:
                status, answer = await self.call(method, path, body)
            except GoneError:
                assert time.monotonic() - started < LONGEST_WAIT, "the server stays away"
                await asyncio.sleep(0.05)
                continue
            if status < 500:
                return status, answer
            assert time.monotonic() - started < LONGEST_WAIT, answer
            await asyncio.sleep(0.05)

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _completed(reader: asyncio.StreamReader) -> Any:
    """What Gradio's stream of events says in the end; the stream is read up."""
    text = b""
    while size := int(await reader.readline(), 16):
        text += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    events = [json.loads(line[5:]) for line in text.splitlines() if line.startswith(b"data:")]
    [output] = [event["output"] for event in events if event["msg"] == "process_completed"]
    return output["data"][0]


@dataclass
class Outcome:
    """What came of a load."""

    acknowledged: list[tuple[str, int, str]] = field(default_factory=list)
    """Rater, number of the vote, choice."""
    seconds: list[float] = field(default_factory=list)
    """From the vote to the next item, each."""
    wall: float = 0.0

    @property
    def per_second(self) -> float:
        """Votes."""
        return len(self.acknowledged) / self.wall

    def percentile(self, share: float) -> float:
        """Seconds from vote to next item."""
        found = sorted(self.seconds)
        return found[min(len(found) - 1, int(share * len(found)))]


@dataclass(frozen=True)
class Load:
    """Raters who answer everything that they are handed in one campaign."""

    url: Callable[[], str]
    campaign: str
    headers: Callable[[str], Mapping[str, str]]
    choose: Choose
    drops: float = 0.0
    think: tuple[float, float] = (0.0, 0.0)
    """Seconds before each vote, at least and at most."""
    most: int | None = None
    """Votes of one rater."""

    def run(self, raters: Sequence[str], clients: int) -> Outcome:
        """All of them, so many at a time."""
        # the thread that asks may have a loop of its own
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(asyncio.run, self._run(raters, clients)).result()

    async def _run(self, raters: Sequence[str], clients: int) -> Outcome:
        outcome, waiting = Outcome(), list(reversed(raters))

        async def client() -> None:
            while waiting:
                await self._work(waiting.pop(), outcome)

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
        outcome.wall = time.perf_counter() - started
        return outcome

    async def _work(self, rater: str, outcome: Outcome) -> None:
        link = Link(self.url, self.headers(rater), self.drops)
        path = f"/api/campaigns/{quote(self.campaign)}"
        status, turn = await self.first(link, path)
        assert status == 200, turn
        number = 0
        while turn["item"] is not None and number != self.most:
            await asyncio.sleep(random.uniform(*self.think))
            item, number = turn["item"], number + 1
            choice = self.choose(rater, item)
            key = f"{item['assignment']}-{random.getrandbits(64):x}"
            body = {"assignment": item["assignment"], "choice": choice, "key": key}
            started = time.perf_counter()
            status, turn = await self.vote(link, path, body)
            assert status == 200, turn
            outcome.seconds.append(time.perf_counter() - started)
            outcome.acknowledged.append((rater, turn["saved"], choice))
        link.close()

    async def first(self, link: Link, path: str) -> tuple[int, Any]:
        """The item to begin with."""
        return await link.insist("GET", f"{path}/next")

    async def vote(self, link: Link, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Send an answer; what is next."""
        return await link.insist("POST", f"{path}/votes", body)


class GradioLoad(Load):
    """The same over the protocol of Gradio's components, at the first event of a page."""

    async def first(self, link: Link, path: str) -> tuple[int, Any]:
        """An answer, for there is nothing else to ask."""
        return await self.vote(link, path, {"choice": "first"})

    async def vote(self, link: Link, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:  # noqa: ARG002
        """Join the queue, and read the events until what came of it."""
        session = f"{random.getrandbits(64):x}"
        asked = {"data": [body["choice"]], "fn_index": 0, "session_hash": session}
        status, _ = await link.insist("POST", "/gradio_api/queue/join", asked)
        assert status == 200
        return await link.insist("GET", f"/gradio_api/queue/data?session_hash={session}")


@dataclass
class Served:
    """A server process as ``rlhf label serve`` starts it, which can be killed and started again."""

    database: str
    environment: Mapping[str, str]
    program: Sequence[str] = ("-m", "labeling_ui", "serve", "--port", "0", "--db")
    url: str = ""
    kills: int = 0
    _process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and learn its address."""
        process = subprocess.Popen(
            [sys.executable, *self.program, self.database],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path.cwd())} | dict(self.environment),
        )
        assert process.stdout is not None
        self._process, self.url = process, process.stdout.readline().strip()
        assert self.url, "the server did not start"

    def kill(self) -> None:
        """Pull the plug."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def die(self, times: int, pause: float) -> None:
        """Be killed so many times, with a pause before each, and come back."""
        for _ in range(times):
            time.sleep(pause)
            self.kill()
            self.start()
            self.kills += 1
