import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text

from labeling_ui.campaigns.answers import Answer
from labeling_ui.campaigns.service import Campaigns, utc_now
from labeling_ui.campaigns.setup import make
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Store
from labeling_ui.db.tables import Base, CampaignRow
from labeling_ui.maintenance.backup import copy_to_file, fill_from_file
from labeling_ui.maintenance.integrity import examine
from labeling_ui.results.export import export
from rlhf.errors import DataError
from rlhf.records import Prompt, Response
from tests.labeling import PASSWORD, cheap_accounts, tasks

HERE = Path(__file__).parent


def used(store: Store, settings: Settings = Settings(overlap=2)) -> None:  # noqa: B008 - frozen
    """A campaign with votes of two raters, one skip and one answer withdrawn."""
    campaigns, accounts = Campaigns(store), cheap_accounts(store)
    campaigns.add("one", tasks(4), settings=settings, guidelines="Be fair.")
    for name in ("ann", "bob"):
        rater = accounts.add(name, PASSWORD, "rater").id
        for number, choice in enumerate(("left", "tie", "skip")):
            item = campaigns.next("one", rater).item
            assert item is not None
            campaigns.submit("one", rater, Answer(item.assignment, choice, f"key-{number}"))
        campaigns.undo("one", rater)
    accounts.add("admin", PASSWORD, "admin")


def test_a_database_that_was_used_is_sound(store):
    assert examine(store).problems == ()
    used(store)
    found = examine(store)
    assert found.problems == ()
    assert found.counts == {"people": 3, "campaigns": 1, "tasks": 4, "votes": 8}


BREAKS = {
    "UPDATE task SET num_votes = 1 WHERE id = 1": "places of task 1 .* were 2, counted 1",
    "UPDATE task SET complete = NOT complete WHERE id = 1": "task 1 is marked complete",
    "UPDATE campaign SET overlap = 1": "task 1 has 2 votes where 1 were asked",
    "UPDATE campaign SET num_tasks = 3": "campaign one counts 3 tasks and has 4",
    "UPDATE campaign SET num_complete = 0": "counts 0 complete tasks and has 2",
    "UPDATE assignment SET rater_id = 3 WHERE id = 1": "vote 1 is of another task",
    "UPDATE vote SET live = false WHERE id = 1": "vote 1 does not count, and nothing says why",
    "UPDATE assignment SET open = true WHERE id = 1": "assignment 1 is open though vote 1",
}


@pytest.mark.parametrize("statement", BREAKS)
def test_the_doctor_sees_that(store, statement):
    used(store)
    with store.write() as session:
        session.execute(text(statement))
    assert any(re.search(BREAKS[statement], sentence) for sentence in examine(store).problems)


@pytest.mark.parametrize("aspect", ["list", "arena"])
def test_the_doctor_sees_a_task_with_too_many_votes_whatever_the_aspects_are_called(store, aspect):
    used(store, Settings(overlap=2, aspects=(aspect,)))
    assert examine(store).problems == ()
    with store.write() as session:
        session.execute(text("UPDATE campaign SET overlap = 1"))
    said = "task 1 has 2 votes where 1 were asked for"
    assert any(problem.startswith(said) for problem in examine(store).problems)


@pytest.mark.parametrize("rules", [{"skip": "drop"}, {"aspects": ["drop", "list"]}])
def test_settings_are_read_as_json_however_they_are_spaced(store, rules):
    used(store, Settings(overlap=2, **rules))
    with store.write() as session:
        [row] = session.scalars(select(CampaignRow))
        row.settings = json.dumps(json.loads(row.settings), indent=2, separators=(",", ":"))
    assert examine(store).problems == ()


def test_a_campaign_of_battles_hands_out_no_work_however_its_settings_are_spaced(store):
    campaigns = Campaigns(store)
    campaigns.add("one", [], settings=Settings(aspects=("arena",)))
    with store.write() as session:
        make(session, "battles", Settings(source="arena"), utc_now())
        for row in session.scalars(select(CampaignRow)):
            row.settings = json.dumps(json.loads(row.settings), separators=(",", ":"))
    assert campaigns.names() == [("one", "")]


