from tests.unit.labeling_ui.test_label_store import *  # noqa: F403
