"""Who may sign in, as what, and how often somebody may guess a password."""

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import Row, bindparam, func, select
from sqlalchemy.orm import Session

from labeling_ui.accounts.audit import note, stamp
from labeling_ui.accounts.rate_limits import Throttle
from labeling_ui.db.store import Conflict, NotFound, Store
from labeling_ui.db.tables import UserRow
from labeling_ui.locales import Sentence
from rlhf.errors import DataError

UserRole = Literal["guest", "rater", "adjudicator", "admin"]
ROLES: tuple[UserRole, ...] = get_args(UserRole)
"""From the one who may least; each may what those before may."""

SESSION_SECONDS = 30 * 24 * 3600
_NAME = re.compile(r"\w[\w .@+-]{0,63}")
_MIN_PASSWORD, _MAX_PASSWORD = 8, 256
_OF_COOKIE = select(UserRow.id, UserRow.name, UserRow.role, UserRow.password_hash).where(
    UserRow.id == bindparam("user")
)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who is signed in."""

    id: int
    name: str
    role: UserRole

    def has_role(self, role: UserRole) -> bool:
        """Whether this one may do what ``role`` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """Somebody to add; without a password only a token signs in."""

    name: str
    password: str | None = None
    role: str = "rater"


class Accounts:
    """The users of one store, and their sessions.

    A session is a signed cookie that names the user; role and existence are read from the
    store at every request, so that a change acts at once.
    """

    def __init__(
        self,
        store: Store,
        secret: str,
        *,
        hasher: PasswordHasher | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._store = store
        self._hasher = hasher or PasswordHasher()
        self._throttle = throttle or Throttle()
        self._signer = URLSafeTimedSerializer(secret, salt="rlhf-label-session")
        # Verified when the name is unknown, so that the time taken does not tell which names exist.
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def add(self, name: str, password: str, role: str) -> Account:
        """A new user with a password, from the command line.

        Raises:
            DataError: if name, password or role is not acceptable.
            Conflict: if the name is taken, in whatever case.
        """
        return self.add_new(NewAccount(name, password, role), None)

    def add_new(self, new: NewAccount, actor: int | None) -> Account:
        """The same, by whoever ``actor`` is."""
        row = self.row(new)
        with self._store.write() as session:
            insert_users(session, [row], actor)
        return account_of(row)

    def row(self, new: NewAccount) -> UserRow:
        """The row of a new user, checked, not stored. To hash a password takes a moment."""
        name = _plain(new.name)
        if not _NAME.fullmatch(name):
            raise DataError(Sentence("refused_name"))
        if new.role not in ROLES:
            raise DataError(f"role {new.role!r} is unknown; use {', '.join(ROLES)}")
        return UserRow(
            name=name,
            handle=name.lower(),
            role=new.role,
            password_hash="" if new.password is None else self._hash(new.password),
            created_at=stamp(),
        )

    def _hash(self, password: str) -> str:
        if not _MIN_PASSWORD <= len(password) <= _MAX_PASSWORD:
            raise DataError(Sentence("refused_password", least=_MIN_PASSWORD, most=_MAX_PASSWORD))
        return self._hasher.hash(password)

    def set_password(self, name: str, password: str, actor: int | None) -> None:
        """Another password; every session of the user ends.

        Raises:
            NotFound: if there is no such user.
            DataError: if the password is not acceptable.
        """
        hashed = self._hash(password)
        with self._store.write() as session:
            row = find_user(session, name)
            row.password_hash = hashed
            note(session, actor, "change password", {"user": row.name})

    def sign_in(self, name: str, password: str, address: str) -> Account | None:
        """The account, or None if name or password is wrong.

        Raises:
            Throttled: after several wrong tries at this name from this address.
        """
        name = _plain(name)
        key = f"{address} {name.lower()}"
        self._throttle.try_at(key)
        with self._store.read() as session:
            row = session.scalar(select(UserRow).where(UserRow.handle == name.lower()))
        try:
            kept = row.password_hash if row else ""  # empty where only a token signs in
            self._hasher.verify(kept or self._nobody, password)
        except VerifyMismatchError:
            row = None
        if row is None:
            return None
        self._throttle.succeeded(key)
        return account_of(row)

    def cookie(self, account: Account) -> str:
        """A signed session for ``account``, until its password changes."""
        with self._store.read() as session:
            row = session.get_one(UserRow, account.id)
        return self._signer.dumps([row.id, _mark(row)])

    def of_cookie(self, cookie: str | None) -> Account | None:
        """Who sent ``cookie``; None if it is missing, forged, expired or of nobody."""
        try:
            user, mark = self._signer.loads(cookie or "", max_age=SESSION_SECONDS)
        except (BadSignature, TypeError):  # a session of an earlier version is one number
            return None
        row = self._store.one(_OF_COOKIE, user=user)
        return account_of(row) if row and _mark(row) == mark else None

    def count(self) -> int:
        """How many users there are."""
        with self._store.read() as session:
            return session.scalar(select(func.count()).select_from(UserRow)) or 0


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip()


def _mark(row: UserRow | Row[*tuple[Any, ...]]) -> str:
    """Changes with the password, and does not tell it."""
    return hashlib.sha256(row.password_hash.encode()).hexdigest()[:16]


def account_of(row: UserRow | Row[*tuple[Any, ...]]) -> Account:
    """The account in a row."""
    return Account(row.id, row.name, cast("UserRole", row.role))


def find_user(session: Session, name: str) -> UserRow:
    """The user called ``name``, or :class:`NotFound`."""
    row = session.scalar(select(UserRow).where(UserRow.handle == _plain(name).lower()))
    if row is None:
        raise NotFound(f"there is no user {name!r}")
    return row


def insert_users(session: Session, rows: Sequence[UserRow], actor: int | None) -> None:
    """Store new users, all or none.

    Raises:
        Conflict: naming one whose name is taken, in whatever case.
    """
    seen: set[str] = set()
    for start in range(0, len(rows), 500):
        handles = [row.handle for row in rows[start : start + 500]]
        seen.update(session.scalars(select(UserRow.handle).where(UserRow.handle.in_(handles))))
    for row in rows:
        if row.handle in seen:
            raise Conflict(Sentence("refused_user", name=repr(row.name)))
        seen.add(row.handle)
    session.add_all(rows)
    session.flush()
    who = {"users": [row.name for row in rows[:20]], "count": len(rows), "role": rows[0].role}
    note(session, actor, "add users", who)
