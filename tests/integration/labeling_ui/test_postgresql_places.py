from tests.unit.labeling_ui.test_label_places import *  # noqa: F403
