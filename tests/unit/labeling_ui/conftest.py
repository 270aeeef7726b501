from contextlib import closing

import pytest

from labeling_ui.store import Store


@pytest.fixture
def store(tmp_path):
    with closing(Store(tmp_path / "label.db")) as opened:
        yield opened
