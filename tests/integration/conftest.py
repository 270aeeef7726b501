"""The labelling app on a port of its own, once for each file that asks for it."""

import pytest

from tests.labeling import client, running


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running(tmp_path_factory.mktemp("label") / "label.db") as address:
        yield address


@pytest.fixture(scope="module")
def admin(url):
    with client(url, "admin") as session:
        yield session
