from contextlib import closing

import pytest

from labeling_ui.db.store import Store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def store(request, tmp_path):
    where = tmp_path / "label.db"
    if request.param == "postgresql":
        where = request.getfixturevalue("postgresql").fresh()
    with closing(Store(where)) as opened:
        yield opened


@pytest.fixture
def sqlite(tmp_path):
    with closing(Store(tmp_path / "label.db")) as opened:
        yield opened
