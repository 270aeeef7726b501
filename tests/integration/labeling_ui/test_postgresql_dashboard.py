from tests.unit.labeling_ui.test_label_dashboard import *  # noqa: F403
