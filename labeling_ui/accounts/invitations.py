"""Invitations, with which people make accounts.

One is a long random text that is shown once; the database keeps its hash.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from labeling_ui.accounts.audit import note, stamp
from labeling_ui.accounts.tokens import hash_of
from labeling_ui.accounts.users import (
    ROLES,
    Account,
    Accounts,
    NewAccount,
    account_of,
    insert_users,
)
from labeling_ui.db.store import NotFound, Store
from labeling_ui.db.tables import InvitationRow
from labeling_ui.locales import Sentence
from rlhf.errors import DataError

MAX_USES = 1000
MAX_DAYS = 90

_STALE = Sentence("refused_invitation")


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation without its text."""

    id: int
    role: str
    uses_left: int
    expires_at: str


class Invitations:
    """The invitations of one store."""

    def __init__(self, store: Store, accounts: Accounts) -> None:
        self._store, self._accounts = store, accounts

    def make(self, role: str, *, uses: int, days: float, actor: int | None) -> str:
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
                hash=hash_of(code),
                role=role,
                uses_left=uses,
                expires_at=_later(days),
                created_at=stamp(),
            )
            session.add(row)
            session.flush()
            note(session, actor, "invite", {"invitation": row.id, "role": role, "uses": uses})
        return code

    def open(self) -> list[Invitation]:
        """Those that still let somebody in, the oldest first."""
        wanted = (
            select(InvitationRow)
            .where(InvitationRow.uses_left > 0, InvitationRow.expires_at > stamp())
            .order_by(InvitationRow.id)
        )
        with self._store.read() as session:
            rows = session.scalars(wanted).all()
        return [Invitation(r.id, r.role, r.uses_left, r.expires_at) for r in rows]

    def withdraw(self, number: int, actor: int | None) -> None:
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
        hashed = hash_of(code)
        with self._store.read() as session:
            self._find(session, hashed)  # before the work of hashing a stranger's password
        row = self._accounts.row(NewAccount(name, password))
        with self._store.write() as session:
            invitation = self._find(session, hashed)
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

    def _find(self, session: Session, hashed: str) -> InvitationRow:
        row = session.scalar(select(InvitationRow).where(InvitationRow.hash == hashed))
        if row is None or not row.uses_left or row.expires_at <= stamp():
            raise NotFound(_STALE)
        return row


def _later(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="milliseconds")
