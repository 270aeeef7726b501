"""Comparisons to label, and the app on a free port, for the tests of the labelling room."""

import asyncio
import socket
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import uvicorn
from argon2 import PasswordHasher

from labeling_ui.accounts.users import Accounts
from labeling_ui.app import Serving, create_app
from labeling_ui.campaigns.tasks import Task
from labeling_ui.db.store import Store
from rlhf.records import Comparison, Message, Prompt, Response

SECRET = "a secret of the tests"
PASSWORD = "correct horse"
PEOPLE = {"admin": "admin", "judy": "adjudicator", "ann": "rater", "bob": "rater", "gus": "guest"}
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def comparison(number: int) -> Comparison:
    """Two turns, a question that is due, and two policies whose names must not show."""
    messages = (
        Message("user", f"Where is parcel {number}?"),
        Message("assistant", "Which street?"),
        Message("user", "Elm Street."),
    )
    return Comparison(
        Prompt(messages),
        Response(f"Parcel {number} arrives on **Monday**.", "runs/secretive-sft"),
        Response(f"I do not know about {number}.", "runs/secretive-ppo"),
    )


def comparisons(count: int) -> list[Comparison]:
    """As many different ones."""
    return [comparison(number) for number in range(count)]


def tasks(count: int) -> list[Task]:
    """The same as tasks."""
    return [Task.of(one) for one in comparisons(count)]


def cheap_accounts(store: Store, **options) -> Accounts:
    """Accounts whose passwords are hashed fast."""
    return Accounts(store, SECRET, hasher=CHEAP, **options)


@contextmanager
def running(database: Path, **options) -> Generator[str]:
    """The URL of the app on ``database``, with the people above."""
    with closing(Store(database)) as store:
        accounts = cheap_accounts(store)
        for name, role in PEOPLE.items():
            accounts.add(name, PASSWORD, role)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        servers: list[uvicorn.Server] = []

        async def serve() -> None:
            serving = Serving(**options)
            app = create_app(store, accounts, serving)
            config = uvicorn.Config(app, log_level="warning", proxy_headers=False)
            servers.append(uvicorn.Server(config))
            await servers[0].serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            httpx.get(url + "/healthz", timeout=60)
            yield url
        finally:
            servers[0].should_exit = True
            thread.join()
            listener.close()


@contextmanager
def client(url: str, name: str | None = None) -> Generator[httpx.Client]:
    """A program that talks to the API, signed in as ``name``."""
    with httpx.Client(base_url=url, timeout=30) as session:
        if name is not None:
            answer = session.post("/api/login", json={"name": name, "password": PASSWORD})
            assert answer.status_code == 200
        yield session
