"""The tables of schema 2, and what a file of schema 1 held.

Schema 1 was one SQLite file of comparisons with two responses, made without migrations.

Revision ID: 0002
Revises:
"""

import json
import random
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection, text

revision = "0002"
down_revision = None

_OLD = ("vote", "assignment", "comparison", "campaign", "user", "meta")


def upgrade() -> None:
    """Make the tables, and move into them what older ones hold."""
    connection = op.get_bind()
    is_old = "meta" in sa.inspect(connection).get_table_names()
    if is_old:
        _set_aside(connection)
    _create()
    _guard(connection)
    if is_old:
        _take_over(connection)


def _set_aside(connection: Connection) -> None:
    for trigger in ("vote_is_never_deleted", "vote_only_retires"):
        connection.execute(text(f"DROP TRIGGER {trigger}"))
    for name in _OLD:
        for index in sa.inspect(connection).get_indexes(name):
            op.drop_index(str(index["name"]), table_name=name)
        op.rename_table(name, f"old_{name}")


def _take_over(connection: Connection) -> None:
    run = connection.execute
    run(
        text(
            "INSERT INTO person (id, name, handle, role, password_hash, created_at) "
            "SELECT id, name, handle, role, password_hash, created_at FROM old_user"
        )
    )
    run(
        text(
            "INSERT INTO campaign (id, name, overlap, settings, num_tasks, num_complete, "
            "created_at) SELECT id, name, overlap, json_object('overlap', overlap), "
            "num_comparisons, num_complete, created_at FROM old_campaign"
        )
    )
    run(
        text(
            "INSERT INTO guideline (campaign_id, version, text, created_at) "
            "SELECT id, 1, guidelines, created_at FROM old_campaign WHERE guidelines <> ''"
        )
    )
    rows = run(text("SELECT * FROM old_comparison ORDER BY id")).mappings()
    while batch := rows.fetchmany(1000):
        run(
            text(
                "INSERT INTO task (id, campaign_id, key, record, use, rank, shuffle, num_votes, "
                "complete) VALUES (:id, :campaign_id, :key, :record, 'work', 0, :shuffle, "
                ":num_votes, :complete)"
            ),
            [
                dict(row) | {"record": _as_task(row["record"]), "shuffle": random.random()}
                for row in batch
            ],
        )
    run(
        text(
            "INSERT INTO assignment (id, campaign_id, task_id, rater_id, shown_order, source, "
            "shown_at, expires_at, open) SELECT id, campaign_id, comparison_id, rater_id, "
            "CASE a_side WHEN 'left' THEN '01' ELSE '10' END, 'order', shown_at, expires_at, open "
            "FROM old_assignment"
        )
    )
    run(
        text(
            "INSERT INTO vote (id, assignment_id, campaign_id, task_id, rater_id, outcome, "
            "strength, content, reason, shown_at, answered_at, key, guideline, supersedes, "
            "surplus, live) SELECT v.id, v.assignment_id, v.campaign_id, v.comparison_id, "
            "v.rater_id, v.outcome, v.strength, '{}', v.reason, v.shown_at, v.answered_at, v.key, "
            "COALESCE(g.version, 0), v.supersedes, 0, v.live FROM old_vote v "
            "LEFT JOIN guideline g ON g.campaign_id = v.campaign_id ORDER BY v.id"
        )
    )
    for name in _OLD:
        op.drop_table(f"old_{name}")


def _as_task(comparison: str) -> str:
    data: dict[str, Any] = json.loads(comparison)
    task = {
        "prompt": data["prompt"],
        "responses": [data["response_a"], data["response_b"]],
        "metadata": data.get("metadata", {}),
    }
    return json.dumps(task, ensure_ascii=False)


