from tests.unit.labeling_ui.test_label_campaigns import *  # noqa: F403
