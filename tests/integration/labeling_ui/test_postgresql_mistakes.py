from tests.unit.labeling_ui.test_label_mistakes import *  # noqa: F403