HELD = {
    "UPDATE task SET record = '{' WHERE id = 1": "the record of task 1 cannot be read",
    "UPDATE task SET record = '[]' WHERE id = 1": "the record of task 1 cannot be read",
    "UPDATE task SET key = 'zz' WHERE id = 1": "the key of task 1 is not the hash of its content",
    "UPDATE task SET record = replace(record, 'Monday', 'Friday')": "the key of task 1 is not",
    "UPDATE campaign SET settings = '{'": "the settings of campaign one cannot be read",
    """UPDATE campaign SET settings = '{"overlap": 3}'""": "one asks for 3 votes .*, for 2 beside",
    """UPDATE campaign SET settings = '{"kind": "thumbs", "overlap": 2}'""": (
        "task 1 cannot be asked: a task of kind thumbs has 1 responses, not 2"
    ),
    "UPDATE assignment SET shown_order = '00' WHERE id = 1": "assignment 1 shows '00', which is no",
    "UPDATE assignment SET shown_order = '012' WHERE id = 1": "assignment 1 shows '012', which is",
    "UPDATE assignment SET shown_order = '' WHERE id = 1": "assignment 1 shows '', which is no",
    "UPDATE vote SET content = '{' WHERE id = 1": "the content of vote 1 cannot be read",
    "UPDATE vote SET content = '[]' WHERE id = 1": "the content of vote 1 cannot be read",
    "UPDATE vote SET outcome = 'good' WHERE id = 1": "vote 1 says good, .* of kind pairwise",
    "UPDATE vote SET guideline = 9 WHERE id = 1": "vote 1 was given under version 9 of the guide",
    "UPDATE vote SET surplus = true WHERE id = 1": "vote 1 counts though its place had gone",
}
"""What an export would stumble over, or take for what it is not."""


def without_guards(store: Store, statement: str) -> None:
    """Change a database whose triggers are taken away for the time."""
    with store.write() as session:
        if store.kind == "sqlite":
            guards = session.execute(
                text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            ).all()
            for name, _ in guards:
                session.execute(text(f"DROP TRIGGER {name}"))
            session.execute(text(statement.replace(":", "\\:")))
            for _, guard in guards:
                session.execute(text(guard))
        else:
            session.execute(text("ALTER TABLE vote DISABLE TRIGGER USER"))
            session.execute(text(statement.replace(":", "\\:")))
            session.execute(text("ALTER TABLE vote ENABLE TRIGGER USER"))


@pytest.mark.parametrize("statement", HELD)
def test_the_doctor_reads_what_the_rows_hold(store, statement):
    used(store)
    without_guards(store, statement)
    assert any(re.search(HELD[statement], sentence) for sentence in examine(store).problems)


@pytest.mark.parametrize("guard", ["vote_is_never_deleted", "vote_only_retires"])
def test_a_database_that_lost_what_keeps_its_votes_is_not_sound(store, guard):
    used(store)
    how = {"sqlite": "DROP TRIGGER {}", "postgresql": "ALTER TABLE vote DISABLE TRIGGER {}"}
    with store.write() as session:
        session.execute(text(how[store.kind].format(guard)))
    [said] = examine(store).problems
    assert said == f"the trigger {guard} is gone, which keeps votes as they were cast"


