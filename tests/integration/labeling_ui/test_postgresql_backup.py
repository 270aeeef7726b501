from tests.unit.labeling_ui.test_label_backup import *  # noqa: F403
