import pytest
from fastapi import Request

from labeling_ui.__main__ import main
from labeling_ui.http.auth import address_of
from labeling_ui.http.listen import check_exposure
from rlhf.errors import ConfigError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_this_machine_alone_nothing_needs_to_be_said(host):
    check_exposure(host, behind_proxy=False, insecure_http=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "rater.example", "", "fe80::1"])
def test_an_address_that_others_reach_is_refused_until_it_is_meant(host):
    with pytest.raises(ConfigError, match=r"--behind-proxy .* --insecure-http") as refused:
        check_exposure(host, behind_proxy=False, insecure_http=False)
    assert "\n" not in str(refused.value)
    check_exposure(host, behind_proxy=True, insecure_http=False)
    check_exposure(host, behind_proxy=False, insecure_http=True)


def test_the_command_refuses_before_it_touches_anything(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("rlhf label: listening on 0.0.0.0 would send passwords")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("somewhere", "somewhere"),
        ("", ""),
    ],
)
def test_a_household_of_ipv6_is_one_address(host, address):
    request = Request({"type": "http", "client": (host, 1), "headers": []})
    assert address_of(request) == address
    assert address_of(Request({"type": "http", "client": None, "headers": []})) == ""
