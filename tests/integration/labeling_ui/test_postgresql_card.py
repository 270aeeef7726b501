from tests.unit.labeling_ui.test_label_card import *  # noqa: F403
