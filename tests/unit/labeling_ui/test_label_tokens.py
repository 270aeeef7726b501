import pytest
from sqlalchemy import select

from labeling_ui.accounts.audit import entries
from labeling_ui.accounts.invitations import Invitations
from labeling_ui.accounts.tokens import Tokens
from labeling_ui.accounts.users import NewAccount
from labeling_ui.db.store import Conflict, NotFound
from labeling_ui.db.tables import InvitationRow, TokenRow
from rlhf.errors import DataError
from tests.labeling import PASSWORD, cheap_accounts


@pytest.fixture
def accounts(store):
    return cheap_accounts(store)


@pytest.fixture
def tokens(store, accounts):
    return Tokens(store, accounts)


@pytest.fixture
def invitations(store, accounts):
    return Invitations(store, accounts)


@pytest.fixture
def ann(accounts):
    return accounts.add("ann", PASSWORD, "rater")


def test_a_token_is_its_owners_until_it_is_revoked(tokens, ann):
    token = tokens.make("Ann", None)
    assert tokens.owner(token) == ann
    for wrong in ("", "rlhf_", token[:-1], token + "x", token.swapcase(), "\ud800", "a\0b"):
        assert tokens.owner(wrong) is None
    [kept] = tokens.of_user(ann.id)
    tokens.revoke(kept.id, ann)
    assert tokens.owner(token) is None
    assert tokens.of_user(ann.id) == []
    with pytest.raises(NotFound):
        tokens.revoke(kept.id, ann)


def test_only_the_hash_of_a_token_or_invitation_is_kept(store, tokens, invitations, ann):
    token = tokens.make("ann", ann.id)
    code = invitations.make("rater", uses=1, days=1, actor=ann.id)
    with store.read() as session:
        kept = [
            *session.scalars(select(TokenRow.hash)),
            *session.scalars(select(InvitationRow.hash)),
        ]
    assert len(kept) == 2
    for secret in (token, token.removeprefix("rlhf_"), code):
        assert not any(secret in hashed for hashed in kept)
        assert not any(secret in str(entry) for entry in entries(store))


def test_nobody_but_an_admin_revokes_the_token_of_another(accounts, tokens, ann):
    token = tokens.make("ann", None)
    [kept] = tokens.of_user(ann.id)
    with pytest.raises(NotFound, match="of yours"):
        tokens.revoke(kept.id, accounts.add("bob", PASSWORD, "adjudicator"))
    assert tokens.owner(token) == ann
    tokens.revoke(kept.id, accounts.add("boss", PASSWORD, "admin"))
    assert tokens.owner(token) is None


def test_all_tokens_of_somebody_are_revoked_at_once_and_nobody_elses(accounts, tokens):
    for name in ("ann", "bob"):
        accounts.add(name, PASSWORD, "rater")
    made = [tokens.make("ann", None) for _ in range(3)]
    other = tokens.make("bob", None)
    assert tokens.revoke_all("ann", None) == 3
    assert [tokens.owner(token) for token in made] == [None] * 3
    assert tokens.owner(other) is not None


def test_many_users_are_made_with_a_token_each_or_none_is(accounts, tokens):
    people = [NewAccount(f"worker {n}") for n in range(600)]
    made = tokens.add_with_tokens(people, None)
    assert [account.name for account, _ in made] == [person.name for person in people]
    assert len({token for _, token in made}) == 600
    assert all(tokens.owner(token) == account for account, token in made[::100])
    for bad, error, said in (
        ([NewAccount("x"), NewAccount("a/b")], DataError, r"users\[1\]: a user name"),
        ([NewAccount("x"), NewAccount("y", role="owner")], DataError, r"users\[1\]: role 'owner'"),
        ([NewAccount("x"), NewAccount("y", "short")], DataError, r"users\[1\]: a password"),
        ([NewAccount("x"), NewAccount("Worker 7")], Conflict, "Worker 7"),
        ([NewAccount("x"), NewAccount("X")], Conflict, "'X' exists"),
    ):
        with pytest.raises(error, match=said):
            tokens.add_with_tokens(bad, None)
    assert accounts.count() == 600
    assert tokens.add_with_tokens([], None) == []


def test_without_a_password_nobody_signs_in_whatever_they_type(accounts, tokens):
    tokens.add_with_tokens([NewAccount("worker")], None)
    for number, password in enumerate(("", "x", PASSWORD)):
        assert accounts.sign_in("worker", password, f"address {number}") is None


