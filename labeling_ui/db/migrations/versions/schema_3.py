"""Schema 3: the settings of a campaign say every rule.

Before, what was at its default was left out, and a later default would have changed it.

Revision ID: 0003
Revises: 0002
"""

import json
from typing import Any, cast

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"

_DEFAULTS = {
    "kind": "pairwise",
    "overlap": 1,
    "source": "pool",
    "strength": "optional",
    "ties": True,
    "aspects": [],
    "lease_minutes": 30.0,
    "quota": None,
    "skip": "others",
    "check_every": None,
    "max_failed_checks": None,
    "pass_mark": None,
    "random_share": 1.0,
}
"""As they were under schema 2; they stay as they are here, whatever becomes of the others."""


def upgrade() -> None:
    """Fill in what was left out."""
    connection = op.get_bind()
    for number, settings in connection.execute(text("SELECT id, settings FROM campaign")).all():
        try:
            kept = json.loads(settings)
        except ValueError:  # `rlhf label doctor` names it
            continue
        if isinstance(kept, dict):
            whole = json.dumps(_DEFAULTS | cast("dict[str, Any]", kept))
            change = text("UPDATE campaign SET settings = :settings WHERE id = :number")
            connection.execute(change, {"settings": whole, "number": number})
