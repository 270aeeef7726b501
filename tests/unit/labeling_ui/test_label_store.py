import json
import sqlite3
import stat
from contextlib import closing
from dataclasses import fields

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import IntegrityError

from labeling_ui.campaigns.answers import Answer
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings
from labeling_ui.db.store import SCHEMA, Store, StoreError
from labeling_ui.db.tables import AuditRow
from labeling_ui.maintenance.integrity import examine
from tests.labeling import PASSWORD, cheap_accounts, tasks


def voted(store: Store) -> None:
    rater = cheap_accounts(store).add("ann", PASSWORD, "rater").id
    campaigns = Campaigns(store)
    campaigns.add("one", tasks(1))
    item = campaigns.next("one", rater).item
    assert item is not None
    campaigns.submit("one", rater, Answer(item.assignment, "left", "key-00001"))


def test_commits_reach_the_disk_and_readers_wait_for_nobody(store):
    if store.kind == "postgresql":
        with store.read() as session:
            names = ("synchronous_commit", "transaction_isolation")
            found = [session.scalar(text(f"SHOW {name}")) for name in names]
        assert found == ["on", "repeatable read"]
        return
    with store.read() as session:
        modes = [
            session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    full, on = 2, 1
    assert modes == ["wal", full, on]


def test_a_database_opens_again_with_what_it_held(tmp_path):
    for _ in range(2):
        with closing(Store(tmp_path / "label.db")) as store, store.read() as session:
            assert session.scalar(text("SELECT version_num FROM alembic_version")) == SCHEMA


def test_a_campaign_keeps_every_rule_whatever_the_defaults_become(store):
    """What was left out is filled in as it was when it was left out."""
    Campaigns(store).add("one", tasks(1), settings=Settings(overlap=2))
    names = {one.name for one in fields(Settings)}
    with store.read() as session:
        kept = json.loads(session.scalar(text("SELECT settings FROM campaign")))
    assert kept.keys() == names
    assert kept["overlap"] == 2
    with store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0002'"))
        session.execute(text("""UPDATE campaign SET settings = '{"overlap"\\:2}'"""))
    with closing(Store(store.database)) as again, again.read() as session:
        assert json.loads(session.scalar(text("SELECT settings FROM campaign"))) == kept
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == SCHEMA


def test_settings_that_cannot_be_read_do_not_keep_a_database_from_being_opened(store):
    Campaigns(store).add("one", tasks(1))
    with store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0002'"))
        session.execute(text("UPDATE campaign SET settings = '{'"))
    with closing(Store(store.database)) as again:
        assert "the settings of campaign one cannot be read" in examine(again).problems


def test_a_newer_schema_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "label.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"label\.db: was written by a newer version.*upgrade"):
        Store(path)


def test_a_locked_database_is_named_after_a_while(tmp_path):
    path = tmp_path / "label.db"
    with closing(Store(path, patience=0.05)) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(StoreError, match=r"label\.db: is locked by another program"),
            store.write(),
        ):
            pass
        other.rollback()
        with store.write():
            pass


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "other.db"
    if content is None:
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("CREATE TABLE recipes (name TEXT)")
    else:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"other\.db: is not a label database"):
        Store(path)


def test_a_missing_database_is_not_made_by_looking(tmp_path):
    path = tmp_path / "label.db"
    with pytest.raises(StoreError, match="no such label database"):
        Store(path, create=False)
    assert not path.exists()


def test_nobody_else_can_read_a_new_database(tmp_path):
    Store(tmp_path / "label.db").close()
    assert stat.S_IMODE((tmp_path / "label.db").stat().st_mode) == 0o600


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StoreError, match="check that its folder exists"):
        Store(tmp_path / "nowhere" / "label.db")


@pytest.mark.postgresql
def test_a_database_that_takes_no_writes_is_not_taken_for_a_file(postgresql):
    address = postgresql.fresh()
    name = make_url(address).database
    postgresql.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with (
        closing(Store(address)) as store,
        pytest.raises(StoreError, match=r"takes no writes; name the primary .* is off$"),
        store.write() as session,
    ):
        session.add(AuditRow(at="", action="half", detail="{}"))


def test_an_error_that_is_not_the_files_fault_is_not_dressed_up(store):
    with pytest.raises(Exception, match="syntax error") as raised, store.read() as session:
        session.execute(text("SELEKT"))
    assert not isinstance(raised.value, StoreError)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM vote", "votes are never deleted"),
        ("UPDATE vote SET outcome = 'tie'", "votes are never changed"),
        ("UPDATE vote SET reason = 'x'", "votes are never changed"),
    ],
)
def test_the_database_itself_keeps_votes_as_they_were_cast(store, statement, reason):
    voted(store)
    with pytest.raises(IntegrityError, match=reason), store.write() as session:
        session.execute(text(statement))


def test_a_retired_vote_does_not_come_back(store):
    voted(store)
    with store.write() as session:
        session.execute(text("UPDATE vote SET live = false"))
    with pytest.raises(IntegrityError, match="never changed"), store.write() as session:
        session.execute(text("UPDATE vote SET live = true"))


def test_a_rater_has_one_live_vote_per_comparison_whatever_the_code_does(store):
    voted(store)
    again = (
        "INSERT INTO vote (assignment_id, campaign_id, task_id, rater_id, outcome, content, reason,"
        " shown_at, answered_at, key, guideline, surplus, live) SELECT assignment_id, campaign_id,"
        " task_id, rater_id, 'b', '{}', '', '', '', 'another', 0, false, true FROM vote"
    )
    with pytest.raises(IntegrityError, match=r"(?i)unique"), store.write() as session:
        session.execute(text(again))


def test_a_failed_transaction_leaves_nothing(store):
    def half() -> None:
        with store.write() as session:
            session.add(AuditRow(at="", action="half", detail="{}"))
            session.flush()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        half()
    with store.read() as session:
        assert session.scalar(select(AuditRow)) is None
