from tests.unit.labeling_ui.test_label_active import *  # noqa: F403
