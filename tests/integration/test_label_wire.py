"""What the client makes of tokens, addresses and answers that are not what they should be."""

import httpx
import pytest

from rlhf import LabelClient, RunError
from rlhf.label_client import transport
from tests.labeling import PASSWORD

pytestmark = pytest.mark.integration

SERVER = "http://label.example"


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", waits.append)
    return waits


@pytest.fixture
def script(monkeypatch):
    """A server whose answers, or failures, are written down; the last one stays."""

    def play(*answers: httpx.Response | Exception) -> list[httpx.Request]:
        left, asked = list(answers), []

        def handle_request(_, request):
            asked.append(request)
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle_request)
        return asked

    return play


def me() -> httpx.Response:
    return httpx.Response(200, json={"name": "ann", "role": "rater"})


def gateway(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, html="<h1>Bad Gateway</h1>")


@pytest.mark.parametrize("token", ["rlhf_abc\n", " rlhf_abc\r\n", "rlhf_abc"])
def test_the_space_around_a_token_is_left_out(script, token):
    asked = script(me())
    LabelClient(SERVER, token=token).close()
    assert asked[0].headers["authorization"] == "Bearer rlhf_abc"


@pytest.mark.parametrize("token", ["", "\n", "secret\nhalf", "secret half", "secretö", "secret\0"])
def test_a_token_that_is_none_is_refused_without_showing_it(script, slept, token):
    asked = script(me())
    with pytest.raises(RunError, match="visible ASCII") as caught:
        LabelClient(SERVER, token=token)
    assert "secret" not in str(caught.value)
    assert (asked, slept) == ([], [])


@pytest.mark.parametrize(
    "server", ["label.example", "localhost:7860", "ftp://label.example", "", "http://", "127.0.0.1"]
)
def test_an_address_needs_its_scheme_and_is_not_tried_without(script, slept, server):
    asked = script(me())
    with pytest.raises(RunError, match="is no address with http:// or https://"):
        LabelClient(server, "ann", PASSWORD)
    assert (asked, slept) == ([], [])


@pytest.mark.parametrize("error", [httpx.UnsupportedProtocol, httpx.LocalProtocolError])
def test_what_cannot_be_sent_is_not_tried_again_nor_quoted(script, slept, error):
    asked = script(error("Illegal header value b'secret'"))
    with pytest.raises(RunError, match=rf"GET /api/me cannot be sent \({error.__name__}\)"):
        LabelClient(SERVER, token="rlhf_abc")
    assert (len(asked), slept) == (1, [])


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_server_that_comes_back_behind_its_proxy_is_waited_for(script, slept, status):
    asked = script(gateway(status), gateway(status, **{"Retry-After": "3"}), me())
    LabelClient(SERVER, token="rlhf_abc").close()
    assert len(asked) == 3
    assert slept == [1, 3]


def test_a_server_that_stays_away_is_told_from_a_wrong_address(script, slept):
    asked = script(gateway(502))
    with pytest.raises(RunError, match=r"a proxy answers GET /api/me with 502 Bad Gateway; see"):
        LabelClient(SERVER, token="rlhf_abc")
    assert (len(asked), len(slept)) == (6, 5)


def test_what_may_have_been_done_is_not_sent_again_through_a_proxy_either(script, slept):
    asked = script(me(), gateway(504))
    with (
        LabelClient(SERVER, token="rlhf_abc") as ann,
        pytest.raises(RunError, match=r"undo with 504 .* look what came of the request"),
    ):
        ann.undo("one")
    assert (len(asked), slept) == (2, [])


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("Wed, 21 Oct 2026 07:28:00 GMT", [1]),
        ("-5", [1]),
        ("nan", [1]),
        ("", [1]),
        ("10", [10]),
        ("11", []),
        ("9" * 400, []),
    ],
)
def test_ten_seconds_are_waited_for_at_most_and_one_where_no_number_is(script, slept, said, waits):
    busy = httpx.Response(429, headers={"Retry-After": said}, json={"detail": "slow down"})
    asked = script(busy, me())
    if waits:
        LabelClient(SERVER, token="rlhf_abc").close()
    else:
        with pytest.raises(RunError, match="was refused: slow down"):
            LabelClient(SERVER, token="rlhf_abc")
    assert (len(asked), slept) == (len(waits) + 1, waits)


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, json=[]),
        httpx.Response(404, json={"error": "none"}),
        httpx.Response(200, headers=JSON, content=b'{"na'),
        httpx.Response(200, headers=JSON, content=b"\xff"),
        httpx.Response(200, headers=JSON, content=b"[" * 100_000),
        httpx.Response(200, headers={"Content-Type": "application/jsonl"}, content=b"{"),
        httpx.Response(200, json={"hello": 1}),
        httpx.Response(200, json={"name": "ann"}),
        httpx.Response(200, json=["name", "role"]),
        httpx.Response(200, json=None),
        httpx.Response(200, html="<h1>Welcome</h1>"),
        httpx.Response(301, headers={"Location": "https://label.example"}),
    ],
)
def test_what_no_labelling_server_answers_is_one_sentence(script, answer):
    script(answer)
    with pytest.raises(RunError, match=r"example is no labelling server \(.* with \d+ [A-Z]"):
        LabelClient(SERVER, token="rlhf_abc")


def test_an_answer_that_does_not_unpack_is_one_sentence(script, slept):
    asked = script(httpx.DecodingError("incorrect header check"))
    with pytest.raises(RunError, match="incorrect header check"):
        LabelClient(SERVER, token="rlhf_abc")
    assert (len(asked), len(slept)) == (6, 5)
