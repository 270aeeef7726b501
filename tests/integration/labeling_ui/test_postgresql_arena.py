from tests.unit.labeling_ui.test_label_arena import *  # noqa: F403
