"""Somebody who wants the server to do nothing else does not get it to."""

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest

from labeling_ui.accounts.rate_limits import SIGN_INS, Rate, TooMany
from labeling_ui.accounts.users import Accounts
from labeling_ui.db.store import StoreError
from labeling_ui.http import middleware as gates
from tests.labeling import client, running

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running(tmp_path_factory.mktemp("label") / "label.db") as address:
        yield address


def half_sent(url: str) -> socket.socket:
    """A sign-in of which the server has the first bytes."""
    place = urlsplit(url)
    line = socket.create_connection((place.hostname, place.port), timeout=20)
    head = f"POST /api/login HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 90\r\n"
    line.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
    return line


def test_passwords_are_hashed_one_at_a_time_and_nobody_else_waits(url, monkeypatch):
    now, most, slow = 0, 0, threading.Lock()

    def sign_in(*_: object) -> None:
        nonlocal now, most
        with slow:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with slow:
            now -= 1

    with client(url, "ann") as ann, ThreadPoolExecutor(60) as crowd:
        monkeypatch.setattr(Accounts, "sign_in", sign_in)
        wrong = {"name": "ann", "password": "wrong wrong"}
        guesses = [crowd.submit(httpx.post, f"{url}/api/login", json=wrong) for _ in range(60)]
        time.sleep(0.5)
        begin = time.monotonic()
        assert ann.get("/api/me").status_code == 200
        took = time.monotonic() - begin
        waiting = sum(not guess.done() for guess in guesses)
        codes = {guess.result().status_code for guess in guesses}
    assert most == 1
    assert waiting > 10
    assert took < 1.5  # 60 of them take three seconds
    assert codes == {401}


def test_one_who_signs_in_too_often_is_told_so_before_those_who_wait(url, monkeypatch):
    first, go_on = threading.Event(), threading.Event()

    def sign_in(*_: object) -> None:
        first.set()
        go_on.wait(20)

    def spend(rate: Rate, _: str) -> None:
        if first.is_set() and vars(rate)["_what"] == SIGN_INS.what:
            raise TooMany("too many sign-ins from your address", 1)

    monkeypatch.setattr(Accounts, "sign_in", sign_in)
    monkeypatch.setattr(Rate, "spend", spend)
    with ThreadPoolExecutor(1) as crowd:
        wrong = {"name": "ann", "password": "wrong wrong"}
        slow = crowd.submit(httpx.post, f"{url}/api/login", json=wrong)
        assert first.wait(20)
        hasty = httpx.post(f"{url}/api/login", json=wrong, timeout=10)
        go_on.set()
        assert slow.result().status_code == 401
    assert hasty.status_code == 429


def test_a_body_that_does_not_come_is_not_waited_for(url, monkeypatch):
    monkeypatch.setattr(gates, "BODY_SECONDS", 0.2)
    with closing(half_sent(url)) as line:
        reply = b"".join(iter(lambda: line.recv(4096), b""))  # until the server hangs up
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"the body did not come in time" in reply


def test_where_the_database_is_stays_in_the_log(url, monkeypatch, caplog):
    def lost(_: object) -> None:
        raise StoreError("postgresql://boss@10.0.0.7/label: does not answer")

    monkeypatch.setattr(Accounts, "count", lost)
    reply = httpx.get(f"{url}/healthz")
    assert reply.status_code == 503
    said = "the server cannot read or store anything now; tell an admin"
    assert reply.json() == {"detail": said}
    assert "boss@10.0.0.7" in caplog.text


def test_a_server_that_is_told_to_end_waits_for_nobody_for_long(tmp_path):
    run = (
        "import sys, labeling_ui.__main__ as app\n"
        "app.LAST_SECONDS = 1\n"
        "sys.exit(app.main(['serve', '--db', sys.argv[1], '--port', '0']))"
    )
    command = [sys.executable, "-c", run, str(tmp_path / "label.db")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            httpx.get(f"{url}/healthz", timeout=60)
            with closing(half_sent(url)):
                time.sleep(0.3)
                server.terminate()
                assert server.wait(20) == 0
        finally:
            server.kill()
