"""Which of several processes this one is, as ``accelerate launch`` or torchrun told it."""

import os


def index() -> int:
    """Its number; the first is 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many of them train one model together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def index_here() -> int:
    """Its number on this machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Whether it is the one that writes and reports."""
    return index() == 0
