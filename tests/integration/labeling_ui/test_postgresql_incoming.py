from tests.unit.labeling_ui.test_label_incoming import *  # noqa: F403
