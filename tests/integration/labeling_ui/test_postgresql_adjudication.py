from tests.unit.labeling_ui.test_label_adjudication import *  # noqa: F403
