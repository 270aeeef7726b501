"""Tokens, with which programs sign in, and invitations, with which people make accounts.

Both are long random texts that are shown once; the database keeps their hashes.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from labeling_ui.accounts.audit import note, stamp
from labeling_ui.accounts.users import (
    ROLES,
    Account,
    Accounts,
    NewAccount,
    account_of,
    find_user,
    insert_users,
)
from labeling_ui.db.store import NotFound, Store
from labeling_ui.db.tables import InvitationRow, TokenRow, UserRow
from labeling_ui.locales import Sentence
from rlhf.errors import DataError

PREFIX = "rlhf_"
MAX_USES = 1000
MAX_DAYS = 90

_OF_TOKEN = (
    select(UserRow.id, UserRow.name, UserRow.role)
    .join(TokenRow, TokenRow.user_id == UserRow.id)
    .where(TokenRow.hash == bindparam("hash"), TokenRow.revoked_at.is_(None))
)
_STALE = Sentence("refused_invitation")


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its text."""

    id: int
    user: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation without its text."""

    id: int
    role: str
    uses_left: int
    expires_at: str


class Passes:
    """The tokens and invitations of one store."""

    def __init__(self, store: Store, accounts: Accounts) -> None:
        self._store, self._accounts = store, accounts

    def add_with_tokens(
        self, people: Sequence[NewAccount], actor: int | None
    ) -> list[tuple[Account, str]]:
        """New users, each with a token, all or none.

        Raises:
            DataError: naming the one that is not acceptable.
            Conflict: if a name is taken.
        """
        rows: list[UserRow] = []
        for number, person in enumerate(people):
            try:
                rows.append(self._accounts.row(person))
            except DataError as error:
                raise DataError(f"users[{number}]: {error}") from error
        if not rows:
            return []
        with self._store.write() as session:
            insert_users(session, rows, actor)
            made = [(account_of(row), _insert_token(session, row)) for row in rows]
            note(session, actor, "make tokens", {"count": len(made)})
        return made

    def make_token(self, name: str, actor: int | None) -> str:
        """A new token of the user called ``name``."""
        with self._store.write() as session:
            row = find_user(session, name)
            note(session, actor, "make token", {"user": row.name})
            return _insert_token(session, row)

    def of_token(self, token: str) -> Account | None:
        """Whose token it is; None if nobody's, or if it was revoked."""
        row = self._store.one(_OF_TOKEN, hash=_hash(token))
        return account_of(row) if row else None

    def tokens(self, user: int) -> list[Token]:
        """Those of a user that work, the oldest first."""
        wanted = (
            select(TokenRow, UserRow.name)
            .join(UserRow, UserRow.id == TokenRow.user_id)
            .where(TokenRow.user_id == user, TokenRow.revoked_at.is_(None))
            .order_by(TokenRow.id)
        )
        with self._store.read() as session:
            return [Token(row.id, name, row.created_at) for row, name in session.execute(wanted)]

    def revoke(self, number: int, actor: Account) -> None:
        """Make a token of the actor's useless; an admin may do so with anybody's.

        Raises:
            NotFound: if there is none of that number that works.
        """
        with self._store.write() as session:
            row = session.get(TokenRow, number)
            known = row is not None and row.revoked_at is None
            if row is None or not known or not (row.user_id == actor.id or actor.may("admin")):
                raise NotFound(f"there is no token {number} of yours")
            row.revoked_at = stamp()
            note(session, actor.id, "revoke token", {"token": number, "user": row.user_id})

    def revoke_all(self, name: str, actor: int | None) -> int:
        """Make every token of the user called ``name`` useless; how many there were."""
        with self._store.write() as session:
            row = find_user(session, name)
            found = session.scalars(
                select(TokenRow).where(TokenRow.user_id == row.id, TokenRow.revoked_at.is_(None))
            ).all()
            for token in found:
                token.revoked_at = stamp()
            note(session, actor, "revoke tokens", {"user": row.name, "count": len(found)})
            return len(found)

    def invite(self, role: str, *, uses: int, days: float, actor: int | None) -> str:
        """The text of a new invitation: ``uses`` people may become ``role`` within ``days``.

        Raises:
            DataError: if it would be for nobody, for too many or for too long.
        """
        if role not in ROLES:
            raise DataError(f"role {role!r} is unknown; use {', '.join(ROLES)}")
        if not 1 <= uses <= MAX_USES or not 0 < days <= MAX_DAYS:
            raise DataError(
                f"an invitation is for 1 to {MAX_USES} people, and for {MAX_DAYS} days at most"
            )
        code = secrets.token_urlsafe(24)
        with self._store.write() as session:
            row = InvitationRow(
                hash=_hash(code),
                role=role,
                uses_left=uses,
                expires_at=_later(days),
                created_at=stamp(),
            )
            session.add(row)
            session.flush()
            note(session, actor, "invite", {"invitation": row.id, "role": role, "uses": uses})
        return code

    def invitations(self) -> list[Invitation]:
        """Those that still let somebody in, the oldest first."""
        wanted = (
            select(InvitationRow)
            .where(InvitationRow.uses_left > 0, InvitationRow.expires_at > stamp())
            .order_by(InvitationRow.id)
        )
        with self._store.read() as session:
            rows = session.scalars(wanted).all()
        return [Invitation(r.id, r.role, r.uses_left, r.expires_at) for r in rows]

    def uninvite(self, number: int, actor: int | None) -> None:
        """Close an invitation."""
        with self._store.write() as session:
            row = session.get(InvitationRow, number)
            if row is None or not row.uses_left:
                raise NotFound(f"there is no open invitation {number}")
            row.uses_left = 0
            note(session, actor, "withdraw invitation", {"invitation": number})

    def accept(self, code: str, name: str, password: str) -> Account:
        """The account of somebody who was invited.

        Raises:
            NotFound: if the invitation is unknown, used up or expired.
            DataError: if name or password is not acceptable; the invitation is not used then.
            Conflict: if the name is taken.
        """
        hashed = _hash(code)
        with self._store.read() as session:
            self._open(session, hashed)  # before the work of hashing a stranger's password
        row = self._accounts.row(NewAccount(name, password))
        with self._store.write() as session:
            invitation = self._open(session, hashed)
            row.role = invitation.role
            taken = session.scalar(  # another may take the last place at the same moment
                update(InvitationRow)
                .where(InvitationRow.id == invitation.id, InvitationRow.uses_left > 0)
                .values(uses_left=InvitationRow.uses_left - 1)
                .returning(InvitationRow.id)
            )
            if taken is None:
                raise NotFound(_STALE)
            insert_users(session, [row], None)
            note(session, row.id, "accept invitation", {"invitation": invitation.id})
        return account_of(row)

    def _open(self, session: Session, hashed: str) -> InvitationRow:
        row = session.scalar(select(InvitationRow).where(InvitationRow.hash == hashed))
        if row is None or not row.uses_left or row.expires_at <= stamp():
            raise NotFound(_STALE)
        return row


def _insert_token(session: Session, user: UserRow) -> str:
    token = PREFIX + secrets.token_urlsafe(32)
    session.add(TokenRow(hash=_hash(token), user_id=user.id, created_at=stamp(), revoked_at=None))
    return token


def _hash(secret: str) -> str:
    """Fast is enough: nobody guesses 32 random bytes."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _later(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="milliseconds")
