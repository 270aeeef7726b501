"""Who did what to the database, apart from voting."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from labeling_ui.db.store import Store
from labeling_ui.db.tables import AuditRow, UserRow


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that somebody did."""

    id: int
    at: str
    user: str | None
    """None for the command line."""
    action: str
    detail: Mapping[str, Any]


def stamp() -> str:
    """Now, as ISO 8601 in UTC of one width."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def note(session: Session, actor: int | None, action: str, detail: Mapping[str, Any]) -> None:
    """Write down, in the transaction that does it, what ``actor`` does."""
    text = json.dumps(dict(detail), ensure_ascii=False)
    session.add(AuditRow(at=stamp(), user_id=actor, action=action, detail=text))


def entries(store: Store, *, before: int | None = None, limit: int = 100) -> list[Entry]:
    """The latest first; those with a number under ``before``."""
    wanted = select(AuditRow, UserRow.name).outerjoin(UserRow, UserRow.id == AuditRow.user_id)
    if before is not None:
        wanted = wanted.where(AuditRow.id < before)
    with store.read() as session:
        rows = session.execute(wanted.order_by(AuditRow.id.desc()).limit(limit)).all()
    return [Entry(r.id, r.at, name, r.action, json.loads(r.detail)) for r, name in rows]
