"""The least that a vote can cost: one FastAPI handler, one durable SQLite transaction, one item.

    python tests/benchmarks/bare_server.py DATABASE

Prints its address. It speaks the labelling API's `next` and `votes`, without accounts, leases,
sides or checks, so that :mod:`tests.benchmarks.label_load` can time the same clients against it.
"""

import asyncio
import socket
import sqlite3
import sys
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI

_TEXT = "Parcel {} arrives on Monday."


def app(database: str) -> FastAPI:
    """The two routes."""
    made, lock, local = FastAPI(), threading.Lock(), threading.local()

    def connection() -> sqlite3.Connection:
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect(database, isolation_level=None)
            local.connection.execute("PRAGMA journal_mode = WAL")
            local.connection.execute("PRAGMA synchronous = FULL")
        return local.connection

    connection().execute("CREATE TABLE IF NOT EXISTS vote (id INTEGER PRIMARY KEY, choice TEXT)")

    def turn(number: int) -> dict[str, Any]:
        item = {
            "assignment": number,
            "messages": [{"role": "user", "content": f"Where is parcel {number}?"}],
            "responses": [_TEXT.format(number), _TEXT.format(number + 1)],
        }
        return {"item": item, "saved": number}

    @made.get("/api/campaigns/{name}/next")
    def first(name: str) -> dict[str, Any]:  # noqa: ARG001
        return turn(0)

    @made.post("/api/campaigns/{name}/votes")
    def vote(name: str, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
        with lock:
            own = connection()
            own.execute("BEGIN IMMEDIATE")
            made_row = own.execute("INSERT INTO vote (choice) VALUES (?)", [body["choice"]])
            number = int(made_row.lastrowid or 0)
            own.execute("COMMIT")
        return turn(number)

    return made


def main() -> None:
    """Serve until killed."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(app(sys.argv[1]), log_level="warning", access_log=False)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
