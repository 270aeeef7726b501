"""Everything that can be asked of the server, by everybody who can ask."""

import re
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from labeling_ui.accounts.rate_limits import PER_ACCOUNT
from tests.doors import GRADIO, OURS, PAGES, WHO, all_routes, door
from tests.labeling import PASSWORD, client, running

pytestmark = pytest.mark.integration


NAMES = dict(zip(WHO, (None, "gus", "ann", "judy", "admin"), strict=True))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    database, runs = tmp_path_factory.mktemp("label") / "label.db", [Path("one"), Path("two")]
    with running(database, policies=runs, loader=lambda _: None) as address:
        yield address


@pytest.fixture(scope="module")
def every_route(tmp_path_factory):
    return all_routes(tmp_path_factory.mktemp("label") / "label.db")


def test_every_route_has_a_row_and_every_row_a_route(every_route):
    missing = [route for route in every_route if door(*route) is None]
    assert missing == []
    assert OURS.keys() <= set(every_route)
    for page in PAGES:
        assert {(method, f"/{page}{path}") for method, path in GRADIO} <= set(every_route)
    assert len(every_route) > 150  # Gradio's three times over


def answered(session, method, path, body) -> int:
    """The status; the session is open afterwards, though signing out is tried as well."""
    kept = list(session.cookies.jar)
    status = session.request(method, path, json=body).status_code
    session.cookies.clear()
    for cookie in kept:
        session.cookies.jar.set_cookie(cookie)
    return status


def test_everybody_may_do_what_the_table_says_at_every_route(url, every_route):
    wrong = []
    with ExitStack() as stack:
        people = [stack.enter_context(client(url, NAMES[who])) for who in WHO]
        for method, path in every_route:
            row = door(method, path)
            assert row is not None
            page = "/" + path.split("/")[1]
            start = page if page[1:] in PAGES else ""
            place = start + row.example if row.example else re.sub(r"\{[^}]*\}", "none", path)
            for who, session, expected in zip(WHO, people, row, strict=False):
                status = answered(session, method, place, row.body)
                if status != expected:
                    wrong.append((method, place, who, expected, status))
    assert wrong == []


@pytest.mark.parametrize(
    "path",
    [
        "/rate/gradio_api/upload",
        "/rate//gradio_api/upload",
        "/%72ate/gradio_api/file=/etc/passwd",
        "/rate/assets/../gradio_api/info",
        "/rate/assets/%2e%2e/gradio_api/info",
        "/admin/gradio_api/proxy=https://elsewhere.example/",
        "/compare/monitoring",
        "/rate/static/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/rate/assets//etc/passwd",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_spelling_of_a_path_opens_what_is_shut(url, path):
    with client(url, "admin") as admin:
        answer = admin.send(admin.build_request("GET", httpx.URL(url + path)))
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text


def status_of_a_body_announced(url, length, cookies) -> int:
    """What the server says before any of it is sent."""
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        connection.putrequest("POST", "/api/campaigns")
        connection.putheader("Content-Length", str(length))
        connection.putheader("Cookie", "; ".join(f"{k}={v}" for k, v in cookies.items()))
        connection.endheaders()
        return connection.getresponse().status


def test_a_body_may_be_a_mebibyte_and_for_an_admin_more(url):
    big = {"name": "x" * (1 << 20)}
    with client(url, "ann") as ann, client(url, "admin") as admin:
        refused = ann.post("/api/campaigns", json=big)
        assert (refused.status_code, refused.json()) == (
            413,
            {"detail": "a body may have 1 MiB; send less at once"},
        )
        assert admin.post("/api/campaigns", json=big).status_code == 422
        assert status_of_a_body_announced(url, 65 << 20, admin.cookies) == 413


def test_a_body_of_unknown_length_is_refused(url):
    with client(url, "admin") as admin:
        answer = admin.post("/api/users", content=iter([b"{", b"}"]))
    assert answer.status_code == 411


def test_an_account_that_asks_too_often_is_told_to_wait_and_others_are_not(url):
    with client(url, "bob") as bob, client(url, "ann") as ann:
        answer, statuses = bob.get("/api/me"), []
        while 429 not in statuses and len(statuses) < 20 * PER_ACCOUNT.burst:
            answer = bob.get("/api/me")
            statuses.append(answer.status_code)
        assert statuses.count(200) >= PER_ACCOUNT.burst - 1
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert re.fullmatch(
            r"too many requests by your account; try again in \d+ s", answer.json()["detail"]
        )
        assert ann.get("/api/me").status_code == 200


@pytest.fixture
def proxied(tmp_path):
    with running(tmp_path / "label.db", proxy="127.0.0.1") as address:
        yield address


FROM_PROXY = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}


def test_behind_a_proxy_only_what_came_over_tls_is_answered_and_cookies_are_secure(proxied):
    login = {"name": "ann", "password": PASSWORD}
    plain = httpx.post(proxied + "/api/login", json=login)
    assert plain.status_code == 400
    assert "X-Forwarded-Proto" in plain.json()["detail"]
    assert "set-cookie" not in plain.headers
    assert httpx.get(proxied + "/healthz").status_code == 200  # the proxy asks it in clear
    answer = httpx.post(proxied + "/api/login", json=login, headers=FROM_PROXY)
    assert answer.status_code == 200
    assert "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("HTTPS", 200),
        ("Https", 200),
        # a proxy that appends lets the browser write the first value
        ("https,http", 400),
        ("https, http", 400),
        ("http, https", 400),
        ("http", 400),
        ("https://", 400),
    ],
)
def test_a_proxy_says_https_in_any_case_and_nothing_else(proxied, said, status):
    login = {"name": "ann", "password": PASSWORD}
    headers = {**FROM_PROXY, "X-Forwarded-Proto": said}
    answer = httpx.post(proxied + "/api/login", json=login, headers=headers)
    assert answer.status_code == status
    assert ("Secure" in answer.headers.get("set-cookie", "")) == (status == 200)
    if status == 400:
        assert "to https, and to nothing else beside it" in answer.json()["detail"]


def test_nobody_but_the_proxy_is_believed(tmp_path):
    login = {"name": "ann", "password": PASSWORD}
    with running(tmp_path / "label.db", proxy="192.0.2.1") as address:
        answer = httpx.post(address + "/api/login", json=login, headers=FROM_PROXY)
    assert answer.status_code == 400


def test_without_a_proxy_nobody_can_pretend_to_be_one(url):
    login = {"name": "ann", "password": PASSWORD}
    answer = httpx.post(url + "/api/login", json=login, headers=FROM_PROXY)
    assert "Secure" not in answer.headers["set-cookie"]
    assert "strict-transport-security" not in answer.headers
