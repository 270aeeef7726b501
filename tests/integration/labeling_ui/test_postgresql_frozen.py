from tests.unit.labeling_ui.test_label_frozen import *  # noqa: F403
