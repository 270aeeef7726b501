"""The tests of ``tests/unit/labeling_ui`` that use a database, on PostgreSQL."""

from contextlib import closing

import pytest

from labeling_ui.db.store import Store


@pytest.fixture
def store(postgresql):
    address = postgresql.fresh()
    with closing(Store(address)) as opened:
        yield opened
    postgresql.drop(address)


@pytest.fixture
def sqlite(tmp_path):
    with closing(Store(tmp_path / "label.db")) as opened:
        yield opened


def _on_sqlite(item):
    """Whether a test asks for SQLite by name, as those of its query plans do."""
    return "callspec" in vars(item) and item.callspec.params.get("store") == "sqlite"


def pytest_collection_modifyitems(config, items):
    """The twins of what runs on SQLite alone are left out."""
    here = [item for item in items if item.path.parent.match("tests/integration/labeling_ui")]
    without = [item for item in here if "postgresql" not in item.fixturenames or _on_sqlite(item)]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if item not in without]
    for item in here:
        item.add_marker(pytest.mark.postgresql)