KINDS = {
    "ranking": (Answer(1, "ranked", "k", ranking=((0, 2), (1,))), (
        "{}", '{"ranking": 5}', '{"ranking": [[0, 1]]}', '{"ranking": [[0, 1], [2, 2]]}',
        '{"ranking": [[0, 1, 2], []]}', '{"ranking": [[0, 1, 2], 3]}',
    )),
    "rating": (Answer(1, "rated", "k", aspects={"honest": 4}), ("{}", '{"aspects": [4]}')),
    "rewrite": (Answer(1, "rewritten", "k", text="Better."), ("{}", '{"text": 1}')),
    "thumbs": (Answer(1, "good", "k"), ('{"aspects": 1}', "null")),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_content_of_a_vote_says_what_its_outcome_needs(store, kind):
    answer, wrong = KINDS[kind]
    campaigns = Campaigns(store)
    responses = tuple(Response(text, "p") for text in ("x", "y", "z"))
    task = Task(Prompt.from_text("?"), responses[: 3 if kind == "ranking" else 1])
    aspects = ("honest",) if kind == "rating" else ()
    campaigns.add("one", [task], settings=Settings(kind=kind, aspects=aspects))
    ann = cheap_accounts(store).add("ann", PASSWORD, "rater").id
    campaigns.next("one", ann)
    campaigns.submit("one", ann, answer)
    assert examine(store).problems == ()
    for content in wrong:
        without_guards(store, f"UPDATE vote SET content = '{content}'")
        assert examine(store).problems == ("the content of vote 1 cannot be read",)


def test_many_problems_of_a_kind_are_counted_in_a_few_lines(store):
    Campaigns(store).add("one", tasks(2500))
    assert examine(store).problems == ()
    with store.write() as session:
        session.execute(text("UPDATE task SET key = 'x' || id, num_votes = 1"))
    found = examine(store).problems
    assert [line.split(":")[0] for line in found] == [
        "the places of task 1 do not add up",
        "the places of task 2 do not add up",
        "the places of task 3 do not add up",
        *[f"task {n} is marked complete, or not, against its 1 votes of 1" for n in (1, 2)],
        "task 3 is marked complete, or not, against its 1 votes of 1, and 2497 more like it",
        "the key of task 1 is not the hash of its content",
        "the key of task 2 is not the hash of its content",
        "the key of task 3 is not the hash of its content, and 2497 more like it",
    ]


def test_two_live_votes_of_one_rater_are_seen_where_the_index_was_lost(store):
    used(store)
    with store.write() as session:
        session.execute(text("DROP INDEX vote_one_live"))
        session.execute(
            text(
                "INSERT INTO vote (assignment_id, campaign_id, task_id, rater_id, outcome, content,"
                " reason, shown_at, answered_at, key, guideline, surplus, live) SELECT "
                "assignment_id, campaign_id, task_id, rater_id, 'b', '{}', '', '', '', 'x', 0, "
                "false, true FROM vote WHERE id = 1"
            )
        )
    assert any("has 2 votes that count" in sentence for sentence in examine(store).problems)


def everything(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.read() as session:
        return {
            table.name: list(
                map(tuple, session.execute(table.select().order_by(*table.primary_key)))
            )
            for table in Base.metadata.sorted_tables
        }


def test_a_backup_holds_everything_and_fills_a_new_database(store, tmp_path, postgresql):
    used(store)
    rows = copy_to_file(store, tmp_path / "backup.db")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "backup"))] == [
        "backup.db"
    ]
    for where in (tmp_path / "again.db", postgresql.fresh()):
        with closing(Store(where)) as again:
            assert fill_from_file(again, tmp_path / "backup.db") == rows
            assert everything(again) == everything(store)
            assert examine(again).problems == ()
            rater = cheap_accounts(again).add("cy", PASSWORD, "rater").id  # numbers go on
            Campaigns(again).add("two", tasks(1))
            item = Campaigns(again).next("two", rater).item
            assert item is not None
            Campaigns(again).submit("two", rater, Answer(item.assignment, "left", "key-new"))
            with pytest.raises(DataError, match="holds something already"):
                fill_from_file(again, tmp_path / "backup.db")


def test_a_backup_overwrites_nothing_and_must_be_there(store, tmp_path):
    (tmp_path / "backup.db").write_text("precious")
    with pytest.raises(DataError, match="exists already"):
        copy_to_file(store, tmp_path / "backup.db")
    with pytest.raises(DataError, match="no such backup"):
        fill_from_file(store, tmp_path / "nothing.db")


def test_the_migrations_make_the_tables_of_today(store):
    with store.read() as session:
        context = MigrationContext.configure(session.connection())
        assert compare_metadata(context, Base.metadata) == []


def test_a_file_of_schema_1_is_taken_over_with_every_vote(tmp_path):
    path = tmp_path / "label.db"
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.executescript((HERE / "schema_1.sql").read_text())
    before = json.loads((HERE / "schema_1.json").read_text())
    with closing(Store(path)) as store:
        result = export(store, "one").to_json()
        assert {name: result[name] for name in before} == before
        assert examine(store).problems == ()
        bob = cheap_accounts(store).sign_in("bob", PASSWORD, "here")
        assert bob is not None
        item = Campaigns(store).next("one", bob.id).item  # still on the screen
        assert item is not None
        assert item.messages[0].content == "Where is parcel 2?"
        assert Campaigns(store).names() == [("one", "Be *fair*.")]
        assert Campaigns(store).add("one", tasks(4)).duplicates == 4
        with store.read() as session:
            assert "old_vote" not in session.connection().dialect.get_table_names(
                session.connection()
            )
