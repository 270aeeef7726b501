from tests.unit.labeling_ui.test_label_results import *  # noqa: F403