def _guard(connection: Connection) -> None:
    """Let the database itself refuse to change a vote, but for retiring it."""
    kept = [c["name"] for c in sa.inspect(connection).get_columns("vote") if c["name"] != "live"]
    sign = "IS NOT" if connection.dialect.name == "sqlite" else "IS DISTINCT FROM"
    changed = " OR ".join(f"NEW.{column} {sign} OLD.{column}" for column in kept)
    rules = {
        "vote_is_never_deleted": ("DELETE", "votes are never deleted", "true"),
        "vote_only_retires": (
            "UPDATE",
            "votes are never changed",
            f"(NEW.live AND NOT OLD.live) OR {changed}",
        ),
    }
    for name, (event, message, when) in rules.items():
        if connection.dialect.name == "sqlite":
            statements = [
                f"CREATE TRIGGER {name} BEFORE {event} ON vote WHEN {when} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            ]
        else:
            statements = [
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"RAISE integrity_constraint_violation USING MESSAGE = '{message}'; END $$",
                f"CREATE TRIGGER {name} BEFORE {event} ON vote FOR EACH ROW WHEN ({when}) "
                f"EXECUTE FUNCTION {name}()",
            ]
        for statement in statements:
            connection.exec_driver_sql(statement)


def _create() -> None:
    op.create_table(
        "campaign",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("num_tasks", sa.Integer(), nullable=False),
        sa.Column("num_complete", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.CheckConstraint("overlap >= 1", name=op.f("campaign_has_raters")),
        sa.PrimaryKeyConstraint("id", name=op.f("campaign_pk")),
        sa.UniqueConstraint("name", name=op.f("campaign_name_once")),
    )
    op.create_table(
        "invitation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.CheckConstraint(
            "role IN ('guest', 'rater', 'adjudicator', 'admin')", name=op.f("invitation_known_role")
        ),
        sa.CheckConstraint("uses_left >= 0", name=op.f("invitation_is_counted")),
        sa.PrimaryKeyConstraint("id", name=op.f("invitation_pk")),
        sa.UniqueConstraint("hash", name=op.f("invitation_hash_once")),
    )
    op.create_table(
        "person",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.CheckConstraint(
            "role IN ('guest', 'rater', 'adjudicator', 'admin')", name=op.f("person_known_role")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("person_pk")),
        sa.UniqueConstraint("handle", name=op.f("person_handle_once")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["person.id"], name=op.f("audit_user_id_of_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pk")),
    )
    op.create_table(
        "guideline",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("guideline_campaign_id_of_campaign")
        ),
        sa.PrimaryKeyConstraint("campaign_id", "version", name=op.f("guideline_pk")),
    )
    op.create_table(
        "task",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("use", sa.String(), nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("shuffle", sa.Double(), nullable=False),
        sa.Column("num_votes", sa.Integer(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.CheckConstraint("use IN ('work', 'check', 'qualify')", name=op.f("task_known_use")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("task_campaign_id_of_campaign")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("task_pk")),
        sa.UniqueConstraint("campaign_id", "key", name=op.f("task_campaign_id_key_once")),
    )
    op.create_index(
        "task_by_number",
        "task",
        ["campaign_id", "use", "id"],
        unique=False,
        sqlite_where=sa.text("complete = 0"),
        postgresql_where=sa.text("NOT complete"),
    )
    op.create_index(
        "task_by_rank",
        "task",
        ["campaign_id", "use", "rank", "id"],
        unique=False,
        sqlite_where=sa.text("complete = 0"),
        postgresql_where=sa.text("NOT complete"),
    )
    op.create_index(
        "task_by_shuffle",
        "task",
        ["campaign_id", "use", "shuffle", "id"],
        unique=False,
        sqlite_where=sa.text("complete = 0"),
        postgresql_where=sa.text("NOT complete"),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["person.id"], name=op.f("token_user_id_of_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("token_pk")),
        sa.UniqueConstraint("hash", name=op.f("token_hash_once")),
    )
    op.create_index(op.f("token_user_id"), "token", ["user_id"], unique=False)
    op.create_table(
        "assignment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("rater_id", sa.Integer(), nullable=False),
        sa.Column("shown_order", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("shown_at", sa.String(), nullable=False),
        sa.Column("expires_at", sa.String(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("assignment_campaign_id_of_campaign")
        ),
        sa.ForeignKeyConstraint(
            ["rater_id"], ["person.id"], name=op.f("assignment_rater_id_of_person")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("assignment_task_id_of_task")),
        sa.PrimaryKeyConstraint("id", name=op.f("assignment_pk")),
        sa.UniqueConstraint("task_id", "rater_id", name=op.f("assignment_task_id_rater_id_once")),
    )
    op.create_index(
        "assignment_open",
        "assignment",
        ["rater_id", "campaign_id", "id"],
        unique=False,
        sqlite_where=sa.text("open = 1"),
        postgresql_where=sa.text("open"),
    )
    op.create_table(
        "flag",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("flag_campaign_id_of_campaign")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("flag_task_id_of_task")),
        sa.ForeignKeyConstraint(["user_id"], ["person.id"], name=op.f("flag_user_id_of_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("flag_pk")),
        sa.UniqueConstraint(
            "task_id", "user_id", "kind", name=op.f("flag_task_id_user_id_kind_once")
        ),
    )
    op.create_index(op.f("flag_campaign_id"), "flag", ["campaign_id"], unique=False)
    op.create_table(
        "vote",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("assignment_id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("rater_id", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("strength", sa.Integer(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("shown_at", sa.String(), nullable=False),
        sa.Column("answered_at", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=False),
        sa.Column("supersedes", sa.Integer(), nullable=True),
        sa.Column("surplus", sa.Boolean(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('a', 'b', 'tie', 'both_bad', 'good', 'bad', 'ranked', 'rated', "
            "'rewritten', 'skip', 'undone')",
            name=op.f("vote_known_outcome"),
        ),
        sa.CheckConstraint("strength BETWEEN 1 AND 3", name=op.f("vote_known_strength")),
        sa.ForeignKeyConstraint(
            ["assignment_id"], ["assignment.id"], name=op.f("vote_assignment_id_of_assignment")
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("vote_campaign_id_of_campaign")
        ),
        sa.ForeignKeyConstraint(["rater_id"], ["person.id"], name=op.f("vote_rater_id_of_person")),
        sa.ForeignKeyConstraint(["supersedes"], ["vote.id"], name=op.f("vote_supersedes_of_vote")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("vote_task_id_of_task")),
        sa.PrimaryKeyConstraint("id", name=op.f("vote_pk")),
        sa.UniqueConstraint("rater_id", "key", name=op.f("vote_rater_id_key_once")),
    )
    op.create_index(op.f("vote_assignment_id"), "vote", ["assignment_id"], unique=False)
    op.create_index(
        "vote_of_campaign",
        "vote",
        ["campaign_id"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live"),
    )
    op.create_index(
        "vote_of_rater",
        "vote",
        ["rater_id", "campaign_id", "id"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live"),
    )
    op.create_index(
        "vote_one_live",
        "vote",
        ["task_id", "rater_id"],
        unique=True,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live"),
    )
