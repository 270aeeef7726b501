"""RLHF on one 4-bit base: label, reward, align, compare."""

import os

# TRL's trainers and Gradio phone home unless told not to before they are imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

__version__ = "0.1.0"
