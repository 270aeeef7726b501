from tests.unit.labeling_ui.test_label_kinds import *  # noqa: F403