def test_an_invitation_lets_in_as_many_as_it_says_in_the_role_it_says(accounts, invitations):
    code = invitations.make("adjudicator", uses=2, days=7, actor=None)
    judy = invitations.accept(code, "judy", PASSWORD)
    assert judy.role == "adjudicator"
    assert accounts.sign_in("judy", PASSWORD, "here") == judy
    assert [one.uses_left for one in invitations.open()] == [1]
    invitations.accept(code, "joan", PASSWORD)
    assert invitations.open() == []
    with pytest.raises(NotFound, match="ask for another"):
        invitations.accept(code, "jane", PASSWORD)
    assert accounts.count() == 2


def test_a_mistake_does_not_use_an_invitation(invitations, ann):
    code = invitations.make("rater", uses=1, days=7, actor=None)
    for name, password, error in (
        ("a/b", PASSWORD, DataError),
        ("joan", "short", DataError),
        ("Ann", PASSWORD, Conflict),
    ):
        with pytest.raises(error):
            invitations.accept(code, name, password)
    assert invitations.accept(code, "joan", PASSWORD).role == ann.role


def test_an_invitation_ends_when_its_time_is_over_or_it_is_withdrawn(invitations, monkeypatch):
    codes = [invitations.make("rater", uses=5, days=days, actor=None) for days in (1, 8)]
    [first, _] = invitations.open()
    monkeypatch.setattr("labeling_ui.accounts.invitations.stamp", lambda: first.expires_at)
    with pytest.raises(NotFound):
        invitations.accept(codes[0], "joan", PASSWORD)
    [second] = invitations.open()
    invitations.withdraw(second.id, None)
    with pytest.raises(NotFound):
        invitations.accept(codes[1], "joan", PASSWORD)
    for number in (second.id, 99):
        with pytest.raises(NotFound):
            invitations.withdraw(number, None)


@pytest.mark.parametrize(
    ("role", "uses", "days"),
    [
        ("owner", 1, 1),
        ("rater", 0, 1),
        ("rater", 1001, 1),
        ("rater", 1, 0),
        ("rater", 1, 91),
        ("rater", 1, float("nan")),
        ("rater", 1, float("inf")),
    ],
)
def test_an_invitation_for_nobody_for_all_or_for_ever_is_refused(invitations, role, uses, days):
    with pytest.raises(DataError):
        invitations.make(role, uses=uses, days=days, actor=None)


def test_another_password_ends_every_session(accounts, ann):
    cookie = accounts.cookie(ann)
    accounts.set_password("ANN", "another password", ann.id)
    assert accounts.of_cookie(cookie) is None
    assert accounts.sign_in("ann", PASSWORD, "here") is None
    assert accounts.sign_in("ann", "another password", "here") == ann
    assert accounts.of_cookie(accounts.cookie(ann)) == ann
    with pytest.raises(DataError, match="8 to 256"):
        accounts.set_password("ann", "short", None)
    with pytest.raises(NotFound):
        accounts.set_password("nobody", PASSWORD, None)


def test_every_role_may_what_those_below_it_may(accounts):
    roles = ("guest", "rater", "adjudicator", "admin")
    for high, role in enumerate(roles):
        account = accounts.add(role, PASSWORD, role)
        assert [account.has_role(other) for other in roles] == [low <= high for low in range(4)]


def test_the_log_says_who_did_what_the_latest_first(store, accounts, tokens, invitations, ann):
    boss = accounts.add("boss", PASSWORD, "admin")
    tokens.make("ann", boss.id)
    invitations.make("rater", uses=3, days=1, actor=boss.id)
    accounts.set_password("ann", "another password", ann.id)
    log = entries(store)
    assert [(entry.user, entry.action) for entry in log] == [
        ("ann", "change password"),
        ("boss", "invite"),
        ("boss", "make token"),
        (None, "add users"),
        (None, "add users"),
    ]
    assert log[2].detail == {"user": "ann"}
    assert entries(store, before=log[2].id, limit=1) == [log[3]]


def test_what_failed_is_not_in_the_log(store, tokens, ann):
    before = entries(store)
    with pytest.raises(NotFound):
        tokens.make("nobody", ann.id)
    with pytest.raises(Conflict):
        tokens.add_with_tokens([NewAccount("ann")], ann.id)
    assert entries(store) == before
