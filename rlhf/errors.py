"""Everything a user can get wrong, as one small tree of exceptions.

``rlhf.cli`` prints an :class:`RLHFError` as one line and exits 1. ``assert`` is for what only we
can break; every other exception propagates with its traceback.
"""


class RLHFError(Exception):
    """Something that the user can put right; the message names the place and the remedy."""


class ConfigError(RLHFError):
    """A configuration key or value is not acceptable."""


class DataError(RLHFError):
    """A file of records cannot be used as it is."""


class RunError(RLHFError):
    """A run folder is missing, unfinished, of the wrong kind, or cannot be written."""


class ModelError(RLHFError):
    """A base model, tokenizer or adapter is missing or does not fit."""
