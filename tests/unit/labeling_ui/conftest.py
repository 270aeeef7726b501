from contextlib import closing

import pytest

from labeling_ui.db.store import Store


@pytest.fixture
def store(tmp_path):
    """A database; ``tests/integration/labeling_ui`` runs the same tests on PostgreSQL."""
    with closing(Store(tmp_path / "label.db")) as opened:
        yield opened


@pytest.fixture
def sqlite(tmp_path):
    with closing(Store(tmp_path / "label.db")) as opened:
        yield opened


def pytest_collection_modifyitems(config, items):
    """What needs a PostgreSQL server alone runs beside the twins."""
    here = [item for item in items if item.path.parent.match("tests/unit/labeling_ui")]
    there = [i for i in here if "postgresql" in i.fixturenames and "store" not in i.fixturenames]
    config.hook.pytest_deselected(items=there)
    items[:] = [item for item in items if item not in there]
