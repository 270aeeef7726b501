from tests.unit.labeling_ui.test_label_drafts import *  # noqa: F403
