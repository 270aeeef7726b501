"""The least that a vote can cost: one handler, one durable SQLite transaction, the next item.

    python tests/benchmarks/bare_server.py json DATABASE
    python tests/benchmarks/bare_server.py gradio DATABASE

Prints its address. The first speaks the labelling API's `next` and `votes`, without accounts,
leases, sides or checks; the second is the same handler behind a button of Gradio, which is how a
page made of Gradio's components would vote. :mod:`tests.benchmarks.label_load` times both.
"""

import asyncio
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

_TEXT = "Parcel {} arrives on Monday."
Vote = Callable[[str], dict[str, Any]]


def stored(database: str) -> Vote:
    """Stores a choice, and tells what is next."""
    lock, local = threading.Lock(), threading.local()

    def connection() -> sqlite3.Connection:
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect(database, isolation_level=None)
            local.connection.execute("PRAGMA journal_mode = WAL")
            local.connection.execute("PRAGMA synchronous = FULL")
        return local.connection

    connection().execute("CREATE TABLE IF NOT EXISTS vote (id INTEGER PRIMARY KEY, choice TEXT)")

    def vote(choice: str) -> dict[str, Any]:
        with lock:
            own = connection()
            own.execute("BEGIN IMMEDIATE")
            made_row = own.execute("INSERT INTO vote (choice) VALUES (?)", [choice])
            number = int(made_row.lastrowid or 0)
            own.execute("COMMIT")
        return turn(number)

    return vote


def turn(number: int) -> dict[str, Any]:
    """An answer of the labelling API."""
    item = {
        "assignment": number,
        "messages": [{"role": "user", "content": f"Where is parcel {number}?"}],
        "responses": [_TEXT.format(number), _TEXT.format(number + 1)],
    }
    return {"item": item, "saved": number}


def json_app(store: Vote) -> FastAPI:
    """The two routes."""
    made = FastAPI()

    @made.get("/api/campaigns/{name}/next")
    def first(name: str) -> dict[str, Any]:  # noqa: ARG001
        return turn(0)

    @made.post("/api/campaigns/{name}/votes")
    def vote(name: str, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
        return store(body["choice"])

    return made


def gradio_app(store: Vote) -> FastAPI:
    """A page with one button; what stands on the screen is Gradio's."""
    import gradio as gr

    with gr.Blocks(analytics_enabled=False) as page:
        choice, shown = gr.Textbox(), gr.JSON()
        gr.Button().click(store, choice, shown, concurrency_limit=40)
    return gr.mount_gradio_app(FastAPI(), page, "/")


def main() -> None:
    """Serve until killed."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    kind, database = sys.argv[1:]
    made = {"json": json_app, "gradio": gradio_app}[kind](stored(database))
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(made, log_level="warning", access_log=False)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
