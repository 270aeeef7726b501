"""Tokens, with which programs sign in.

One is a long random text that is shown once; the database keeps its hash.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from labeling_ui.accounts.audit import note, stamp
from labeling_ui.accounts.users import (
    Account,
    Accounts,
    NewAccount,
    account_of,
    find_user,
    insert_users,
)
from labeling_ui.db.store import NotFound, Store
from labeling_ui.db.tables import TokenRow, UserRow
from rlhf.errors import DataError

PREFIX = "rlhf_"

_OF_TOKEN = (
    select(UserRow.id, UserRow.name, UserRow.role)
    .join(TokenRow, TokenRow.user_id == UserRow.id)
    .where(TokenRow.hash == bindparam("hash"), TokenRow.revoked_at.is_(None))
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its text."""

    id: int
    user: str
    created_at: str


class Tokens:
    """The tokens of one store."""

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

    def make(self, name: str, actor: int | None) -> str:
        """A new token of the user called ``name``."""
        with self._store.write() as session:
            row = find_user(session, name)
            note(session, actor, "make token", {"user": row.name})
            return _insert_token(session, row)

    def owner(self, token: str) -> Account | None:
        """Whose token it is; None if nobody's, or if it was revoked."""
        row = self._store.one(_OF_TOKEN, hash=hash_of(token))
        return account_of(row) if row else None

    def of_user(self, user: int) -> list[Token]:
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
            if row is None or not known or not (row.user_id == actor.id or actor.has_role("admin")):
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


def _insert_token(session: Session, user: UserRow) -> str:
    token = PREFIX + secrets.token_urlsafe(32)
    session.add(TokenRow(hash=hash_of(token), user_id=user.id, created_at=stamp(), revoked_at=None))
    return token


def hash_of(secret: str) -> str:
    """Fast is enough: nobody guesses 32 random bytes."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
