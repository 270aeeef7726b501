from tests.unit.labeling_ui.test_label_accounts import *  # noqa: F403
