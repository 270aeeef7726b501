from tests.unit.labeling_ui.test_label_tokens import *  # noqa: F403
