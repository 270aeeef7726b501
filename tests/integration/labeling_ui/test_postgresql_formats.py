from tests.unit.labeling_ui.test_label_formats import *  # noqa: F403
