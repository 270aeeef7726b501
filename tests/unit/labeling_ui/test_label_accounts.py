import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from labeling_ui.accounts.rate_limits import Throttle, Throttled
from labeling_ui.accounts.sessions import session_secret
from labeling_ui.accounts.users import Accounts
from labeling_ui.db.store import Conflict
from labeling_ui.db.tables import UserRow
from rlhf.errors import ConfigError, DataError
from tests.labeling import CHEAP, PASSWORD, cheap_accounts


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_secret_in_the_environment(monkeypatch):
    monkeypatch.delenv("RLHF_LABEL_SECRET", raising=False)


def test_whoever_was_added_signs_in_with_name_and_password(store):
    accounts = cheap_accounts(store)
    ann = accounts.add(" Ärztin Ann ", PASSWORD, "rater")
    assert ann.name == "Ärztin Ann"
    assert accounts.sign_in("ärztin ann", PASSWORD, "here") == ann
    assert accounts.sign_in("Ärztin Ann", PASSWORD + "!", "here") is None
    assert accounts.sign_in("nobody", PASSWORD, "here") is None
    assert accounts.count() == 1


def test_passwords_are_stored_as_argon2_hashes(store):
    Accounts(store, "s").add("ann", PASSWORD, "rater")
    with store.read() as session:
        kept = session.get_one(UserRow, 1).password_hash
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept


def test_a_name_is_taken_in_whatever_case(store):
    accounts = cheap_accounts(store)
    accounts.add("Özgür", PASSWORD, "rater")
    with pytest.raises(Conflict, match="exists already"):
        accounts.add("özgür", PASSWORD, "admin")


@pytest.mark.parametrize(
    ("name", "password", "role", "reason"),
    [
        ("", PASSWORD, "rater", "user name has"),
        ("a/b", PASSWORD, "rater", "user name has"),
        ("<b>", PASSWORD, "rater", "user name has"),
        ("a\0b", PASSWORD, "rater", "user name has"),
        ("x" * 65, PASSWORD, "rater", "user name has"),
        ("ann", "short", "rater", "8 to 256 characters"),
        ("ann", "x" * 257, "rater", "8 to 256 characters"),
        ("ann", PASSWORD, "owner", "use guest, rater, adjudicator, admin"),
    ],
)
def test_an_account_that_makes_no_sense_is_refused(store, name, password, role, reason):
    with pytest.raises(DataError, match=reason):
        cheap_accounts(store).add(name, password, role)


def test_a_session_names_its_owner_until_it_is_forged(store):
    accounts = cheap_accounts(store)
    ann = accounts.add("ann", PASSWORD, "rater")
    cookie = accounts.cookie(ann)
    assert accounts.of_cookie(cookie) == ann
    stranger = Accounts(store, "another secret", hasher=CHEAP)
    for forged in (None, "", "nonsense", cookie[:-1] + "~", stranger.cookie(ann)):
        assert accounts.of_cookie(forged) is None


def test_a_session_outlives_the_server_but_not_the_account(store):
    ann = cheap_accounts(store).add("ann", PASSWORD, "rater")
    cookie = cheap_accounts(store).cookie(ann)
    after_restart = cheap_accounts(store)
    assert after_restart.of_cookie(cookie) == ann
    with store.write() as session:
        session.delete(session.get_one(UserRow, ann.id))
    assert after_restart.of_cookie(cookie) is None


def test_a_session_ends(store, monkeypatch):
    accounts = cheap_accounts(store)
    cookie = accounts.cookie(accounts.add("ann", PASSWORD, "rater"))
    monkeypatch.setattr("labeling_ui.accounts.users.SESSION_SECONDS", -1)
    assert accounts.of_cookie(cookie) is None


def test_guessing_gets_slower_and_slower_but_not_for_others(store):
    clock = Clock()
    accounts = cheap_accounts(store, throttle=Throttle(clock=clock))
    accounts.add("ann", PASSWORD, "rater")
    for _ in range(5):
        assert accounts.sign_in("ann", "wrong", "thief") is None
    waits = []
    for _ in range(12):
        with pytest.raises(Throttled) as refused:
            accounts.sign_in("ANN", PASSWORD, "thief")
        waits.append(refused.value.seconds)
        clock.now += refused.value.seconds
        assert accounts.sign_in("ann", "wrong", "thief") is None
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (2, 301)
    assert accounts.sign_in("ann", PASSWORD, "home") is not None


def test_signing_in_clears_earlier_mistakes(store):
    accounts = cheap_accounts(store, throttle=Throttle(clock=Clock()))
    accounts.add("ann", PASSWORD, "rater")
    for _ in range(3):
        for _ in range(4):
            assert accounts.sign_in("ann", "wrong", "home") is None
        assert accounts.sign_in("ann", PASSWORD, "home") is not None


def test_mistakes_are_forgotten_after_an_hour():
    clock = Clock()
    throttle = Throttle(clock=clock)
    for _ in range(5):
        throttle.try_at("ann")
    clock.now += 3601
    for _ in range(5):
        throttle.try_at("ann")
    with pytest.raises(Throttled):
        throttle.try_at("ann")


def test_the_secret_is_made_once_beside_the_database_for_our_eyes_only(tmp_path):
    database = tmp_path / "label.db"
    secret = session_secret(database)
    assert len(secret) >= 32
    assert session_secret(database) == secret
    assert stat.S_IMODE((tmp_path / "label.db.secret").stat().st_mode) == 0o600


def test_processes_that_start_at_once_have_one_secret_and_leave_nothing_beside_it(tmp_path):
    database = tmp_path / "label.db"
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: session_secret(database), range(64)))
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["label.db.secret"]


def test_the_secret_may_come_from_the_environment_or_a_named_file(tmp_path, monkeypatch):
    named = tmp_path / "mine"
    secret = session_secret(tmp_path / "label.db", named)
    assert named.read_text() == secret
    monkeypatch.setenv("RLHF_LABEL_SECRET", "from the environment")
    assert session_secret(tmp_path / "label.db", named) == "from the environment"


def test_a_secret_that_others_can_read_is_refused(tmp_path):
    database = tmp_path / "label.db"
    session_secret(database)
    (tmp_path / "label.db.secret").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        session_secret(database)


def test_a_short_secret_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_LABEL_SECRET", "short")
    with pytest.raises(ConfigError, match=r"RLHF_LABEL_SECRET.*at least 16"):
        session_secret(tmp_path / "label.db")


def test_a_secret_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be written.*RLHF_LABEL_SECRET"):
        session_secret(tmp_path / "nowhere" / "label.db")
    assert not os.environ.get("RLHF_LABEL_SECRET")
